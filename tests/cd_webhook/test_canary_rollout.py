"""Commits that go through a canary: on a cluster and with pods that behave."""

from __future__ import annotations

import contextlib
import dataclasses
from datetime import UTC, datetime, timedelta

import pytest

from cd_webhook.deliver import Delivery
from cd_webhook.state import Rollout
from manifests import metadata as marks
from model_repository.deployment import AnswerOutcome, DeploymentRequest
from model_repository.digests import sha256_digest
from model_repository.errors import TransientError
from model_repository.files import File
from model_repository.index_manifest import (
    IndexManifest,
    ModelReference,
    Partition,
    Recall,
    format_index_manifest,
)
from model_repository.names import IndexPrefix, ModelPrefix
from tests.cd_webhook import fake_cluster as pods
from tests.cd_webhook import webhook_scene as scenes
from tests.cd_webhook.fake_pods import QUERIES, Behaviour
from tests.cd_webhook.test_restart import Death, Killed, Mortal
from tests.cd_webhook.webhook_scene import Scene, request

CANARY = scenes.VALUES + "canary: {replicas: 1, seconds: 30}\n"
NAME = "home-store.canary"


class CanaryScene(Scene):
    """An environment whose values ask for a canary, with the builds b1 to b9 in the bucket."""

    def __init__(self) -> None:
        super().__init__()
        self.configure(scenes.values(CANARY))
        self.digests = {number: self._publish(IndexPrefix("home-store", f"b{number}")) for number in range(1, 10)}

    def _publish(self, prefix: IndexPrefix) -> str:
        names = ("all.annoy", "all.ids", "items.lookup")
        manifest = IndexManifest(
            prefix=prefix,
            created=datetime(2026, 11, 21, tzinfo=UTC),
            model=ModelReference(
                ModelPrefix("lite0", "v1"), "sha256:" + "2" * 64, 4, (File("model.json", 1, "AAAAAA=="),)
            ),
            dimensions=4,
            metric="angular",
            trees=10,
            recall=Recall(10, 1.0, 3),
            lookup="items.lookup",
            partitions=(Partition("all", "all.annoy", "all.ids", 9),),
            golden_queries=QUERIES,
            files=tuple(File(name, 1, "AAAAAA==") for name in names),
        )
        data = format_index_manifest(manifest)
        self.store.write(prefix.manifest, data, if_generation_match=0)
        return sha256_digest(data)

    def request(self, generation: int) -> DeploymentRequest:
        return dataclasses.replace(request(generation), index_digest=self.digests[generation])

    def deliver(self, generation: int, delivery: Delivery | None = None) -> AnswerOutcome:
        return (delivery or self.delivery).deliver(self.request(generation)).outcome

    def serve(self, generation: int) -> None:
        self.deliver(generation)
        self.finish()

    def finish(self, delivery: Delivery | None = None, looks: int = 600) -> str:
        """Look as the watcher does, half a second apart, until the rollout is finished."""
        for _ in range(looks):
            look = (delivery or self.delivery).advance("home-store")
            if look.finished:
                return look.sentence
            self.pass_seconds(0.5)
        raise AssertionError(f"still in progress: {look.sentence}")

    def look(self, times: int) -> None:
        for _ in range(times):
            assert not self.delivery.advance("home-store").finished
            self.pass_seconds(0.5)

    def pass_seconds(self, seconds: float) -> None:
        self.clock.moment += timedelta(seconds=seconds)

    @property
    def names(self) -> list[str]:
        return [found["metadata"]["name"] for found in self.cluster.deployments()]

    def stable_generation(self) -> str:
        live = self.cluster.deployment("home-store")
        assert live is not None
        return str(live["spec"]["template"]["metadata"]["annotations"][marks.COMMIT_GENERATION])


@pytest.fixture
def scene() -> CanaryScene:
    scene = CanaryScene()
    scene.serve(1)
    return scene


def test_the_first_commit_of_an_index_has_no_canary_because_there_is_nothing_to_compare_with(
    scene: CanaryScene,
) -> None:
    assert scene.receipt(1).outcome == "served"
    assert scene.receipt(1).canary is None
    assert scene.pods.asked == 0


def test_a_good_build_is_promoted_and_its_receipt_has_the_figures(scene: CanaryScene) -> None:
    scene.deliver(2)
    scene.look(20)
    assert scene.names == ["home-store", NAME]
    assert (scene.deployed().rollout, scene.stable_generation()) == (Rollout.CANARY, "1")
    scene.finish()
    assert scene.names == ["home-store"]
    assert scene.stable_generation() == "2"
    receipt = scene.receipt(2)
    assert receipt.outcome == "served"
    assert receipt.canary is not None
    assert receipt.canary.promoted
    assert 30 <= receipt.canary.seconds <= 31
    assert receipt.canary.canary.probes == receipt.canary.stable.probes > 200
    assert receipt.canary.canary.p95_ms == receipt.canary.stable.p95_ms == 4.0
    assert receipt.canary.canary.requests > 200
    assert scene.deployed().last_good == scene.request(2)


