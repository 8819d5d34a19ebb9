"""A bucket that is pruned while people commit, builds are uploaded and rollouts go on: ``python -m`` this, many seeds.

All in one thread, from a seed: at each request of prune's something else may happen first. The time is the world's own.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import cache, lru_cache, partial
from typing import Any, Final
from unittest.mock import patch

from model_repository import repository
from model_repository.bucket.store import ObjectInfo, StoredObject
from model_repository.documents.commit import Commit
from model_repository.documents.items.item_filter import LiveFilter, format_item_filter, make_filter
from model_repository.documents.receipts.receipt import Outcome
from model_repository.documents.receipts.shadow_comparison import ShadowComparison
from model_repository.errors import GenerationConflict, ObjectMissing
from model_repository.names import IndexPrefix, ModelPrefix, Target, parse_generation
from model_repository.repository import (
    keep_last_good_filter,
    read_last_good_filter,
    read_live_filter,
    read_shadow_comparison,
    write_commit,
    write_filter,
    write_receipt,
    write_shadow_comparison,
)
from operator_cli.commands import prune as command
from operator_cli.commands.prune import prune
from operator_cli.pruning import Commits
from tests import builds
from tests.memory_store import MemoryStore

INDEX: Final = "shop"
PRODUCTION, STAGING = Target("production", INDEX), Target("staging", INDEX)
TARGETS: Final = (STAGING, PRODUCTION, PRODUCTION.shadow)
OLD: Final = 8
"""Builds that stand there from the first, for three days."""
HIDDEN: Final = 4
"""Items, of which each was hidden in either environment, three days ago."""
BEGINS: Final = datetime(2026, 11, 27, tzinfo=builds.NOW.tzinfo)
PRUNES: Final = 2
_MEANWHILE: Final = 0.1
"""How likely something happens before a request is answered."""
_CALM: Final = 0.7
"""How likely all rollouts have ended when prune begins: else it has little to do."""


@dataclass(frozen=True, slots=True)
class Result:
    """lost: what was deleted though it may be wanted; empty: nothing. deleted: how many, by all prunes of the world.

    events: what others did.
    """

    seed: int
    lost: str
    deleted: int
    events: int


@dataclass(frozen=True, slots=True)
class Seen:
    """What was committed, and was rolling out, when prune looked for the last time before it deletes."""

    live: dict[Target, IndexPrefix]
    rolling: dict[Target, tuple[IndexPrefix, ...]]


class World(MemoryStore):
    """The bucket, and what serves and rolls out on the clusters that are fed from it."""

    def __init__(self, seed: int) -> None:
        """Begin with some old builds, of which nothing is committed."""
        super().__init__(INDEX, seed)
        self._objects.update(_template())
        self._given.update(info.generation for info, _ in self._objects.values())
        self.dice = random.Random(seed)
        self.keep = self.dice.randrange(1, 3)
        self.moment = BEGINS
        self.built = OLD
        self.serving: dict[Target, IndexPrefix] = {}
        self.served: dict[Target, list[IndexPrefix]] = {target: [] for target in TARGETS}
        self.rolling: dict[Target, list[tuple[int, IndexPrefix]]] = {target: [] for target in TARGETS}
        self.owed: list[tuple[Target, int, Outcome, IndexPrefix]] = []
        self.withdrawn: set[int] = set()
        self.live: dict[Target, Commit] = {}
        self.seen = Seen({}, {})
        self.pruning = False
        self.busy = False
        self.events = 0
        self.lost = ""

    def now(self) -> datetime:
        """The time goes on with every look at it: what is written later is later."""
        self.moment += timedelta(milliseconds=1)
        return self.moment

    def is_whole(self, prefix: IndexPrefix) -> bool:
        """As the function sees it."""
        return prefix.manifest in self._objects

    # what happens

    def happen(self) -> None:
        """Let somebody do something, or a rollout go on."""
        self.events += 1
        happens = (self._commit, self._roll, self._settle, self._upload, self._hide)
        self.dice.choices(happens, (6, 5, 3, 1, 2))[0]()

    def _hide(self) -> None:
        """Something else is hidden, or what was hidden before; or all pods have what is."""
        target = self.dice.choice((STAGING, PRODUCTION))
        if self.dice.random() < 0.6:
            write_filter(self, target, [f"item-{self.dice.randrange(HIDDEN)}"])
        elif target.filter_name in self._objects:
            noted = self.stat(target.last_good_filter_name)
            replacing = noted.generation if noted else 0
            keep_last_good_filter(self, read_live_filter(self, target), replacing=replacing)

    def _commit(self) -> None:
        target = self.dice.choice(TARGETS)
        standing = self.live.get(target)
        if target == PRODUCTION.shadow and standing is not None and self.dice.random() < 0.2:
            self.delete_commit(target)
            return
        if standing is not None and standing.hold and self.dice.random() < 0.7:
            return  # the batch leaves it
        prefix = IndexPrefix(INDEX, f"b{self.dice.randrange(self.built + 1)}")  # the newest isn't there yet
        commit = Commit(prefix, hold=self.dice.random() < 0.2)
        generation = write_commit(self, target, commit, if_generation_match=None).generation
        self.live[target] = commit
        if self.is_whole(prefix):
            self.rolling[target].append((generation, prefix))
        else:
            self._receipt(target, generation, Outcome.REJECTED, prefix)

    def delete_commit(self, target: Target) -> None:
        """End a shadow: nobody wants any more what serves there, served, or was about to."""
        super().delete(target.commit_name)
        del self.live[target]
        self.serving.pop(target, None)
        self.withdrawn.update(generation for its, generation, *_ in self.owed if its == target)
        self.rolling[target].clear()
        self.served[target].clear()

    def _roll(self, target: Target | None = None) -> None:
        """The oldest rollout of a target ends; its receipt is written, or owed."""
        target = target or self.dice.choice(TARGETS)
        if not self.rolling[target]:
            return
        generation, prefix = self.rolling[target].pop(0)
        outcome = self.dice.choice((Outcome.SERVED, Outcome.UNDONE, Outcome.SUPERSEDED))
        if outcome is Outcome.SUPERSEDED and not self.rolling[target]:
            outcome = Outcome.SERVED
        if outcome is Outcome.SERVED and not self.is_whole(prefix):
            outcome = Outcome.UNDONE  # its pods can't pull
        if outcome is Outcome.SERVED:
            self.serving[target] = prefix
        self.owed.append((target, generation, outcome, prefix))
        if self.dice.random() < 0.6:
            self._settle()

    def come_to_rest(self) -> None:
        """Let every rollout end, and its receipt be written."""
        for target in TARGETS:
            while self.rolling[target]:
                self._roll(target)
        self._settle()

    def _settle(self) -> None:
        """The webhook writes the receipts that it owes, in their order."""
        for one in self.owed:
            self._receipt(*one)
        self.owed.clear()

    def _receipt(self, target: Target, generation: int, outcome: Outcome, prefix: IndexPrefix) -> None:
        write_receipt(self, builds.receipt(generation, target=target, outcome=outcome, index_prefix=prefix))
        if outcome is Outcome.SERVED and generation not in self.withdrawn:  # told late of a shadow that is ended
            self.served[target].append(prefix)

    def _upload(self) -> None:
        """The batch uploads some of a build, or its index.json."""
        prefix = IndexPrefix(INDEX, f"b{self.built}")
        if f"{prefix}/0.ids" in self._objects:
            builds.publish_build(self, prefix, _model())
            self.built += 1
        else:
            self.write(f"{prefix}/0.ids", b"0", if_generation_match=None)

    # what prune asks

    def _meanwhile(self, happens: Callable[[], None]) -> None:
        if self.pruning and not self.busy and self.dice.random() < _MEANWHILE:
            self.busy = True
            happens()
            self.busy = False

    def read(self, name: str, *, limit: int) -> StoredObject:
        """See `store.Store.read`."""
        self._meanwhile(self.happen)
        return super().read(name, limit=limit)

    def listing(self, prefix: str) -> list[ObjectInfo]:
        """See `store.Store.listing`."""
        self._meanwhile(self.happen)
        if prefix == repository.COMMITS:
            rolling = {target: tuple(prefix for _, prefix in its) for target, its in self.rolling.items()}
            self.seen = Seen({target: commit.index_prefix for target, commit in self.live.items()}, rolling)
        return super().listing(prefix)

    def delete(self, name: str, *, if_generation_match: int | None = None) -> None:
        """See `store.Store.delete`; notes a build that goes though somebody may want it."""
        self._meanwhile(self._commit)
        if name.startswith("indexes/") and (why := self._wanted(IndexPrefix.parse(name.rpartition("/")[0]))):
            self.lost = self.lost or f"{name} is gone, and {why}"
        if name.startswith("comparisons/"):
            generation = parse_generation(name.rpartition("/")[2].removesuffix(".json"))
            compared = read_shadow_comparison(self, PRODUCTION.shadow, generation).shadow
            if self.is_whole(compared):
                self.lost = self.lost or f"{name} is gone, and {compared} is there"
        if name.endswith(".hidden"):
            self._meanwhile(self._hide)
        super().delete(name, if_generation_match=if_generation_match)
        if name.endswith(".hidden") and self._names(name):
            self.lost = self.lost or f"{name} is gone, and a filter names it"
        self._meanwhile(self.happen)

    def _names(self, hidden: str) -> bool:
        """Whether a filter names the list."""
        digest = f"sha256:{hidden.rpartition('/')[2].removesuffix('.hidden')}".encode()
        target = Target(*hidden.split("/")[1:3])
        filters = (target.filter_name, target.last_good_filter_name)
        return any(digest in self._objects[name][1] for name in filters if name in self._objects)

    def _wanted(self, prefix: IndexPrefix) -> str:
        for target in TARGETS:
            if self.serving.get(target) == prefix:
                return f"{target} serves it"
            if self.seen.live.get(target) == prefix:
                return f"the live commit of {target} names it"
            if prefix in self.seen.rolling.get(target, ()):
                return f"{target} rolls it out, or tries it as a canary"
            last = list(dict.fromkeys(reversed(self.served[target])))[: self.keep]
            if prefix in last:
                return f"it is one of the last {self.keep} that served {target}"
        newest = max((info.updated for info, _ in self._of(prefix)), default=BEGINS - timedelta(days=2))
        return "it is young" if newest > BEGINS - timedelta(days=1) else ""

    def _of(self, prefix: IndexPrefix) -> Iterator[tuple[ObjectInfo, bytes]]:
        return (found for name, found in self._objects.items() if name.startswith(f"{prefix}/"))


@cache
def _model() -> Any:
    return builds.publish_model(MemoryStore(INDEX, 0), ModelPrefix("lite", "v1"))


@cache
def _template() -> dict[str, tuple[ObjectInfo, bytes]]:
    """What stands in each bucket from the first: made once, as it takes longer than a whole run."""
    store = MemoryStore(INDEX, 0)
    store.written = BEGINS - timedelta(days=3)
    model = builds.publish_model(store, ModelPrefix("lite", "v1"))
    for number in range(OLD):
        prefix = IndexPrefix(INDEX, f"b{number}")
        builds.publish_build(store, prefix, model)
        compared = ShadowComparison(PRODUCTION.shadow, number + 1, prefix, prefix, store.written, (), 0.0)
        write_shadow_comparison(store, compared)
    for target in (STAGING, PRODUCTION):
        for number in range(HIDDEN):
            write_filter(store, target, [f"item-{number}"])
    return {info.name: (info, store.read(info.name, limit=2**20).data) for info in store.listing("")}


_parse_index, _parse_receipt, _parse_commit = (
    lru_cache(4096)(parse)
    for parse in (repository.parse_index_manifest, repository.parse_receipt, repository.parse_commit)
)
"""The same few documents, over and over: most of the time went there."""


@contextmanager
def parsing_once() -> Iterator[None]:
    """Parse each document once."""
    with (
        patch.object(repository, "parse_index_manifest", _parse_index),
        patch.object(repository, "parse_receipt", _parse_receipt),
        patch.object(repository, "parse_commit", _parse_commit),
    ):
        yield


def run(seed: int) -> Result:
    """One world: some things happen, then it is pruned twice while more do."""
    world = World(seed)
    deleted = 0
    with parsing_once():
        for _ in range(world.dice.randrange(16)):
            world.happen()
        if world.dice.random() < _CALM:
            world.come_to_rest()
        world.pruning = True
        for _ in range(PRUNES):
            found = prune(world, world, keep=world.keep, apply=True, said=lambda _: None)
            deleted += len(found.builds)
    return Result(seed, world.lost, deleted, world.events)


# Faults that it must find


Fault = Callable[[], Any]
"""Makes a context in which the fault is there."""


def _commits_are(changed: Callable[[Commits], Commits | None]) -> Any:
    inner = command.judge_builds

    def judge_builds(found: Any, commits: list[Commits], **options: Any) -> Any:
        return inner(found, [one for each in commits if (one := changed(each)) is not None], **options)

    return patch.object(command, "judge_builds", judge_builds)


def _without(*targets: Target) -> Fault:
    return partial(_commits_are, lambda each: None if each.target in targets else each)


def _young_builds_go() -> Any:
    return patch.object(command, "judge_builds", partial(command.judge_builds, young=timedelta(0)))


def _one_less_is_kept() -> Any:
    inner = command.served_builds
    return patch.object(command, "served_builds", lambda receipts, most: inner(receipts, most - 1))


def _what_was_undone_served() -> Any:
    inner = command.served_builds

    def served_builds(receipts: Any, most: int) -> Any:
        said = (replace(each, outcome=Outcome.SERVED) for each in receipts)
        return inner(said, most)

    return patch.object(command, "served_builds", served_builds)


def _filters_name(named: Callable[[World, str], set[str]]) -> Any:
    return patch.object(command, "_named", named)


def _named_by(store: World, folder: str, read: Callable[[World, Target], LiveFilter]) -> set[str]:
    try:
        return {read(store, Target(*folder.split("/")[1:3])).data}
    except ObjectMissing:
        return set()


def _data_are_written_once() -> Any:
    def writing(store: World, target: Target, items: list[str]) -> None:
        one, data = make_filter(items)
        with suppress(GenerationConflict):
            MemoryStore.write(store, target.filter_data(one.sha256), data, if_generation_match=0)
        MemoryStore.write(store, target.filter_name, format_item_filter(one), if_generation_match=None)

    return patch(f"{__name__}.write_filter", writing)


def _comparisons_go_before_their_builds() -> Any:
    inner = command._comparisons
    return patch.object(command, "_comparisons", lambda store, _, verdict, now: inner(store, [], verdict, now))


FAULTS: Final[dict[str, Fault]] = {
    "what a live commit names, held or not, isn't kept": partial(_commits_are, lambda each: replace(each, live=None)),
    "what served last, to which an undo returns, isn't kept": partial(
        _commits_are, lambda each: replace(each, served=())
    ),
    "a rollout or a canary isn't waited for": partial(_commits_are, lambda each: replace(each, settled=True)),
    "a rejected commit counts as rolled out": lambda: patch.object(
        command, "_ROLLED_OUT", (*command._ROLLED_OUT, Outcome.REJECTED)
    ),
    "a shadow keeps nothing": _without(PRODUCTION.shadow),
    "staging keeps nothing": _without(STAGING),
    "nobody looks again before a build is deleted": lambda: patch.object(command, "_generations", lambda _: set()),
    "young builds go": _young_builds_go,
    "one less is kept than was asked for": _one_less_is_kept,
    "a build that was undone counts as one that served": _what_was_undone_served,
    "what a shadow showed goes before its build": _comparisons_go_before_their_builds,
    "what the live filter names isn't kept": partial(
        _filters_name, lambda store, folder: _named_by(store, folder, read_last_good_filter)
    ),
    "what the filter that was in force last names isn't kept": partial(
        _filters_name, lambda store, folder: _named_by(store, folder, read_live_filter)
    ),
    "what is hidden again isn't written again": _data_are_written_once,
}  # fmt: skip


def main(world: Callable[[int], Result], what: str, seeds: int) -> int:
    """Run many seeds, and say what was lost."""
    parser = argparse.ArgumentParser(description=f"Prune many worlds, and look what of the {what} is lost.")
    parser.add_argument("--seeds", type=int, default=seeds, help=f"how many worlds (default: {seeds})")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    begun = time.monotonic()
    with ProcessPoolExecutor(options.processes) as pool:
        results = list(pool.map(world, range(options.first, options.first + options.seeds), chunksize=500))
    lost = [result for result in results if result.lost]
    sys.stdout.writelines(f"seed {result.seed}: {result.lost}\n" for result in lost)
    deleted, events = sum(result.deleted for result in results), sum(result.events for result in results)
    sys.stdout.write(
        f"{len(results)} worlds, {events} events, {deleted} {what} deleted in {time.monotonic() - begun:.0f} s; "
        f"{len(lost)} lost one that may be wanted\n"
    )
    return bool(lost)


if __name__ == "__main__":
    sys.exit(main(run, "builds", 100_000))
