"""Features that are pruned while batches begin, list, embed, merge and end: which embeddings are lost to them?

As `prune_simulation` is: one thread, a seed, a time of its own. What a batch does is done in its own order, in few
lines: its plan, a look at what is embedded, its list, its embeddings, the merging of parts, its build.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Final
from unittest.mock import patch

from model_repository.bucket.store import ObjectInfo, StoredObject
from model_repository.documents.commit import Commit
from model_repository.documents.receipts.receipt import Outcome
from model_repository.names import IndexPrefix, Target
from model_repository.repository import write_commit, write_receipt
from operator_cli import pruning
from operator_cli.commands import prune as command
from operator_cli.commands.prune import prune
from operator_cli.pruning import Reach
from tests import builds
from tests.memory_store import MemoryStore
from tests.operator_cli.prune_simulation import BEGINS, Result, main, parsing_once

INDEXES: Final = ("shoes", "shirts")
"""Of one model: their embeddings have one key."""
KEY: Final = "features/k"
PICTURES: Final = 8
MANY: Final = 6
"""Parts, when two are merged."""
ROUNDS: Final = 5
_MEANWHILE: Final = 0.1


@dataclass
class Run:
    """A batch. wants: pictures. reached: where it found their embeddings. step: what it does next."""

    prefix: IndexPrefix
    wants: set[int]
    began: datetime
    wrote: datetime
    step: str = "plan"
    reached: set[str] = field(default_factory=set)
    missing: set[int] = field(default_factory=set)
    embedded: list[str] = field(default_factory=list)

    @property
    def folder(self) -> str:
        return f"shards/{self.prefix.index}/{self.prefix.build}"


class World(MemoryStore):
    """A bucket, and batches that share its features."""

    def __init__(self, seed: int) -> None:
        super().__init__("shop", seed)
        self.dice = random.Random(seed)
        self.moment = BEGINS
        self.pace = timedelta(hours=3)
        self.made = 0
        self.parts: dict[str, frozenset[int]] = {}
        self.runs: dict[str, Run | None] = dict.fromkeys(INDEXES)
        self.killed: dict[str, Run] = {}
        self.sold: dict[str, set[int]] = {index: set() for index in INDEXES}
        self.built: dict[str, Run] = {}
        self.merging: list[str] = []
        self.pruning = self.busy = False
        self.events = 0
        self.lost = ""

    def now(self) -> datetime:
        """What is written later is later."""
        self.moment += timedelta(milliseconds=1)
        return self.moment

    # batches

    def happen(self) -> None:
        """Let a batch go on, or begin; or somebody's merging."""
        self.events += 1
        self.moment += self.pace * self.dice.random()
        if self.merging:
            self._drop(self.merging.pop())
            return
        index = self.dice.choice(INDEXES)
        run = self.runs[index]
        if run is None:
            self._begin(index)
        elif not self.goes_on(run) or self.dice.random() < 0.02:
            self.runs[index] = None  # it is killed
            self.killed[index] = run
        else:
            if run.step in {"listed", "kept", "embedded", "collected"} and self.stat(f"{run.folder}/list.json") is None:
                self.lost = self.lost or f"the list of {run.prefix} is gone, and it is {run.step}"
            getattr(self, f"_{run.step}")(run)

    def goes_on(self, run: Run) -> bool:
        """None lets a day go by without writing something."""
        return self.moment - run.wrote < timedelta(days=1)

    def _begin(self, index: str) -> None:
        killed = self.killed.pop(index, None)
        if killed is not None and killed.step in {"plan", "looked"} and self.dice.random() < 0.7:
            self._resume(killed)
            return
        sold = self.sold[index]
        sold ^= set(self.dice.sample(range(PICTURES), self.dice.randrange(PICTURES // 2)))
        run = Run(IndexPrefix(index, f"b{self.made}"), set(sold), self.now(), self.moment)
        self.made += 1
        self._note(run, "plan", {})
        self.runs[index] = run

    def _resume(self, run: Run) -> None:
        """Somebody tries a run again that made no list yet."""
        self.runs[run.prefix.index] = replace(run, step="plan", reached=set(), missing=set(), wrote=self.now())
        self.write(f"{run.folder}/plan.json", b"{}", if_generation_match=None)

    def _note(self, run: Run, record: str, said: dict[str, Any]) -> None:
        self.write(f"{run.folder}/{record}.json", json.dumps(said).encode(), if_generation_match=0)
        run.wrote = self.moment

    def _plan(self, run: Run) -> None:
        """It looks what is embedded."""
        run.missing = set(run.wants)
        for name, pictures in self.parts.items():
            if pictures & run.missing:
                run.reached.add(name)
                run.missing -= pictures
        run.step = "looked"

    def _looked(self, run: Run) -> None:
        self._note(run, "list", {"features": sorted(run.reached)})
        run.step = "listed"

    def _listed(self, run: Run) -> None:
        run.embedded = [self._keep(frozenset(run.missing))] if run.missing else []
        run.step = "kept"

    def _kept(self, run: Run) -> None:
        self._note(run, "embed-00000", {"features": run.embedded})
        run.missing = set()
        run.step = "embedded"

    def _embedded(self, run: Run) -> None:
        """The list with all that was found out; and small parts are merged, if there are many."""
        self.write(f"catalogues/{run.prefix.index}/{run.prefix.build}.parquet", b"x", if_generation_match=0)
        if len(self.parts) > MANY:
            self.merging = self.dice.sample(sorted(self.parts), 2)
            self._keep(frozenset().union(*(self.parts[name] for name in self.merging)))
        run.step = "collected"

    def _collected(self, run: Run) -> None:
        """What it builds from must be there."""
        known = frozenset().union(*self.parts.values())
        if run.wants - known:
            self.lost = self.lost or f"{run.prefix} lacks embeddings that it found"
        self.write(run.prefix.manifest, b"{}", if_generation_match=0)
        target = Target("production", run.prefix.index)
        generation = write_commit(self, target, Commit(run.prefix), if_generation_match=None).generation
        outcome = self.dice.choice((Outcome.SERVED, Outcome.SERVED, Outcome.UNDONE))
        write_receipt(self, builds.receipt(generation, target=target, outcome=outcome, index_prefix=run.prefix))
        self.built[run.prefix.index] = run
        self.runs[run.prefix.index] = None

    def _keep(self, pictures: frozenset[int]) -> str:
        name = f"{KEY}/{self.made:04}.arrow"
        self.made += 1
        self.write(name, b"embeddings", if_generation_match=0)
        self.parts[name] = pictures
        return name

    def _drop(self, name: str) -> None:
        super().delete(name)
        self.parts.pop(name, None)

    # what prune asks

    def _meanwhile(self) -> None:
        if self.pruning and not self.busy and self.dice.random() < _MEANWHILE:
            self.busy = True
            self.happen()
            self.busy = False

    def read(self, name: str, *, limit: int) -> StoredObject:
        """See `store.Store.read`."""
        self._meanwhile()
        return super().read(name, limit=limit)

    def listing(self, prefix: str) -> list[ObjectInfo]:
        """See `store.Store.listing`."""
        self._meanwhile()
        return super().listing(prefix)

    def delete(self, name: str, *, if_generation_match: int | None = None) -> None:
        """See `store.Store.delete`; notes embeddings that go though a batch counts on them."""
        if name in self.parts:
            others = frozenset[int]().union(*(its for other, its in self.parts.items() if other != name))
            only = self.parts[name] - others
            self.lost = self.lost or next((f"{name} is gone, and {why}" for why in self._wanted(only)), "")
            del self.parts[name]
        super().delete(name, if_generation_match=if_generation_match)
        self._meanwhile()

    def _wanted(self, pictures: frozenset[int]) -> Iterator[str]:
        for run in self.runs.values():
            if run is None or not self.goes_on(run) or run.step == "plan":
                continue
            if (run.wants if run.embedded else run.wants - run.missing) & pictures:
                yield f"{run.prefix} found embeddings in it, and is {run.step}"
        for run in self.built.values():
            if run.wants & pictures:
                yield f"{run.prefix}, the newest of its index, was made of it"


def run(seed: int) -> Result:
    """One world: batches, and then prune while more do, some times over. deleted: parts."""
    world = World(seed)
    deleted = 0
    with parsing_once():
        for _ in range(ROUNDS):
            world.pruning, world.pace = False, timedelta(hours=3)
            for _ in range(world.dice.randrange(30)):
                world.happen()
            world.moment += timedelta(days=3) * world.dice.random()
            world.merging.clear()  # nobody merges for days: what was begun was killed
            world.pruning, world.pace = True, timedelta(seconds=10)
            deleted += len(prune(world, world, keep=1, apply=True, said=lambda _: None).features)
    return Result(seed, world.lost, deleted, world.events)


# Faults that it must find


def _judged(changed: Callable[[Iterable[Reach]], Iterable[Reach]]) -> Any:
    inner = command.judge_features
    return patch.object(
        command, "judge_features", lambda parts, runs, **options: inner(parts, list(changed(runs)), **options)
    )


def _merging_is_forgotten() -> Any:
    inner = command.judge_features

    def judge_features(parts: Any, runs: Iterable[Reach], **options: Any) -> Any:
        return inner(parts, [replace(each, parts=each.parts & parts.keys()) for each in runs], **options)

    return patch.object(command, "judge_features", judge_features)


def _unlisted_runs_count_on_nothing() -> Any:
    from operator_cli import reach  # noqa: PLC0415 - the one name of it that is needed

    return patch.object(reach, "YOUNG", timedelta(0))


FAULTS: Final[dict[str, Callable[[], Any]]] = {
    "what one run counts on isn't kept": partial(_judged, lambda runs: list(runs)[1:]),
    "that parts are merged is forgotten": _merging_is_forgotten,
    "a run that hasn't made its list isn't waited for": _unlisted_runs_count_on_nothing,
    "nobody looks again before a part is deleted": lambda: patch.object(command, "runs_begun", lambda _: set()),
    "what was written since a run began is thought to be older": partial(
        _judged, lambda runs: (replace(each, began=each.began + timedelta(days=9)) for each in runs)
    ),
    "records of a run that goes on go when each is a day old": lambda: patch.object(
        pruning, "last_written", lambda records: {name: record.written for name, record in records.items()}
    ),
    "young parts go": lambda: patch.object(
        command, "judge_features", partial(pruning.judge_features, young=timedelta(0))
    ),
}


if __name__ == "__main__":
    sys.exit(main(run, "parts of the features", 10_000))
