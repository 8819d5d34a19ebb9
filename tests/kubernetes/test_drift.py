"""What somebody changes by hand: an autoscaler's word is kept, anything else is reported and taken back."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from local_stack.demo.sabotage import shuffle_item_ids
from tests.kubernetes.installation import NAMESPACE, SEARCH_IMAGE, second_webhook
from tests.kubernetes.kube import until
from tests.kubernetes.node_scene import INDEX, Scene, unbroken

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def autoscaled(scene: Scene) -> Iterator[str]:
    """A webhook whose values leave the replicas to an autoscaler."""
    with second_webhook(scene.kube, "webhook-scaled", {"replicas": None}) as address:
        yield address


def test_replicas_that_an_autoscaler_chose_are_kept_by_the_next_deploy(scene: Scene, autoscaled: str) -> None:
    build = scene.copy("good", "scaled")
    first = scene.upload(build)
    assert scene.post(scene.request(build, first), autoscaled)["outcome"] == "accepted"
    assert scene.receipt("scaled", first).outcome == "served"
    scene.kube.kubectl("-n", NAMESPACE, "scale", "deployment", "scaled", "--replicas=2")
    until(lambda: scene.deployment("scaled")["status"].get("availableReplicas") == 2, "two pods")
    assert scene.status("scaled")["drift"] == []
    with scene.asking("scaled") as client:
        second = scene.upload(build)
        assert scene.post(scene.request(build, second), autoscaled)["outcome"] == "accepted"
        assert scene.receipt("scaled", second).outcome == "served"
        until(lambda: len(scene.pods("scaled")) == len(scene.pods("scaled", second)) == 2, "two new pods alone")
    unbroken(client.traffic)
    assert scene.deployment("scaled")["spec"]["replicas"] == 2
    scene.kube.kubectl("-n", NAMESPACE, "scale", "deployment", "scaled", "--replicas=0")  # room for others


def test_after_a_first_commit_that_failed_there_are_no_pods_and_a_good_one_gets_some(
    scene: Scene, autoscaled: str
) -> None:
    bad = scene.copy("shuffled", "unlucky", change=shuffle_item_ids)
    first = scene.upload(bad)
    assert scene.post(scene.request(bad, first), autoscaled)["outcome"] == "accepted"
    receipt = scene.receipt("unlucky", first)
    assert receipt.outcome == "undone"
    assert "nothing served before" in receipt.detail
    until(lambda: not scene.pods("unlucky"), "the failing pods to leave")
    second = scene.upload(scene.copy("good", "unlucky"))
    assert scene.post(scene.request(scene.copy("good", "unlucky"), second), autoscaled)["outcome"] == "accepted"
    assert scene.receipt("unlucky", second).outcome == "served"
    scene.answers("unlucky", second)


def test_an_image_and_a_volume_changed_by_hand_are_reported_and_taken_back(scene: Scene) -> None:
    scene.settled(scene.build)
    with scene.asking(INDEX) as client:
        container = {"name": "search-server", "image": "localhost/busybox:1"}
        added = {"volumes": [{"name": "mine", "emptyDir": {}}], "containers": [container]}
        patch = {"spec": {"template": {"spec": added}}}
        scene.kube.kubectl("-n", NAMESPACE, "patch", "deployment", INDEX, "--patch", json.dumps(patch))
        drift = "\n".join(scene.status(INDEX)["drift"])
        assert "localhost/busybox:1" in drift
        assert "volumes[mine]: added" in drift
        generation = scene.serve(scene.build)
        scene.answers(INDEX, generation)
        scene.alone(INDEX)
    unbroken(client.traffic)
    pod = scene.deployment(INDEX)["spec"]["template"]["spec"]
    assert pod["containers"][0]["image"] == SEARCH_IMAGE
    assert [volume["name"] for volume in pod["volumes"]] == ["data"]
    assert scene.status(INDEX)["drift"] == []
