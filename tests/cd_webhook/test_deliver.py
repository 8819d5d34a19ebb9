"""Deliveries, whatever their order, and what becomes of them."""

from __future__ import annotations

import dataclasses
import itertools
from datetime import timedelta
from typing import Any

import pytest

from cd_webhook.cluster import ClusterRefused, ClusterUnavailable, Object
from cd_webhook.cluster.api import error_of
from cd_webhook.delivery.deliver import Rejected, ValuesFault
from cd_webhook.state import Rollout, seal
from cd_webhook.state.annotations import LAST_GOOD, LAST_GOOD_MANIFEST, MANIFEST, ROLLOUT
from manifests.metadata import STATE
from model_repository.bucket.store import ObjectInfo
from model_repository.deployment import AnswerOutcome
from model_repository.errors import DocumentMalformed
from model_repository.names import IndexPrefix
from model_repository.notify import NotifyUnavailable
from tests import builds
from tests.cd_webhook import fake_cluster as pods
from tests.cd_webhook import webhook_scene as scenes
from tests.cd_webhook.webhook_scene import Scene, refuse, request, template_generation


def test_a_commit_goes_live_and_gets_one_receipt(scene: Scene) -> None:
    answer = scene.deliver(request(1))
    assert (answer.outcome, answer.detail) == (
        AnswerOutcome.ACCEPTED, "rolling out indexes/home-store/b1 as commit 1",
    )  # fmt: skip
    scene.look_until_finished()
    receipt = scene.receipt(1)
    assert (receipt.outcome, receipt.by, receipt.reason) == ("served", "ann", "because")
    assert scene.deployed().rollout is Rollout.SERVED
    assert scene.deployed().owed == ()
    assert scene.cluster.services() == ["home-store"]


def test_a_duplicate_delivery_changes_nothing(scene: Scene) -> None:
    scene.serve(1)
    written = len(scene.cluster.history)
    answer = scene.deliver(request(1))
    assert (answer.outcome, answer.detail) == (
        AnswerOutcome.ALREADY_DEPLOYED, "commit 1: served: indexes/home-store/b1 serves",
    )  # fmt: skip
    assert len(scene.cluster.history) == written


def test_a_late_delivery_is_superseded_and_says_by_what(scene: Scene) -> None:
    scene.serve(2)
    assert scene.delivery.deliver(request(1)).outcome is AnswerOutcome.SUPERSEDED
    assert template_generation(scene) == "2"
    assert scene.receipt(1).detail == "commit 2 of test/home-store is the live one now and is taken up instead"


def test_a_stalled_delivery_does_not_call_superseded_what_another_webhook_took_up_meanwhile(scene: Scene) -> None:
    scene.serve(1)
    scene.store.commit(scenes.TARGET, 2)

    class Stalls(scenes.SharedStore):
        """Before it reads the live commit, another webhook takes this one up, and a newer one comes."""

        def stat(self, name: str) -> ObjectInfo | None:
            if name == scenes.TARGET.commit_name and scene.deployed().generation == 1:
                scene.delivery.deliver(request(2))
                scene.store.commit(scenes.TARGET, 3)
            return scene.store.stat(name)

    store = Stalls()
    store._store = scene.store._store
    assert scene.webhook(store=store).deliver(request(2)).outcome is AnswerOutcome.ALREADY_DEPLOYED
    scene.look_until_finished()
    assert scene.outcomes() == {1: "served", 2: "served"}


