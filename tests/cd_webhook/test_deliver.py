"""Deliveries, whatever their order, and what becomes of them."""

from __future__ import annotations

import dataclasses

import pytest

from cd_webhook.state import Rollout
from manifests import metadata as marks
from model_repository.deployment import AnswerOutcome
from model_repository.errors import DocumentMalformed
from tests.cd_webhook import fake_cluster as pods
from tests.cd_webhook import webhook_scene as scenes
from tests.cd_webhook.webhook_scene import Scene, request


@pytest.fixture
def scene() -> Scene:
    return Scene()


def template_generation(scene: Scene) -> str:
    live = scene.cluster.deployment("home-store")
    assert live is not None
    return str(live["spec"]["template"]["metadata"]["annotations"][marks.COMMIT_GENERATION])


def test_a_commit_goes_live_and_gets_one_receipt(scene: Scene) -> None:
    answer = scene.delivery.deliver(request(1))
    assert (answer.outcome, answer.detail) == (
        AnswerOutcome.ACCEPTED, "rolling out indexes/home-store/b1 as commit 1",
    )  # fmt: skip
    scene.look_until_finished()
    receipt = scene.receipt(1)
    assert (receipt.outcome, receipt.by, receipt.reason) == ("served", "ann", "because")
    assert scene.deployed().rollout is Rollout.SERVED
    assert scene.deployed().owed == ()
    assert "home-store" in scene.cluster.services


def test_a_duplicate_delivery_changes_nothing(scene: Scene) -> None:
    scene.serve(1)
    written = len(scene.cluster.history)
    answer = scene.delivery.deliver(request(1))
    assert (answer.outcome, answer.detail) == (
        AnswerOutcome.ALREADY_DEPLOYED, "commit 1: served: indexes/home-store/b1 serves",
    )  # fmt: skip
    assert len(scene.cluster.history) == written


def test_a_late_delivery_is_superseded_and_says_by_what(scene: Scene) -> None:
    scene.serve(2)
    assert scene.delivery.deliver(request(1)).outcome is AnswerOutcome.SUPERSEDED
    assert template_generation(scene) == "2"
    assert scene.receipt(1).detail == "commit 2 of test/home-store is newer and was taken up instead"


def test_a_late_duplicate_of_what_served_once_keeps_its_first_receipt(scene: Scene) -> None:
    scene.serve(1)
    scene.serve(2)
    scene.delivery.deliver(request(1))
    assert scene.outcomes() == {2: "served", 1: "served"}


def test_a_newer_commit_replaces_a_rollout_in_progress_at_once(scene: Scene) -> None:
    scene.cluster.fates["1"] = pods.starting
    scene.delivery.deliver(request(1))
    scene.delivery.deliver(request(2))
    assert scene.outcomes() == {1: "superseded"}
    scene.look_until_finished()
    assert scene.outcomes() == {2: "served", 1: "superseded"}


def test_the_same_build_committed_again_rolls_out_again(scene: Scene) -> None:
    scene.serve(1)
    scene.delivery.deliver(request(2, build="b1"))
    scene.look_until_finished()
    assert template_generation(scene) == "2"


def test_a_bad_build_is_undone_to_the_last_good_one_whose_pods_never_stopped(scene: Scene) -> None:
    scene.serve(1)
    good = scene.cluster.deployment("home-store")
    scene.cluster.fates["2"] = pods.ended(65, "golden query 3 answers otherwise", container="search-server")
    scene.delivery.deliver(request(2))
    scene.look_until_finished()
    live = scene.cluster.deployment("home-store")
    assert good is not None
    assert live is not None
    assert live["spec"] == good["spec"]
    assert live["metadata"]["annotations"][marks.COMMIT_GENERATION] == "2"
    assert scene.deployed().rollout is Rollout.UNDONE
    receipt = scene.receipt(2)
    assert (receipt.outcome, receipt.code) == ("undone", "pod-refused-data")
    assert "golden query 3 answers otherwise" in receipt.detail
    assert "indexes/home-store/b1 (commit 1) serves on" in receipt.detail
    assert scene.cluster.most_old_pods_stopped == 0


def test_an_undone_commit_is_not_tried_again_and_the_next_good_one_goes_live(scene: Scene) -> None:
    scene.serve(1)
    scene.cluster.fates["2"] = pods.ended(65)
    scene.serve(2)
    assert scene.delivery.deliver(request(2)).detail.startswith("commit 2: undone: pod home-store-")
    scene.serve(3)
    assert scene.outcomes() == {3: "served", 2: "undone", 1: "served"}
    assert scene.deployed().last_good == request(3)


def test_two_bad_builds_in_a_row_are_both_undone_to_the_good_one(scene: Scene) -> None:
    scene.serve(1)
    scene.cluster.fates |= {"2": pods.ended(65), "3": pods.ended(65)}
    scene.serve(2)
    scene.serve(3)
    assert template_generation(scene) == "1"
    assert scene.outcomes() == {3: "undone", 2: "undone", 1: "served"}


