"""Two webhooks, racing deliveries: the newest generation wins, always."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable

import pytest

from cd_webhook.cluster import Conflict
from cd_webhook.deliver import Delivery
from cd_webhook.state import Rollout
from model_repository.errors import TransientError
from tests.cd_webhook import fake_cluster as pods
from tests.cd_webhook.webhook_scene import Scene, request

RACES = 200
NEWEST = 6


def all_together(*acts: Callable[[], None]) -> None:
    gate = threading.Barrier(len(acts))
    errors: list[BaseException] = []

    def run(act: Callable[[], None]) -> None:
        gate.wait()
        try:
            act()
        except BaseException as error:  # noqa: BLE001 - told to the test's own thread
            errors.append(error)

    threads = [threading.Thread(target=run, args=(act,)) for act in acts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()  # the test's own limit is the bound
    assert not errors, errors


def deliver_all(webhook: Delivery, generations: list[int], looks: list[int]) -> Callable[[], None]:
    """Deliver each, and look so often after it: a slow sender lets rollouts get further."""

    def act() -> None:
        for generation, times in zip(generations, looks, strict=True):
            while True:
                try:
                    webhook.deliver(request(generation))
                    break
                except TransientError:
                    continue
            look_often(webhook, times)()

    return act


def look_often(webhook: Delivery, times: int) -> Callable[[], None]:
    def act() -> None:
        for _ in range(times):
            try:
                webhook.advance("home-store")
            except Conflict:
                continue

    return act


def race(seed: int) -> Scene:
    """Six commits, some of them bad, each delivered to both webhooks in an order of its own, while both watch."""
    chance = random.Random(seed)
    scene = Scene()
    for generation in range(1, NEWEST):
        fate = chance.choice([pods.ready, pods.starting, pods.ended(65, "bad")])
        scene.cluster.fates[str(generation)] = fate
    first, second = scene.webhook(), scene.webhook()
    orders = [chance.sample(range(1, NEWEST + 1), NEWEST) for _ in range(2)]
    looks = [chance.choices([0, 2], k=NEWEST) for _ in range(2)]
    all_together(
        deliver_all(first, orders[0], looks[0]),
        deliver_all(second, orders[1], looks[1]),
        look_often(first, 8),
        look_often(second, 8),
    )
    for webhook in (second, first):
        scene.look_until_finished(webhook)
    return scene


@pytest.mark.timeout(300)
def test_in_every_one_of_200_races_the_newest_commit_serves_and_only_newer_ones_ever_replaced_older() -> None:
    outcomes: dict[str, int] = {}
    for seed in range(RACES):
        scene = race(seed)
        live = scene.cluster.deployment("home-store")
        assert live is not None
        assert scene.deployed().generation == NEWEST, seed
        assert scene.deployed().rollout is Rollout.SERVED, seed
        generations = [generation for generation, _ in scene.cluster.history]
        assert generations == sorted(generations), seed
        receipts = scene.outcomes()
        assert sorted(receipts) == list(range(1, NEWEST + 1)), (seed, receipts)
        assert receipts[NEWEST] == "served", seed
        for outcome in receipts.values():
            outcomes[outcome] = outcomes.get(outcome, 0) + 1
    assert set(outcomes) == {"served", "superseded", "undone"}  # the races did meet every end


def test_two_webhooks_that_see_the_same_failure_undo_it_once() -> None:
    scene = Scene()
    scene.serve(1)
    scene.cluster.fates["2"] = pods.ended(65, "bad")
    scene.delivery.deliver(request(2))
    webhooks = [scene.webhook() for _ in range(4)]
    all_together(*(look_often(webhook, 5) for webhook in webhooks))
    assert scene.outcomes() == {2: "undone", 1: "served"}
    assert [rollout for _, rollout in scene.cluster.history].count(
        "undone"
    ) == 2  # the undo, and that its receipt is written
