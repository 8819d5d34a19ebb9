"""The course of a world: what will happen in it, and how it comes to rest."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial

from model_repository.bucket.events import SweepAsked
from model_repository.documents.receipts.receipt import Outcome
from model_repository.errors import DocumentMalformed, ObjectMissing
from model_repository.names import IndexPrefix, Target
from model_repository.repository import list_receipts, read_receipt
from tests.cd_webhook import fake_cluster as pods
from tests.simulation.outside import live_generation
from tests.simulation.replica import ENVIRONMENT
from tests.simulation.world import RETRIES, World


def begin(world: World, *, commits: int) -> None:
    """Put everything that will happen into the queue."""
    chance, people = world.chance, world.people
    for replica in world.replicas:
        world.after(1.0, lambda replica=replica: world.watcher_sweeps(replica))  # type: ignore[misc]
    for moment in range(1, int(world.ends), 900):
        world.after(moment, lambda: world.deliver(SweepAsked(), RETRIES))
    due: list[tuple[str, float]] = []
    for _ in range(commits):
        index, moment = chance.choice(world.indexes), chance.uniform(0, world.ends)
        due.append((index, moment))
        burst = chance.choice((1, 1, 1, 1, 5))
        for number in range(burst):
            act = chance.choice((people.batch, people.batch, people.batch, people.operator))
            world.after(moment + 20.0 * number, lambda act=act, index=index: act(index))  # type: ignore[misc]
    if world.faults.rate:
        for _ in range(max(1, commits // 10)):
            _some_day(world, people.deletes)
        for what in sorted(world.strange - {"shadows"}):
            for _ in range(max(2, commits // 6)):
                index, moment = chance.choice(due)  # mostly while a rollout of it goes on
                strange = partial(people.strange, what, index)
                world.after(moment + chance.uniform(0, 30), strange)
        for _ in range(3):
            who = chance.choice(("function", "webhook", "batch"))
            what = chance.choice(("bucket", "cluster", "webhook", "notifier"))
            world.after(chance.uniform(0, world.ends), lambda w=(who, what): _outage(world, w))  # type: ignore[misc]


def calm_down(world: World) -> None:
    """Faults stop, what is on its way is lost, rollouts end, and one sweep runs: what is then must be right."""
    world.faults.stop()
    world.forget()
    world.cluster.room = None
    world.people.scales_up_again()
    for replica in world.replicas:
        replica.start()
        world.after(1.0, lambda replica=replica: world.watcher_sweeps(replica))  # type: ignore[misc]
    world.after(1.0, world.controller)
    world.run_for(2000.0)
    if world.faults.met:
        _somebody_deletes_what_only_a_restoration_brings_back(world)
    world.note("one sweep, when all is calm")
    world.after(0.0, lambda: world.deliver(SweepAsked(), RETRIES))
    world.run_for(4000.0)


def _some_day(world: World, act: Callable[[str], None]) -> None:
    index = world.chance.choice(world.indexes)
    world.after(world.chance.uniform(0, world.ends), lambda: act(index))


def _outage(world: World, between: tuple[str, str]) -> None:
    seconds = world.chance.choice((60.0, 400.0, 3000.0))
    world.note(f"for {seconds:.0f} s every call of {between[0]} to {between[1]} is denied")
    world.faults.outages[between] = world.time + seconds
    world.deaf |= between[1] == "notifier" and seconds > 300


def _somebody_deletes_what_only_a_restoration_brings_back(world: World) -> None:
    """The Deployment of an index whose live commit can't be deployed: by chance that is seldom the end."""
    for index in world.indexes:
        target = Target(ENVIRONMENT, index)
        generation = live_generation(world.bucket, target.commit_name)
        live = world.cluster.deployment(index)
        if not generation or live is None:
            continue
        with suppress(ObjectMissing, DocumentMalformed):
            if read_receipt(world.bucket, target, generation).outcome in {Outcome.UNDONE, Outcome.REJECTED}:
                world.note(f"somebody: deployment of {index}, when all is calm")
                # no excuse for a receipt: all are written by now, so the index isn't among those that are disturbed
                world.scaled.pop(index, None)
                world.cluster.delete(live)
                _what_served_last_fails_now(world, target)
                return


def _what_served_last_fails_now(world: World, target: Target) -> None:
    """Of two builds that served and are whole, the newer one: no release of now reads it."""
    served: dict[IndexPrefix, int] = {}
    for generation in list_receipts(world.bucket, target):
        receipt = read_receipt(world.bucket, target, generation)
        prefix = receipt.index_prefix
        if receipt.outcome is Outcome.SERVED and prefix is not None and world.bucket.stat(prefix.manifest):
            served.setdefault(prefix, generation)
    if len(served) > 1:
        newest = str(next(iter(served.values())))
        world.note(f"what served last fails now: {newest}")
        world.cluster.fates[newest] = pods.ended(65, "no release of now reads it")
