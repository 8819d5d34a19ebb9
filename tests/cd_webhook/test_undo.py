"""A rollout that fails is undone to what served, and its commit is not tried again."""

from __future__ import annotations

from datetime import timedelta

import pytest

from cd_webhook.state import Rollout
from manifests import metadata as marks
from tests.cd_webhook import fake_cluster as pods
from tests.cd_webhook import webhook_scene as scenes
from tests.cd_webhook.webhook_scene import Scene, refuse, request, template_generation


def test_a_bad_build_is_undone_to_the_last_good_one_whose_pods_never_stopped(scene: Scene) -> None:
    scene.serve(1)
    good = scene.cluster.deployment("home-store")
    scene.cluster.fates["2"] = pods.ended(65, "golden query 3 answers otherwise", container="search-server")
    scene.deliver(request(2))
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
    assert scene.deliver(request(2)).detail.startswith("commit 2: undone: pod home-store-")
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
    scene.deliver(request(2))
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
    scene.deliver(request(2))
    for _ in range(3):
        assert not scene.delivery.advance("home-store").finished
        scene.clock.moment += timedelta(seconds=51)
    scene.look_until_finished()
    assert scene.receipt(2).code == "deadline-exceeded"
    assert "no node has the memory" in scene.receipt(2).detail
    assert (scene.receipt(2).finished - scene.receipt(2).started).total_seconds() == 153


def test_an_undo_that_the_cluster_refuses_is_tried_until_it_takes_it(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene.serve(1)
    scene.cluster.fates["2"] = pods.ended(65, "shuffled ids")
    scene.deliver(request(2))
    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(scene.cluster, "apply", refuse)
        for _ in range(3):
            assert not scene.delivery.advance("home-store").finished
    assert scene.outcomes() == {1: "served"}
    scene.look_until_finished()
    assert scene.outcomes() == {1: "served", 2: "undone"}
    assert template_generation(scene) == "1"


def test_what_serves_after_all_while_the_cluster_refuses_its_undo_served(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene.serve(1)
    scene.cluster.fates["2"] = pods.starting
    scene.deliver(request(2))
    monkeypatch.setattr(scene.cluster, "apply", refuse)
    for _ in range(6):
        scene.clock.moment += timedelta(seconds=50)
        assert not scene.delivery.advance("home-store").finished
    scene.cluster.fates["2"] = pods.ready
    scene.look_until_finished()
    assert scene.outcomes() == {1: "served", 2: "served"}