def test_a_bad_build_in_progress_that_a_worse_one_replaces_still_ends_at_the_good_one(scene: Scene) -> None:
    scene.serve(1)
    scene.cluster.fates |= {"2": pods.starting, "3": pods.ended(65)}
    scene.delivery.deliver(request(2))
    scene.serve(3)
    assert template_generation(scene) == "1"
    assert scene.outcomes() == {3: "undone", 2: "superseded", 1: "served"}


def test_an_undo_also_takes_back_the_image_that_the_values_brought(scene: Scene) -> None:
    scene.serve(1)
    scene.configure(scenes.values(scenes.VALUES.replace("indexpush:1", "indexpush:missing")))
    scene.cluster.fates["2"] = pods.waiting("InvalidImageName")
    scene.serve(2)
    live = scene.cluster.deployment("home-store")
    assert live is not None
    assert live["spec"]["template"]["spec"]["containers"][0]["image"] == "indexpush:1"


def test_when_the_first_commit_ever_fails_its_pods_are_stopped(scene: Scene) -> None:
    scene.cluster.fates["1"] = pods.ended(65, "bad")
    scene.serve(1)
    live = scene.cluster.deployment("home-store")
    assert live is not None
    assert live["spec"]["replicas"] == 0
    assert scene.receipt(1).detail.endswith("nothing served before, so no pod runs now; commit a good build")
    scene.serve(2)
    assert scene.outcomes() == {2: "served", 1: "undone"}


def test_a_rollout_that_passes_its_deadline_is_undone(scene: Scene) -> None:
    scene.serve(1)
    scene.cluster.fates["2"] = pods.unschedulable("no node has the memory")
    scene.delivery.deliver(request(2))
    assert not scene.delivery.advance("home-store").finished
    scene.clock.moment += scene.clock.moment.resolution * 1_000_000 * 151
    scene.look_until_finished()
    assert scene.receipt(2).code == "deadline-exceeded"
    assert "no node has the memory" in scene.receipt(2).detail
    assert (scene.receipt(2).finished - scene.receipt(2).started).total_seconds() == 151


def test_replicas_that_an_autoscaler_owns_are_kept(scene: Scene) -> None:
    scene.configure(scenes.values(scenes.VALUES.replace("replicas: 1", "replicas: null")))
    scene.serve(1)
    scene.cluster.by_hand("home-store", lambda live: live["spec"].update(replicas=3))
    scene.serve(2)
    live = scene.cluster.deployment("home-store")
    assert live is not None
    assert live["spec"]["replicas"] == 3


def test_what_was_changed_by_hand_is_taken_back_at_the_next_deploy(scene: Scene) -> None:
    scene.serve(1)
    pod = "spec", "template", "spec"
    scene.cluster.by_hand("home-store", lambda live: live[pod[0]][pod[1]][pod[2]]["containers"][0].update(image="mine"))
    scene.serve(2)
    live = scene.cluster.deployment("home-store")
    assert live is not None
    assert live["spec"]["template"]["spec"]["containers"][0]["image"] == "indexpush:1"


def test_annotations_that_somebody_removed_are_mended_by_the_next_deploy(scene: Scene) -> None:
    scene.serve(1)
    scene.cluster.by_hand("home-store", lambda live: live["metadata"].update(annotations={}))
    scene.serve(2)
    assert scene.outcomes() == {2: "served", 1: "served"}


def test_a_deployment_of_somebody_else_is_left_alone(scene: Scene) -> None:
    scene.serve(1)
    scene.cluster.by_hand("home-store", lambda live: live["metadata"].update(labels={}))
    with pytest.raises(DocumentMalformed, match="isn't managed by indexpush; rename the index"):
        scene.delivery.deliver(request(2))
    assert scene.receipt(2).outcome == "rejected"


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"bucket": "other"}, "this webhook's Model Repository is 'memory'"),
        ({"target": dataclasses.replace(scenes.TARGET, environment="production")}, "this webhook deploys 'test'"),
    ],
)
def test_a_request_for_another_webhook_is_refused(scene: Scene, change: dict[str, object], complaint: str) -> None:
    with pytest.raises(DocumentMalformed, match=complaint):
        scene.delivery.deliver(dataclasses.replace(request(1), **change))  # type: ignore[arg-type]
    assert scene.cluster.deployments() == []


def test_a_request_that_cannot_be_rendered_is_rejected_with_a_receipt(scene: Scene) -> None:
    scene.configure(dataclasses.replace(scene.values, environment="other"))
    with pytest.raises(DocumentMalformed):
        scene.delivery.deliver(request(1))
    assert scene.outcomes() == {1: "rejected"}
    assert scene.receipt(1).code == "document-malformed"
    assert scene.cluster.deployments() == []
