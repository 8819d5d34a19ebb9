"""Commits that a canary shows to be no worse: they roll out; and when there is no canary."""

from __future__ import annotations

import dataclasses

import pytest

from cd_webhook.cluster import ClusterRefused, Object
from cd_webhook.state import Rollout
from model_repository.repository import keep_last_good_filter, write_filter
from tests.cd_webhook import fake_cluster as pods
from tests.cd_webhook import webhook_scene as scenes
from tests.cd_webhook.canary_scene import NAME, CanaryScene, serving
from tests.cd_webhook.webhook_scene import TARGET


@pytest.fixture
def scene() -> CanaryScene:
    return serving()


def test_the_first_commit_of_an_index_has_no_canary_because_there_is_nothing_to_compare_with(
    scene: CanaryScene,
) -> None:
    assert scene.receipt(1).outcome == "served"
    assert scene.receipt(1).canary is None
    assert scene.pods.asked == 0


def test_a_good_build_is_promoted_and_its_receipt_has_the_figures(scene: CanaryScene) -> None:
    scene.commit(2)
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


def test_a_promotion_that_the_cluster_refuses_for_long_counts_against_no_canary(
    scene: CanaryScene, monkeypatch: pytest.MonkeyPatch
) -> None:
    apply = scene.cluster.apply

    def refuse_deployments(value: Object, *, resource_version: str | None) -> Object:
        if value["kind"] == "Deployment":
            raise ClusterRefused("422: a policy says no")
        return apply(value, resource_version=resource_version)

    scene.commit(2)
    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(scene.cluster, "apply", refuse_deployments)
        for _ in range(1000):
            assert not scene.delivery.advance("home-store").finished
            scene.pass_seconds(0.5)
    scene.finish()
    assert scene.receipt(2).outcome == "served"


def test_what_a_filter_hides_is_no_wrong_answer_of_a_canary(scene: CanaryScene) -> None:
    scene.commit(2)
    scene.look(10)
    write_filter(scene.store, TARGET, ["near", "sold-out"])
    scene.pods.hidden = {"near"}
    scene.finish()
    assert scene.receipt(2).outcome == "served"
    receipt = scene.receipt(2)
    assert receipt.canary is not None
    assert receipt.canary.canary.p95_ms == receipt.canary.stable.p95_ms == 4.0


def test_nor_is_what_pods_hide_that_have_not_heard_of_the_newest_filter(scene: CanaryScene) -> None:
    keep_last_good_filter(scene.store, write_filter(scene.store, TARGET, ["near"]), replacing=0)
    scene.store.write(TARGET.filter_name, b"nonsense", if_generation_match=None)
    scene.pods.hidden = {"near"}
    scene.serve(2)
    assert scene.receipt(2).outcome == "served"


@pytest.mark.parametrize("hidden", [[], ["far"]])
def test_what_no_filter_hides_is_missed(scene: CanaryScene, hidden: list[str]) -> None:
    write_filter(scene.store, TARGET, hidden)
    scene.pods.hidden = {"near"}
    scene.serve(2)
    assert (scene.receipt(2).outcome, scene.receipt(2).code) == ("undone", "canary-wrong-answers")


def test_while_the_canary_is_watched_the_stable_deployment_is_not_touched(scene: CanaryScene) -> None:
    before = scene.cluster.deployment("home-store")
    scene.commit(2)
    scene.look(10)
    after = scene.cluster.deployment("home-store")
    assert before is not None
    assert after is not None
    assert (after["spec"], after["metadata"]["generation"]) == (before["spec"], before["metadata"]["generation"])


def test_a_redeploy_of_the_same_build_goes_through_a_canary_too(scene: CanaryScene) -> None:
    again = dataclasses.replace(scene.request(1), generation=2)
    scene.deliver(again)
    scene.finish()
    assert scene.receipt(2).canary is not None
    assert scene.stable_generation() == "2"


def test_when_no_pod_serves_the_mend_does_not_wait_for_a_canary(scene: CanaryScene) -> None:
    scene.cluster.fates["1"] = pods.ended(1, "crash", container="search-server")
    scene.cluster.tick()
    scene.serve(2)
    assert scene.receipt(2).outcome == "served"
    assert scene.receipt(2).canary is None


def test_a_build_that_is_gone_from_the_bucket_can_still_be_compared_with(scene: CanaryScene) -> None:
    scene.store.forget("indexes/home-store/b1/index.json")
    scene.serve(2)
    assert scene.receipt(2).outcome == "served"


@pytest.mark.parametrize("reason", ["Terminated", "Evicted"])
def test_a_pod_of_a_canary_that_its_node_ended_and_that_stays_counts_as_no_failure(
    scene: CanaryScene, monkeypatch: pytest.MonkeyPatch, reason: str
) -> None:
    scene.commit(2)
    scene.look(20)
    (pod,) = scene.cluster.pods(NAME)
    scene.cluster._pods[NAME] = []  # its ReplicaSet makes another one
    ended = {**pod, "status": {"phase": "Failed", "reason": reason, "message": "by its node"}}
    listed = scene.cluster.pods
    monkeypatch.setattr(scene.cluster, "pods", lambda name: listed(name) + ([ended] if name == NAME else []))
    scene.finish()
    assert scene.receipt(2).outcome == "served"


def test_a_canary_whose_node_is_drained_is_judged_by_the_pod_that_comes_in_its_place(scene: CanaryScene) -> None:
    scene.commit(2)
    scene.look(10)
    scene.cluster._pods[NAME].clear()
    scene.cluster.fates["2"] = pods.starting
    scene.look(20)
    scene.cluster.fates["2"] = pods.ready
    scene.finish()
    assert scene.outcomes() == {1: "served", 2: "served"}


def test_a_canary_that_was_ready_has_no_deadline_to_get_ready_any_more(scene: CanaryScene) -> None:
    scene.configure(scenes.values(scenes.VALUES + "canary: {seconds: 300}\n"))
    scene.commit(2)
    for _ in range(5):
        scene.look(1)
        scene.pass_seconds(50)
    scene.cluster._pods[NAME].clear()  # its node is drained
    scene.cluster.fates["2"] = pods.starting
    scene.look(20)
    scene.cluster.fates["2"] = pods.ready
    scene.finish()
    assert scene.outcomes() == {1: "served", 2: "served"}