def test_while_the_canary_is_watched_the_stable_deployment_is_not_touched(scene: CanaryScene) -> None:
    before = scene.cluster.deployment("home-store")
    scene.deliver(2)
    scene.look(10)
    after = scene.cluster.deployment("home-store")
    assert before is not None
    assert after is not None
    assert (after["spec"], after["metadata"]["generation"]) == (before["spec"], before["metadata"]["generation"])


def test_a_redeploy_of_the_same_build_goes_through_a_canary_too(scene: CanaryScene) -> None:
    again = dataclasses.replace(scene.request(1), generation=2)
    scene.delivery.deliver(again)
    scene.finish()
    assert scene.receipt(2).canary is not None
    assert scene.stable_generation() == "2"


@pytest.mark.parametrize(
    ("behaviour", "code"),
    [
        (Behaviour(error_every=10), "canary-errors"),
        (Behaviour(callers=100, callers_failed=30), "canary-errors"),
        (Behaviour(seconds=0.05), "canary-slow"),
        (Behaviour(near=0.4), "canary-wrong-answers"),
    ],
)
def test_a_bad_build_is_aborted_with_reason_and_figures_and_the_stable_pods_never_noticed(
    scene: CanaryScene, behaviour: Behaviour, code: str
) -> None:
    before = scene.cluster.deployment("home-store")
    served = scene.cluster.pods("home-store")
    scene.pods.behaviours["2"] = behaviour
    scene.deliver(2)
    scene.finish()
    receipt = scene.receipt(2)
    assert (receipt.outcome, receipt.code) == ("undone", code)
    assert receipt.canary is not None
    assert not receipt.canary.promoted
    assert "indexes/home-store/b1 (commit 1) serves on" in receipt.detail
    after = scene.cluster.deployment("home-store")
    assert before is not None
    assert after is not None
    assert after["spec"] == before["spec"]
    assert scene.cluster.pods("home-store") == served
    assert scene.names == ["home-store"]
    assert scene.deliver(2) is AnswerOutcome.ALREADY_DEPLOYED
    assert scene.deliver(1) is AnswerOutcome.SUPERSEDED


def test_after_an_aborted_canary_the_next_good_build_goes_live(scene: CanaryScene) -> None:
    scene.pods.behaviours["2"] = Behaviour(error_every=2)
    scene.serve(2)
    scene.serve(3)
    assert scene.outcomes() == {3: "served", 2: "undone", 1: "served"}
    assert scene.deployed().last_good == scene.request(3)


def test_a_build_whose_canary_never_gets_ready_is_aborted_with_the_pods_own_words(scene: CanaryScene) -> None:
    scene.cluster.fates["2"] = pods.ended(65, "golden query 3 answers otherwise", container="search-server")
    scene.serve(2)
    receipt = scene.receipt(2)
    assert (receipt.outcome, receipt.code, receipt.canary) == ("undone", "pod-refused-data", None)
    assert "golden query 3 answers otherwise" in receipt.detail
    assert scene.names == ["home-store"]


def test_a_canary_without_a_node_is_given_up_at_its_deadline(scene: CanaryScene) -> None:
    scene.cluster.fates["2"] = pods.unschedulable("no node has the memory")
    scene.serve(2)
    assert scene.receipt(2).code == "deadline-exceeded"
    assert scene.stable_generation() == "1"


def test_a_canary_that_stops_being_ready_while_it_is_watched_is_aborted(scene: CanaryScene) -> None:
    scene.deliver(2)
    scene.look(20)
    scene.cluster.fates["2"] = pods.starting
    scene.finish()
    assert (scene.receipt(2).outcome, scene.receipt(2).code) == ("undone", "canary-errors")


def test_a_canary_that_restarts_while_it_is_watched_is_aborted(scene: CanaryScene) -> None:
    def restarted() -> dict[str, object]:
        status = pods.ready()
        status["containerStatuses"][0]["restartCount"] = 1
        return status

    scene.deliver(2)
    scene.look(20)
    scene.cluster.fates["2"] = restarted
    scene.finish()
    assert scene.receipt(2).code == "canary-restarted"


def test_a_newer_commit_takes_the_canarys_place(scene: CanaryScene) -> None:
    scene.deliver(2)
    scene.look(20)
    assert scene.deliver(3) is AnswerOutcome.ACCEPTED
    assert scene.receipt(2).outcome == "superseded"
    scene.look(20)
    canary = scene.cluster.deployment(NAME)
    assert canary is not None
    assert canary["metadata"]["annotations"][marks.COMMIT_GENERATION] == "3"
    scene.finish()
    assert scene.outcomes() == {3: "served", 2: "superseded", 1: "served"}
    figures = scene.receipt(3).canary
    assert figures is not None
    assert figures.seconds <= 31  # its own time, not the older one's
    assert scene.names == ["home-store"]


def test_a_commit_that_comes_while_a_promoted_one_rolls_out_is_compared_with_what_served_last(
    scene: CanaryScene,
) -> None:
    scene.deliver(2)
    scene.look(5)
    scene.cluster.alive = False
    while scene.deployed().rollout is Rollout.CANARY:
        scene.look(1)
    scene.cluster.fates["2"] = pods.starting
    scene.cluster.alive = True
    scene.deliver(3)
    assert scene.stable_generation() == "1"
    scene.finish()
    assert scene.outcomes() == {3: "served", 2: "superseded", 1: "served"}


