"""Commits that a canary shows to be worse: they are given up, and the pods that serve never notice."""

from __future__ import annotations

import pytest

from cd_webhook.cluster import ClusterRefused
from cd_webhook.state import Rollout
from model_repository.deployment import AnswerOutcome
from tests.cd_webhook import fake_cluster as pods
from tests.cd_webhook.canary_scene import CanaryScene, serving
from tests.cd_webhook.fake_pods import Behaviour


@pytest.fixture
def scene() -> CanaryScene:
    return serving()


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
    scene.commit(2)
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
    assert scene.commit(2) is AnswerOutcome.ALREADY_DEPLOYED
    assert scene.delivery.deliver(scene.request(1)).outcome is AnswerOutcome.SUPERSEDED


def test_after_an_aborted_canary_the_next_good_build_goes_live(scene: CanaryScene) -> None:
    scene.pods.behaviours["2"] = Behaviour(error_every=2)
    scene.serve(2)
    scene.serve(3)
    assert scene.outcomes() == {3: "served", 2: "undone", 1: "served"}
    assert scene.deployed().last_good == scene.request(3)


def test_a_build_that_is_deleted_while_its_canary_runs_is_aborted_by_whoever_looks_next(scene: CanaryScene) -> None:
    scene.commit(2)
    scene.look(10)
    scene.store.forget("indexes/home-store/b2/index.json")
    said = scene.finish(scene.webhook())  # a fresh process: it reads what to ask anew
    assert "indexes/home-store/b2/index.json: no such object" in said
    assert (scene.receipt(2).outcome, scene.receipt(2).code) == ("undone", "object-missing")
    assert scene.names == ["home-store"]
    assert scene.stable_generation() == "1"


def refuse(_: object) -> None:
    raise ClusterRefused("admission webhook says no")


def test_a_canary_that_the_cluster_refuses_waits_until_somebody_mends_that(
    scene: CanaryScene, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene.commit(2)
    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(scene.cluster, "create", refuse)
        scene.look(10)
        assert scene.delivery.advance("home-store").sentence == "admission webhook says no"
    scene.finish()
    assert scene.outcomes() == {1: "served", 2: "served"}


def test_a_canary_that_the_cluster_refuses_for_all_of_its_time_is_given_up(
    scene: CanaryScene, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene.commit(2)
    monkeypatch.setattr(scene.cluster, "create", refuse)
    scene.finish()
    assert (scene.receipt(2).outcome, scene.receipt(2).code) == ("undone", "canary-undecided")
    assert scene.stable_generation() == "1"


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
    scene.commit(2)
    scene.look(20)
    scene.cluster.fates["2"] = pods.starting
    scene.finish()
    assert (scene.receipt(2).outcome, scene.receipt(2).code) == ("undone", "canary-errors")


def test_a_canary_that_restarts_while_it_is_watched_is_aborted(scene: CanaryScene) -> None:
    def restarted() -> dict[str, object]:
        status = pods.ready()
        status["containerStatuses"][0]["restartCount"] = 1
        return status

    scene.commit(2)
    scene.look(20)
    scene.cluster.fates["2"] = restarted
    scene.finish()
    assert scene.receipt(2).code == "canary-restarted"


def test_what_restarts_beside_the_server_is_not_held_against_a_canary(scene: CanaryScene) -> None:
    def restarted() -> dict[str, object]:
        status = pods.ready()
        status["containerStatuses"].append({"name": "agent", "ready": True, "restartCount": 7})
        return status

    scene.commit(2)
    scene.look(20)
    scene.cluster.fates["2"] = restarted
    scene.finish()
    assert scene.receipt(2).outcome == "served"


def test_a_promoted_build_whose_rollout_fails_is_undone_and_its_receipt_has_the_figures(scene: CanaryScene) -> None:
    scene.commit(2)
    while scene.deployed().rollout is not Rollout.IN_PROGRESS:
        scene.look(1)
    scene.cluster.fates["2"] = pods.ended(65, "bad")
    scene.finish()
    receipt = scene.receipt(2)
    assert (receipt.outcome, receipt.code) == ("undone", "pod-refused-data")
    assert receipt.canary is not None
    assert receipt.canary.promoted
    assert scene.stable_generation() == "1"


def test_a_canary_without_stable_pods_to_compare_with_is_given_up_in_time(scene: CanaryScene) -> None:
    scene.commit(2)
    scene.look(5)
    scene.cluster.fates["1"] = pods.starting
    scene.finish()
    assert scene.receipt(2).code == "canary-undecided"
