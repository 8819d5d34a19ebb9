"""All targets of a bucket as rows, kept true by looking again only at what may have changed.

Commits and their receipts are the truth; nothing is kept that isn't in the bucket. A commit that has its receipt
changes no more, so a look costs one listing, and a few reads for each target that is new or waits for its receipt.
"""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from model_repository.bucket.store import ObjectInfo, Store
from model_repository.clock import Clock
from model_repository.documents.commit import LONGEST_HOLD
from model_repository.documents.index_manifest import IndexManifest
from model_repository.documents.receipts.receipt import Outcome, Receipt
from model_repository.errors import DeliveryError, PermanentError
from model_repository.fields import format_moment
from model_repository.names import SHADOW, IndexPrefix
from model_repository.repository import CommitObject, list_commits, read_build
from operator_cli.commands.status import TargetStatus, listed
from operator_cli.live import UnreadableReceipt, newest_diffs
from operator_cli.output import programs

_AT_ONCE = 16
_ALL_AGAIN_SECONDS = 30.0
"""Incidents, builds that were stopped, and rows that couldn't be read, change without a commit."""

Row = dict[str, Any]
Key = tuple[str, str]
"""Environment and index; a name that is no commit's has no environment."""


@dataclass(frozen=True, slots=True)
class BuildFigures:
    """What is told of a build: made when, with how many items and bytes, at which recall."""

    created: datetime
    items: int
    size: int
    recall: float

    @classmethod
    def of(cls, manifest: IndexManifest) -> BuildFigures:
        """Those of a build."""
        return cls(manifest.created, manifest.items, manifest.bytes_to_pull, manifest.recall.value)

    def value(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "created": format_moment(self.created),
            "items": self.items,
            "bytes": self.size,
            "recall": round(self.recall, 4),
        }


class Builds:
    """Figures of builds, each read once: a build never changes."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: dict[IndexPrefix, BuildFigures] = {}

    def figures(self, prefix: IndexPrefix) -> BuildFigures | None:
        """None: the build isn't there, or can't be read."""
        if prefix not in self._known:
            try:
                self._known[prefix] = BuildFigures.of(read_build(self._store, prefix).manifest)
            except PermanentError:
                return None
        return self._known[prefix]


def attention(status: TargetStatus, served: BuildFigures | None, now: datetime, freshness: timedelta) -> list[str]:
    """What a person should do something about, a sentence each; a rollout that goes on, or a hold, is no such.

    served: the build that serves. freshness: what is older should have been replaced, unless it is a shadow, or on
    hold for `LONGEST_HOLD` at most.
    """
    commit, receipt = status.live.commit, status.receipt
    said = [f"{each.code}: {each.detail}" for each in status.incidents]
    if status.denied:
        said.append(status.denied)
    elif commit is None:
        said.append(f"the live commit can't be read: {status.live.malformed}")
    if status.stopped is not None:
        said.append(f"{status.stopped.prefix.build} waits for a person: it differs too much from what serves")
    if isinstance(receipt, UnreadableReceipt):
        said.append(f"the receipt can't be read: {receipt.why}")
    elif receipt is not None and receipt.outcome in (Outcome.UNDONE, Outcome.REJECTED):
        said.append(f"the live commit was {receipt.outcome}: {receipt.detail}")
    held = now - status.since if commit is not None and commit.hold and status.since is not None else None
    kept = (held is not None and held <= LONGEST_HOLD) or status.live.target.index.endswith(SHADOW)
    if served is not None and not kept and now - served.created > freshness:
        old = f"what serves was made {_hours(now - served.created)} ago, of {_hours(freshness)} at most"
        said.append(old if held is None else f"{old}: it has been on hold for {_hours(held)}")
    return said


def _hours(time: timedelta) -> str:
    hours = time / timedelta(hours=1)
    return f"{hours / 24:.1f} days" if hours >= 48 else f"{hours:.1f} hours"  # noqa: PLR2004 - two days


def for_scripts(value: Any) -> Any:  # noqa: ANN401 - JSON
    """Generations as text: a browser's numbers are exact up to 2**53, and a generation is a name of 64 bits."""
    if isinstance(value, list):
        return [for_scripts(each) for each in value]
    if not isinstance(value, dict):
        return value
    return {
        key: str(each) if key == "generation" and isinstance(each, int) else for_scripts(each)
        for key, each in value.items()
    }


class Overview:
    """The rows of a bucket, kept by whoever calls `look` now and then. May be read from several threads."""

    def __init__(self, store: Store, clock: Clock, freshness: timedelta) -> None:
        """Read nothing yet."""
        self.builds = Builds(store)
        self._store, self._clock, self._freshness = store, clock, freshness
        self._rows: dict[Key, Row] = {}
        self._looked: dict[Key, CommitObject] = {}
        self._diffs: dict[str, ObjectInfo] = {}
        self._all_again: datetime | None = None
        self._one_at_a_time = threading.Lock()
        self.problem = ""
        """Why the bucket couldn't be read when it was looked at last; empty: it could."""

    @property
    def rows(self) -> list[Row]:
        """What was found last, by environment and index."""
        return [self._rows[key] for key in sorted(self._rows)]

    def look(self) -> bool:
        """Look at the bucket; returns whether anything is different from before."""
        with self._one_at_a_time:
            before, problem = self._rows, self.problem
            try:
                self._rows = self._read()
                self.problem = ""
            except DeliveryError as error:
                self.problem = str(error)
            return (before, problem) != (self._rows, self.problem)

    def _read(self) -> dict[Key, Row]:
        now = self._clock.now()
        commits = {_key(found): found for found in list_commits(self._store)}
        everything = self._all_again is None or now >= self._all_again
        if everything:
            self._diffs = newest_diffs(self._store)
        stale = [found for key, found in commits.items() if everything or self._may_differ(key, found)]
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            fresh = dict(zip(map(_key, stale), pool.map(lambda found: self._row(found, now), stale), strict=True))
        if everything:
            self._all_again = now + timedelta(seconds=_ALL_AGAIN_SECONDS)
        self._looked = commits
        return {key: fresh[key] if key in fresh else self._rows[key] for key in commits}

    def _may_differ(self, key: Key, found: CommitObject) -> bool:
        row = self._rows.get(key)
        return row is None or self._looked.get(key) != found or row.get("state") == "waiting"

    def _row(self, found: CommitObject, now: datetime) -> Row:
        if found.target is None:
            # anybody's text, which may turn the direction of what stands beside it
            name = repr(found.name)
            return {"name": name, "attention": [f"{name}: this is no commit's name, and does nothing"]}
        read = listed(self._store, found, found.target, self._diffs)
        (value,) = programs.status([read], now)["targets"]
        del value["commit"]["age_seconds"]  # whoever looks knows how late it is
        served = read.serving.index_prefix if isinstance(read.serving, Receipt) else None
        figures = self.builds.figures(served) if served else None
        row: Row = for_scripts(value) | {
            "build": figures.value() if figures else None,
            "freshness_seconds": self._freshness / timedelta(seconds=1),
            "attention": attention(read, figures, now, self._freshness),
        }
        return row


def _key(found: CommitObject) -> Key:
    return (found.target.environment, found.target.index) if found.target else ("", found.name)
