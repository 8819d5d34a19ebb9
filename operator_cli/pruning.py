"""What of a bucket nobody can want any more: pure functions of what was found in it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from model_repository.documents.receipts.receipt import Outcome, Receipt
from model_repository.names import IndexPrefix, ModelPrefix, Target

KEEP = 24
"""Builds of each index and environment that served last and are kept: a day of hourly ones."""
YOUNG = timedelta(days=1)
"""What was written to since is never deleted: it may be on its way."""
MODELS_YOUNG = timedelta(days=30)
"""A model may stand for as long before a batch uses it."""


@dataclass(frozen=True, slots=True)
class Commits:
    """What is known of one target.

    live: the build that its commit names; None: it can't be read, or names none. settled: the live commit was rolled
    out, and served or was undone. served: the builds that a receipt says served, those last first.
    """

    target: Target
    live: IndexPrefix | None
    settled: bool
    served: tuple[IndexPrefix, ...]


@dataclass(frozen=True, slots=True)
class Folder:
    """Objects below one prefix. written: when the newest of them was. size: bytes of all."""

    written: datetime
    size: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """builds: to be deleted. waiting: indexes of which nothing is, and whose commits may be rolling out."""

    builds: tuple[IndexPrefix, ...]
    kept: frozenset[IndexPrefix]
    waiting: Mapping[str, tuple[Target, ...]]


def served_builds(receipts: Iterable[Receipt], most: int) -> tuple[IndexPrefix, ...]:
    """The `most` builds that served last, each once. receipts: of one target, newest first."""
    found: dict[IndexPrefix, None] = {}
    for receipt in receipts:
        if len(found) >= most:
            break
        if receipt.outcome is Outcome.SERVED and receipt.index_prefix is not None:
            found[receipt.index_prefix] = None
    return tuple(found)


def judge_builds(
    builds: Mapping[IndexPrefix, Folder], commits: Iterable[Commits], *, now: datetime, young: timedelta = YOUNG
) -> Verdict:
    """Say which builds go.

    Kept is what a live commit names, in whatever environment, a shadow's too; what served last in any of them; and what
    is young. Of an index whose live commit was not rolled out yet nothing goes, nor of one whose live commit was
    rejected: an earlier commit's rollout may still be going on. Once the live one served or was undone, what serves has
    its receipt, too: the webhook writes them in their order.
    """
    kept: set[IndexPrefix] = set()
    waiting: dict[str, tuple[Target, ...]] = {}
    for each in commits:
        kept.update(each.served)
        if each.live is not None:
            kept.add(each.live)
        if not each.settled:
            names = {each.target.index, *(prefix.index for prefix in (each.live, *each.served) if prefix is not None)}
            waiting.update({name: (*waiting.get(name, ()), each.target) for name in names})
    kept.update(prefix for prefix, folder in builds.items() if now - folder.written < young)
    goes = (prefix for prefix in builds if prefix not in kept and prefix.index not in waiting)
    return Verdict(tuple(sorted(goes)), frozenset(kept), waiting)


def judge_models(
    models: Mapping[ModelPrefix, Folder], used: Iterable[ModelPrefix], *, now: datetime
) -> tuple[ModelPrefix, ...]:
    """Say which models go. used: by builds that stay. The version of each name that was written last stays, too."""
    newest: dict[str, ModelPrefix] = {}
    for prefix, folder in models.items():
        if prefix.model not in newest or folder.written > models[newest[prefix.model]].written:
            newest[prefix.model] = prefix
    stay = {
        *used,
        *newest.values(),
        *(prefix for prefix, folder in models.items() if now - folder.written < MODELS_YOUNG),
    }
    return tuple(sorted(prefix for prefix in models if prefix not in stay))


@dataclass(frozen=True, slots=True)
class Record:
    """An object that the batch left. build: which it is of."""

    build: IndexPrefix
    written: datetime
    size: int


def last_written(records: Mapping[str, Record]) -> dict[str, datetime]:
    """By name, when the newest record of the same build was."""
    newest: dict[IndexPrefix, datetime] = {}
    for record in records.values():
        newest[record.build] = max(record.written, newest.get(record.build, record.written))
    return {name: newest[record.build] for name, record in records.items()}


def judge_records(records: Mapping[str, Record], builds: Iterable[IndexPrefix], *, now: datetime) -> tuple[str, ...]:
    """Say which objects of the batch go: those of builds that are gone, and neither young nor the newest of their kind.

    records: by name, of one kind and index. builds: that stay. A run goes on for as long as it writes anything, and so
    all of its records are as young as the newest.
    """
    written = last_written(records)
    newest = max(records.values(), key=lambda record: record.written, default=None)
    staying = {*builds, *([newest.build] if newest is not None else [])}
    return tuple(
        sorted(name for name, record in records.items() if record.build not in staying and now - written[name] >= YOUNG)
    )


@dataclass(frozen=True, slots=True)
class Reach:
    """The embeddings that a run counts on. parts: objects of features/, by name. began: no later than it looked."""

    parts: frozenset[str]
    began: datetime


def judge_features(
    parts: Mapping[str, Folder], runs: Iterable[Reach], *, now: datetime, young: timedelta = YOUNG
) -> tuple[str, ...]:
    """Say which parts of the features go: those that no run counts on any more, and that aren't young.

    parts: by name, one object each. runs: whose records stay, all of them. Small parts are merged into others, and the
    record of the run says nothing of these: where a part is gone that it counts on, each of the same key that was
    written since it began may hold the same. A key that no run names may be that of a model that is to come back: as
    that model itself, it stays for MODELS_YOUNG.
    """
    reached: set[str] = set()
    merged: dict[str, datetime] = {}
    for run in runs:
        reached |= run.parts
        for key in {key_of(name) for name in run.parts - parts.keys()}:
            merged[key] = min(run.began, merged.get(key, now))
    named = {key_of(name) for name in reached}
    return tuple(
        sorted(
            name
            for name, part in parts.items()
            if name not in reached
            and now - part.written >= (young if key_of(name) in named else MODELS_YOUNG)
            and not (key_of(name) in merged and part.written >= merged[key_of(name)])
        )
    )


def key_of(part: str) -> str:
    """What its embeddings were made by, as the folder of a part: ``features/<key>``."""
    return part.rpartition("/")[0]
