"""When a batch must not commit: three rules, each a function of values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from embedding_batch.errors import ItemsDropped, RecallTooLow, TooManyBroken
from model_repository.documents.index_manifest import Partition


@dataclass(frozen=True, slots=True)
class Broken:
    """An item that can't be indexed, and why."""

    id: str
    picture: str
    reason: str


@dataclass(frozen=True, slots=True)
class Limits:
    """Beyond these a person has to look.

    most_broken: share of the catalogue's items whose photo can't be read, 0 to 1. most_dropped: share of the items that
    serve now which the new build may lack. least_recall: recall@10 against exact search.
    """

    most_broken: float = 0.02
    most_dropped: float = 0.2
    least_recall: float = 0.95


DEFAULT_LIMITS = Limits()


def guard_broken(broken: Sequence[Broken], items: int, limits: Limits) -> None:
    """Raise TooManyBroken when more than the stated share of `items` is broken, or all are."""
    if len(broken) > limits.most_broken * items or len(broken) == items:
        first = broken[0]
        raise TooManyBroken(
            f"{len(broken)} of {items} pictures are broken, at most {limits.most_broken:.1%} may be; "
            f"the first: {first.id!r} ({first.reason}); mend them, or allow more with --most-broken"
        )


def guard_items(items: int, serving: int | None, limits: Limits) -> None:
    """Raise ItemsDropped when the build has far fewer `items` than the one that is `serving` (None: nothing is)."""
    if serving is not None and items < (1 - limits.most_dropped) * serving:
        raise ItemsDropped(
            f"the build has {items} items, the committed one {serving}: more than {limits.most_dropped:.0%} are gone; "
            "look at the catalogue, or allow more with --most-dropped"
        )


def guard_recall(weakest: Partition, limits: Limits) -> None:
    """Raise RecallTooLow when in the category with the least recall too little is found, however widely is looked."""
    recall = weakest.recall
    if recall.value < limits.least_recall:
        raise RecallTooLow(
            f"recall@{recall.at} of {weakest.category!r} is {recall.value:.3f}, at least {limits.least_recall:.3f} is "
            "needed; build it with another --engine or --storage, or allow less with --least-recall"
        )