def test_what_is_superseded_has_its_receipt_whoever_writes_to_the_deployment_meanwhile(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene.serve(1)
    scene.store.commit(scenes.TARGET, 3)
    mark = scene.cluster.mark

    def others_write(name: str, metadata: dict[str, dict[str, str]], *, resource_version: str) -> Object:
        if 2 in scene.outcomes():
            scene.cluster.by_hand(name, lambda live: live["metadata"]["labels"].update(theirs="x"))
        return mark(name, metadata, resource_version=resource_version)

    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(scene.cluster, "mark", others_write)
        assert scene.delivery.deliver(request(2)).outcome is AnswerOutcome.SUPERSEDED
    assert scene.outcomes() == {1: "served", 2: "superseded"}
    scene.look_until_finished()
    assert scene.deployed().owed == ()


def test_what_was_superseded_is_not_taken_up_by_whoever_read_the_live_commit_before(scene: Scene) -> None:
    scene.serve(1)
    scene.store.commit(scenes.TARGET, 2)

    class Stalls(scenes.SharedStore):
        """After reading the live commit, a newer one comes, and another webhook says what became of this one."""

        def stat(self, name: str) -> ObjectInfo | None:
            found = scene.store.stat(name)
            if name == scenes.TARGET.commit_name and 2 not in scene.outcomes():
                scene.store.commit(scenes.TARGET, 3)
                assert scene.delivery.deliver(request(2)).outcome is AnswerOutcome.SUPERSEDED
            return found

    store = Stalls()
    store._store = scene.store._store
    scene.webhook(store=store).deliver(request(2))
    scene.look_until_finished()
    assert scene.outcomes() == {1: "served", 2: "superseded"}
    assert template_generation(scene) == "1"


def test_a_late_duplicate_of_what_served_once_keeps_its_first_receipt(scene: Scene) -> None:
    scene.serve(1)
    scene.serve(2)
    scene.delivery.deliver(request(1))
    assert scene.outcomes() == {2: "served", 1: "served"}


def test_a_newer_commit_replaces_a_rollout_in_progress_at_once(scene: Scene) -> None:
    scene.cluster.fates["1"] = pods.starting
    scene.deliver(request(1))
    scene.deliver(request(2))
    assert scene.outcomes() == {1: "superseded"}
    scene.look_until_finished()
    assert scene.outcomes() == {2: "served", 1: "superseded"}


def test_the_same_build_committed_again_rolls_out_again(scene: Scene) -> None:
    scene.serve(1)
    scene.deliver(request(2, build="b1"))
    scene.look_until_finished()
    assert template_generation(scene) == "2"


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
    with pytest.raises(Rejected, match="isn't managed by indexpush; rename the index"):
        scene.deliver(request(2))
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
        scene.deliver(dataclasses.replace(request(1), **change))  # type: ignore[arg-type]
    assert scene.cluster.deployments() == []


def test_values_that_make_no_deployment_are_no_verdict_on_the_commit(scene: Scene) -> None:
    good = scene.values
    scene.configure(dataclasses.replace(good, environment="other"))
    with pytest.raises(ValuesFault, match="the environment's values make no Deployment of indexes/home-store/b1"):
        scene.deliver(request(1))
    assert (scene.outcomes(), scene.cluster.deployments()) == ({}, [])
    scene.configure(good)
    scene.serve(1)


@pytest.mark.parametrize("method", ["create", "apply"])
def test_what_the_cluster_refuses_is_no_verdict_on_the_commit(
    scene: Scene, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if method == "apply":
        scene.serve(1)
    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(scene.cluster, method, refuse)
        with pytest.raises(ClusterRefused):
            scene.deliver(request(2))
    assert 2 not in scene.outcomes()
    scene.serve(2)
    assert scene.outcomes()[2] == "served"


def test_what_is_rejected_is_told_before_its_receipt_stands_and_once(scene: Scene) -> None:
    """Whoever asked may die before it hears the answer, and asks no more where a receipt stands."""
    scene.serve(1)
    scene.cluster.by_hand("home-store", lambda live: live["metadata"].update(labels={}))
    scene.notifier.failure = NotifyUnavailable("not now")
    with pytest.raises(NotifyUnavailable):
        scene.deliver(request(2))
    assert scene.outcomes() == {1: "served"}
    scene.notifier.failure = None
    for _ in range(2):
        with pytest.raises(Rejected):
            scene.delivery.deliver(request(2))
    (notice,) = scene.notifier.notices
    assert (notice.event, notice.generation, notice.detail) == ("rejected", 2, scene.receipt(2).detail)


def test_a_namespace_that_is_gone_is_no_verdict(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(_: object) -> None:
        raise error_of(404, "POST /x", b'{"kind": "Status", "message": "namespaces \\"n\\" not found"}')

    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(scene.cluster, "create", gone)
        with pytest.raises(ClusterUnavailable, match='namespaces "n" not found'):
            scene.deliver(request(1))
    assert scene.outcomes() == {}
    scene.serve(1)
    assert scene.outcomes() == {1: "served"}


def starting(scene: Scene, *generations: int) -> None:
    scene.cluster.fates |= {str(generation): pods.starting for generation in generations}


def test_commits_that_come_faster_than_rollouts_end_leave_one_to_finish_and_then_the_newest_is_taken(
    scene: Scene,
) -> None:
    scene.serve(1)
    starting(scene, 2, 3)
    scene.deliver(request(2))
    scene.deliver(request(3))  # a mend doesn't wait for what it mends
    for generation in (4, 5, 6):
        answer = scene.deliver(request(generation))
        assert (answer.outcome, answer.detail) == (
            AnswerOutcome.ACCEPTED, f"indexes/home-store/b{generation} is taken up when commit 3 has ended",
        )  # fmt: skip
    assert template_generation(scene) == "3"
    assert scene.delivery.deliver(request(6)).outcome is AnswerOutcome.ALREADY_DEPLOYED
    scene.cluster.fates["3"] = pods.ready
    scene.look_until_finished()
    assert template_generation(scene) == "6"
    assert scene.outcomes() == {
        1: "served", 2: "superseded", 3: "served", 4: "superseded", 5: "superseded", 6: "served",
    }  # fmt: skip


def test_what_waits_is_taken_up_after_a_rollout_that_was_undone_too(scene: Scene) -> None:
    scene.serve(1)
    starting(scene, 2, 3)
    for generation in (2, 3, 4):
        scene.deliver(request(generation))
    scene.cluster.fates["3"] = pods.ended(65)
    scene.look_until_finished()
    assert scene.outcomes() == {1: "served", 2: "superseded", 3: "undone", 4: "served"}


def test_what_waits_and_is_no_longer_live_when_its_turn_comes_is_superseded(scene: Scene) -> None:
    scene.serve(1)
    starting(scene, 2, 3)
    for generation in (2, 3, 4):
        scene.deliver(request(generation))
    scene.store.commit(scenes.TARGET, 5)  # its event is late
    scene.cluster.fates["3"] = pods.ready
    scene.look_until_finished()
    assert scene.outcomes() == {1: "served", 2: "superseded", 3: "served", 4: "superseded"}
    assert scene.deployed().waiting is None
    scene.serve(5)
    assert template_generation(scene) == "5"


def test_a_commit_whose_generation_is_smaller_is_deployed_when_it_is_the_live_one(scene: Scene) -> None:
    scene.serve(2**63 - 1)  # forged, or from before the bucket was restored
    scene.serve(7)
    assert template_generation(scene) == "7"


def test_a_stalled_request_does_not_make_a_deployment_again_that_was_deleted(scene: Scene) -> None:
    scene.serve(1)
    scene.serve(2)
    live = scene.cluster.deployment("home-store")
    assert live is not None
    scene.cluster.delete(live)
    assert scene.delivery.deliver(request(1)).outcome is AnswerOutcome.SUPERSEDED
    assert scene.cluster.deployment("home-store") is None


def test_what_served_last_is_restored_while_the_live_commit_cannot_be_deployed(scene: Scene) -> None:
    scene.serve(1)
    live = scene.cluster.deployment("home-store")
    assert live is not None
    scene.cluster.delete(live)
    scene.store.commit(scenes.TARGET, 2)
    restoring = dataclasses.replace(request(1), restores=2)
    assert scene.delivery.deliver(restoring).outcome is AnswerOutcome.ACCEPTED
    scene.look_until_finished()
    assert template_generation(scene) == "1"
    assert scene.delivery.deliver(restoring).outcome is AnswerOutcome.ALREADY_DEPLOYED
    scene.serve(3)
    assert template_generation(scene) == "3"


def test_what_served_once_and_fails_when_it_is_deployed_again_gives_way_to_what_served_before_it(scene: Scene) -> None:
    model = builds.publish_model(scene.store)
    for generation in (1, 2, 3):
        builds.publish_build(scene.store, IndexPrefix("home-store", f"b{generation}"), model)
        scene.serve(generation)
    for generation in (2, 3, 4):
        scene.cluster.fates[str(generation)] = pods.ended(65, "no release of now reads it")
    live = scene.cluster.deployment("home-store")
    assert live is not None
    scene.cluster.delete(live)
    scene.serve(4)
    assert template_generation(scene) == "1"
    assert scene.deployed().rollout is Rollout.SERVED
    assert scene.outcomes() == {1: "served", 2: "served", 3: "served", 4: "undone"}
    assert scene.receipt(4).detail.endswith("no pod of it runs now, and indexes/home-store/b3 (commit 3) is taken up")
    assert [notice.generation for notice in scene.notifier.notices] == [4]  # the others' receipts say that they served


def test_where_nothing_that_served_can_serve_again_each_is_tried_once(scene: Scene) -> None:
    model = builds.publish_model(scene.store)
    for generation in (1, 2):
        builds.publish_build(scene.store, IndexPrefix("home-store", f"b{generation}"), model)
        scene.serve(generation)
        scene.cluster.fates[str(generation)] = pods.ended(65, "no release of now reads it")
    live = scene.cluster.deployment("home-store")
    assert live is not None
    scene.cluster.delete(live)
    scene.delivery.deliver(request(2))
    scene.look_until_finished()
    assert scene.deployed().rollout is Rollout.UNDONE
    assert scene.deployed().generation == 1
    assert "nothing served before" in scene.deployed().detail


def test_a_commit_that_was_deleted_is_superseded_by_nothing(scene: Scene) -> None:
    assert scene.delivery.deliver(request(1)).outcome is AnswerOutcome.SUPERSEDED
    assert scene.receipt(1).detail == "the commit of test/home-store was deleted before this one was taken up"
    assert scene.cluster.deployments() == []


def test_state_that_a_newer_release_wrote_does_not_keep_the_commit_from_being_deployed(scene: Scene) -> None:
    scene.serve(1)
    scene.deliver(request(2))

    def newer(live: Object) -> None:
        live["metadata"]["annotations"][ROLLOUT] = "warming"
        live["metadata"]["labels"][STATE] = seal(live["metadata"]["annotations"])

    scene.cluster.by_hand("home-store", newer)
    assert scene.deployed().rollout is Rollout.UNKNOWN
    scene.deliver(request(2))
    scene.look_until_finished()
    assert scene.outcomes() == {1: "served", 2: "served"}


def test_what_waits_for_a_rollout_that_can_not_end_takes_its_place_when_that_is_late(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene.serve(1)
    starting(scene, 2, 3)
    for generation in (2, 3, 4):
        scene.deliver(request(generation))
    apply = scene.cluster.apply

    def refuse_the_undo(value: Object, *, resource_version: str | None) -> Object:
        if value["kind"] == "Deployment" and "b1" in value["metadata"]["annotations"][MANIFEST]:
            refuse()
        return apply(value, resource_version=resource_version)

    monkeypatch.setattr(scene.cluster, "apply", refuse_the_undo)
    for _ in range(60):
        scene.clock.moment += timedelta(seconds=60)
        scene.delivery.advance("home-store")
    assert scene.outcomes() == {1: "served", 2: "superseded", 3: "superseded", 4: "served"}


def test_a_first_commit_that_serves_with_some_of_its_pods_goes_on_until_all_do() -> None:
    scene = Scene()
    scene.configure(scenes.values(scenes.VALUES.replace("replicas: 1", "replicas: 2")))
    fates = itertools.cycle((pods.ready, pods.starting))

    def one_of_two() -> dict[str, Any]:
        return next(fates)()

    scene.cluster.fates["1"] = one_of_two
    scene.deliver(request(1))
    for _ in range(30):
        scene.clock.moment += timedelta(seconds=60)
        step = scene.delivery.advance("home-store")
    assert (step.finished, scene.outcomes()) == (False, {})
    assert step.sentence.endswith("nothing says what served before, so its pods that are ready serve on")
    scene.cluster.fates["1"] = pods.ready
    scene.look_until_finished()
    assert scene.outcomes() == {1: "served"}


@pytest.mark.parametrize("gone", [(LAST_GOOD_MANIFEST,), (LAST_GOOD, LAST_GOOD_MANIFEST)], ids=["manifest", "both"])
def test_a_serving_deployment_is_not_stopped_because_nobody_knows_what_it_served_with(
    scene: Scene, gone: tuple[str, ...]
) -> None:
    scene.serve(1)
    scene.cluster.fates["2"] = pods.ended(65, "bad")
    scene.deliver(request(2))

    def forget(live: Object) -> None:
        annotations = live["metadata"]["annotations"]
        for name in gone:
            del annotations[name]
        live["metadata"]["labels"][STATE] = seal(annotations)

    scene.cluster.by_hand("home-store", forget)
    scene.look_until_finished()
    live = scene.cluster.deployment("home-store")
    assert live is not None
    assert live["spec"]["replicas"] == 1
    assert live["status"]["readyReplicas"] == 1
    assert (scene.receipt(2).outcome, scene.receipt(2).code) == ("undone", "pod-refused-data")
    assert "; what serves stays as it is, for nothing says what served before" in scene.receipt(2).detail