def test_a_promoted_build_whose_rollout_fails_is_undone_and_its_receipt_has_the_figures(scene: CanaryScene) -> None:
    scene.deliver(2)
    while scene.deployed().rollout is not Rollout.IN_PROGRESS:
        scene.look(1)
    scene.cluster.fates["2"] = pods.ended(65, "bad")
    scene.finish()
    receipt = scene.receipt(2)
    assert (receipt.outcome, receipt.code) == ("undone", "pod-refused-data")
    assert receipt.canary is not None
    assert receipt.canary.promoted
    assert scene.stable_generation() == "1"


def test_values_that_no_longer_ask_for_a_canary_end_the_one_that_goes_on(scene: CanaryScene) -> None:
    scene.deliver(2)
    scene.look(10)
    scene.configure(scenes.values())
    scene.deliver(3)
    scene.finish()
    assert scene.outcomes() == {3: "served", 2: "superseded", 1: "served"}
    assert scene.receipt(3).canary is None
    assert scene.names == ["home-store"]


def test_when_no_pod_serves_the_mend_does_not_wait_for_a_canary(scene: CanaryScene) -> None:
    scene.cluster.fates["1"] = pods.ended(1, "crash", container="search-server")
    scene.cluster.tick()
    scene.serve(2)
    assert scene.receipt(2).outcome == "served"
    assert scene.receipt(2).canary is None


def test_a_canary_without_stable_pods_to_compare_with_is_given_up_in_time(scene: CanaryScene) -> None:
    scene.deliver(2)
    scene.look(5)
    scene.cluster.fates["1"] = pods.starting
    scene.finish()
    assert scene.receipt(2).code == "canary-undecided"


def test_a_build_that_is_gone_from_the_bucket_can_still_be_compared_with(scene: CanaryScene) -> None:
    scene.store.forget("indexes/home-store/b1/index.json")
    scene.serve(2)
    assert scene.receipt(2).outcome == "served"


def test_a_canary_whose_index_was_deleted_by_hand_is_removed(scene: CanaryScene) -> None:
    scene.deliver(2)
    scene.look(5)
    live = scene.cluster.deployment("home-store")
    assert live is not None
    scene.cluster.delete(live)
    assert scene.delivery.advance("home-store").finished
    assert scene.names == []


def test_a_canary_that_a_slow_webhook_left_behind_is_removed_by_the_next_look(scene: CanaryScene) -> None:
    scene.deliver(2)
    scene.look(5)
    orphan = scene.cluster.deployment(NAME)
    scene.finish()
    assert orphan is not None
    scene.cluster.create(orphan)
    scene.delivery.advance("home-store")
    assert scene.names == ["home-store"]


def test_a_webhook_that_is_killed_while_it_watches_is_followed_by_one_that_begins_anew(scene: CanaryScene) -> None:
    scene.deliver(2)
    scene.look(50)
    heir = scene.webhook()
    scene.finish(heir)
    receipt = scene.receipt(2)
    assert receipt.outcome == "served"
    assert receipt.canary is not None
    assert 30 <= receipt.canary.seconds <= 31
    assert (receipt.finished - receipt.started).total_seconds() > 50


@pytest.mark.timeout(300)
@pytest.mark.parametrize("behaviour", [Behaviour(), Behaviour(error_every=3)], ids=["good", "bad"])
def test_killed_at_any_step_of_a_canary_it_ends_with_one_receipt_and_no_canary(behaviour: Behaviour) -> None:
    expected = "undone" if behaviour.error_every else "served"
    for step in range(2000):
        scene = CanaryScene()
        scene.configure(scenes.values(scenes.VALUES + "canary: {seconds: 5}\n"))
        scene.serve(1)
        scene.pods.behaviours["2"] = behaviour
        death = Death(step)
        mortal = scene.webhook(Mortal(scene.cluster, death), Mortal(scene.store, death))
        lived = False
        with contextlib.suppress(Killed):
            scene.deliver(2, mortal)
            scene.finish(mortal)
            lived = True
        heir = scene.webhook()
        heir.advance("home-store")
        scene.deliver(2, heir)
        scene.finish(heir)
        assert scene.outcomes() == {2: expected, 1: "served"}, step
        assert scene.names == ["home-store"], step
        assert scene.stable_generation() == ("2" if expected == "served" else "1"), step
        if lived:
            assert step > 12
            return
    pytest.fail("it never got to the end")


def test_two_webhooks_that_watch_one_canary_end_it_once(scene: CanaryScene) -> None:
    scene.deliver(2)
    first, second = scene.webhook(), scene.webhook()
    for _ in range(80):
        for webhook in (first, second):
            with contextlib.suppress(TransientError):
                webhook.advance("home-store")
        scene.pass_seconds(0.5)
    assert scene.outcomes() == {2: "served", 1: "served"}
    assert scene.names == ["home-store"]
    assert [rollout for _, rollout in scene.cluster.history].count("in-progress") == 2  # of commit 1, and the promotion
