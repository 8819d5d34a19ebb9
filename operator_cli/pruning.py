"""What of a bucket nobody can want any more: pure functions of what was found in it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from model_repository.documents.receipt import Outcome, Receipt
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
    """builds: to be deleted. waiting: indexes of which nothing is, as a rollout may be going on, with the commit."""

    builds: tuple[IndexPrefix, ...]
    kept: frozenset[IndexPrefix]
    waiting: Mapping[str, str]


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
    waiting: dict[str, str] = {}
    for each in commits:
        kept.update(each.served)
        if each.live is not None:
            kept.add(each.live)
        if not each.settled:
            names = {each.target.index, *(prefix.index for prefix in (each.live, *each.served) if prefix is not None)}
            waiting.update(dict.fromkeys(names, each.target.commit_name))
    kept.update(prefix for prefix, folder in builds.items() if now - folder.written < young)
    goes = (prefix for prefix in builds if prefix not in kept and prefix.index not in waiting)
    return Verdict(tuple(sorted(goes)), frozenset(kept), waiting)


def judge_models(
    models: Mapping[ModelPrefix, Folder], used: Iterable[ModelPrefix], *, now: datetime, young: timedelta = MODELS_YOUNG
) -> tuple[ModelPrefix, ...]:
    """Say which models go. used: by builds that stay. The version of each name that was written last stays, too."""
    newest: dict[str, ModelPrefix] = {}
    for prefix, folder in models.items():
        if prefix.model not in newest or folder.written > models[newest[prefix.model]].written:
            newest[prefix.model] = prefix
    stay = {*used, *newest.values(), *(prefix for prefix, folder in models.items() if now - folder.written < young)}
    return tuple(sorted(prefix for prefix in models if prefix not in stay))


def judge_records(
    records: Mapping[str, tuple[IndexPrefix, datetime]],
    builds: Iterable[IndexPrefix],
    *,
    now: datetime,
    young: timedelta = YOUNG,
) -> tuple[str, ...]:
    """Say which objects of the batch go: those of builds that are gone, and neither young nor the newest of their kind.

    records: by name, the build that they are of, and when they were written; of one kind and index. builds: that stay.
    """
    staying = set(builds)
    newest = max((written for _, written in records.values()), default=now)
    return tuple(
        sorted(
            name
            for name, (prefix, written) in records.items()
            if prefix not in staying and now - written >= young and written != newest
        )
    )
