"""A canary that another commit, another webhook or a person gets in the way of."""

from __future__ import annotations

import contextlib

import pytest

from cd_webhook.state import Rollout
from manifests.metadata import COMMIT_GENERATION
from model_repository.deployment import AnswerOutcome
from model_repository.errors import TransientError
from tests.cd_webhook import fake_cluster as pods
from tests.cd_webhook import webhook_scene as scenes
from tests.cd_webhook.canary_scene import NAME, CanaryScene, serving
from tests.cd_webhook.fake_pods import Behaviour
from tests.cd_webhook.test_restart import Death, Killed, Mortal


@pytest.fixture
def scene() -> CanaryScene:
    return serving()


def test_a_newer_commit_takes_the_canarys_place(scene: CanaryScene) -> None:
    scene.commit(2)
    scene.look(20)
    assert scene.commit(3) is AnswerOutcome.ACCEPTED
    assert scene.receipt(2).outcome == "superseded"
    scene.look(20)
    canary = scene.cluster.deployment(NAME)
    assert canary is not None
    assert canary["metadata"]["annotations"][COMMIT_GENERATION] == "3"
    scene.finish()
    assert scene.outcomes() == {3: "served", 2: "superseded", 1: "served"}
    figures = scene.receipt(3).canary
    assert figures is not None
    assert figures.seconds <= 31  # its own time, not the older one's
    assert scene.names == ["home-store"]


def test_a_commit_that_comes_while_a_promoted_one_rolls_out_is_compared_with_what_served_last(
    scene: CanaryScene,
) -> None:
    scene.commit(2)
    scene.look(5)
    scene.cluster.alive = False
    while scene.deployed().rollout is Rollout.CANARY:
        scene.look(1)
    scene.cluster.fates["2"] = pods.starting
    scene.cluster.alive = True
    scene.commit(3)
    assert scene.stable_generation() == "1"
    scene.finish()
    assert scene.outcomes() == {3: "served", 2: "superseded", 1: "served"}


def test_values_that_no_longer_ask_for_a_canary_end_the_one_that_goes_on(scene: CanaryScene) -> None:
    scene.commit(2)
    scene.look(10)
    scene.configure(scenes.values())
    scene.commit(3)
    scene.finish()
    assert scene.outcomes() == {3: "served", 2: "superseded", 1: "served"}
    assert scene.receipt(3).canary is None
    assert scene.names == ["home-store"]


def test_a_canary_whose_index_was_deleted_by_hand_is_removed(scene: CanaryScene) -> None:
    scene.commit(2)
    scene.look(5)
    live = scene.cluster.deployment("home-store")
    assert live is not None
    scene.cluster.delete(live)
    assert scene.delivery.advance("home-store").finished
    assert scene.names == []


def test_a_canary_that_a_slow_webhook_left_behind_is_removed_by_the_next_look(scene: CanaryScene) -> None:
    scene.commit(2)
    scene.look(5)
    orphan = scene.cluster.deployment(NAME)
    scene.finish()
    assert orphan is not None
    scene.cluster.create(orphan)
    scene.delivery.advance("home-store")
    assert scene.names == ["home-store"]


def test_a_webhook_that_is_killed_while_it_watches_is_followed_by_one_that_begins_anew(scene: CanaryScene) -> None:
    scene.commit(2)
    scene.look(50)
    heir = scene.webhook()
    scene.finish(heir)
    receipt = scene.receipt(2)
    assert receipt.outcome == "served"
    assert receipt.canary is not None
    assert 30 <= receipt.canary.seconds <= 31
    assert (receipt.finished - receipt.started).total_seconds() > 50


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
            scene.commit(2, mortal)
            scene.finish(mortal)
            lived = True
        heir = scene.webhook()
        heir.advance("home-store")
        scene.commit(2, heir)
        scene.finish(heir)
        assert scene.outcomes() == {2: expected, 1: "served"}, step
        assert scene.names == ["home-store"], step
        assert scene.stable_generation() == ("2" if expected == "served" else "1"), step
        if lived:
            assert step > 12
            return
    pytest.fail("it never got to the end")


def test_two_webhooks_that_watch_one_canary_end_it_once(scene: CanaryScene) -> None:
    scene.commit(2)
    first, second = scene.webhook(), scene.webhook()
    for _ in range(80):
        for webhook in (first, second):
            with contextlib.suppress(TransientError):
                webhook.advance("home-store")
        scene.pass_seconds(0.5)
    assert scene.outcomes() == {2: "served", 1: "served"}
    assert scene.names == ["home-store"]
    wrote = [rollout for generation, rollout in scene.cluster.history if generation == 2]
    assert wrote.count("in-progress") == 2  # the promotion, and what the cluster made of it
