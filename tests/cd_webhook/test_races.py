"""Two webhooks, racing deliveries: the live commit wins, always."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from datetime import timedelta

from cd_webhook.cluster import Conflict
from cd_webhook.delivery.deliver import Delivery
from cd_webhook.state import Rollout
from model_repository.errors import TransientError
from tests.cd_webhook import fake_cluster as pods
from tests.cd_webhook.webhook_scene import TARGET, Scene, request

RACES = 200
COMMITS = 6


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


def deliver(webhook: Delivery, generation: int, looks: int) -> None:
    """Deliver it, and look so often after it: a slow sender lets rollouts get further."""
    while True:
        try:
            webhook.deliver(request(generation))
            break
        except TransientError:
            continue
    look_often(webhook, looks)()


def upload_all(scene: Scene, webhook: Delivery, commits: list[int], uploaded: list[int]) -> Callable[[], None]:
    """Upload the commits in this order, and have each delivered once after it was."""

    def act() -> None:
        for generation in commits:
            scene.store.commit(TARGET, generation)
            uploaded.append(generation)
            deliver(webhook, generation, 1)

    return act


def deliver_again(webhook: Delivery, uploaded: list[int], draws: list[tuple[float, int]]) -> Callable[[], None]:
    """Deliver, late or twice, some of what is uploaded by then."""

    def act() -> None:
        for which, looks in draws:
            deliver(webhook, uploaded[int(which * len(uploaded))], looks)

    return act


def look_often(webhook: Delivery, times: int) -> Callable[[], None]:
    def act() -> None:
        for _ in range(times):
            try:
                webhook.advance("home-store")
            except Conflict:
                continue

    return act


def race(seed: int) -> tuple[Scene, list[int]]:
    """Six commits, some of them bad, whose generations don't grow; each is delivered by both webhooks, in any order.

    Gives the generations in the order of their uploads.
    """
    chance = random.Random(seed)
    scene = Scene()
    uploads = chance.sample(range(1, 100), COMMITS)
    for generation in uploads[:-1]:
        scene.cluster.fates[str(generation)] = chance.choice([pods.ready, pods.starting, pods.ended(65, "bad")])
    first, second = scene.webhook(), scene.webhook()
    scene.store.commit(TARGET, uploads[0])
    uploaded = uploads[:1]
    draws = [[(chance.random(), chance.choice([0, 2])) for _ in range(COMMITS)] for _ in range(2)]
    all_together(
        upload_all(scene, first, uploads, uploaded),
        deliver_again(first, uploaded, draws[0]),
        deliver_again(second, uploaded, draws[1]),
        look_often(first, 8),
        look_often(second, 8),
    )
    for webhook in (second, first):
        scene.look_until_finished(webhook, pause=timedelta(minutes=1))  # what never gets ready is left to its deadline
    return scene, uploads


def test_in_every_one_of_200_races_the_live_commit_serves_and_only_later_uploads_ever_replaced_earlier_ones() -> None:
    outcomes: dict[str, int] = {}
    for seed in range(RACES):
        scene, uploads = race(seed)
        live = scene.cluster.deployment("home-store")
        assert live is not None
        assert scene.deployed().generation == uploads[-1], seed
        assert scene.deployed().rollout is Rollout.SERVED, seed
        order = [uploads.index(generation) for generation, _ in scene.cluster.history]
        assert order == sorted(order), seed
        receipts = scene.outcomes()
        assert sorted(receipts) == sorted(uploads), (seed, receipts)
        assert receipts[uploads[-1]] == "served", seed
        for outcome in receipts.values():
            outcomes[outcome] = outcomes.get(outcome, 0) + 1
    assert set(outcomes) == {"served", "superseded", "undone"}  # the races did meet every end


def test_two_webhooks_that_see_the_same_failure_undo_it_once() -> None:
    scene = Scene()
    scene.serve(1)
    scene.cluster.fates["2"] = pods.ended(65, "bad")
    scene.deliver(request(2))
    webhooks = [scene.webhook() for _ in range(4)]
    all_together(*(look_often(webhook, 5) for webhook in webhooks))
    assert scene.outcomes() == {2: "undone", 1: "served"}
    undone = [rollout for _, rollout in scene.cluster.history].count("undone")
    assert undone == 3  # the undo, what the cluster made of it, and that its receipt is written
