"""What stands in the bucket for a target: its live commit, readable or not, and the receipts of its commits."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from model_repository.commit import Commit, parse_commit
from model_repository.errors import DocumentMalformed, NameRefused, ObjectMissing
from model_repository.names import Target, parse_generation
from model_repository.receipt import Outcome, Receipt
from model_repository.repository import read_commit_object, read_receipt
from model_repository.store import Store
from operator_cli.builds import listing, near_names, sentence
from operator_cli.errors import CommitMissing

RECEIPTS_READ = 500
"""Most receipts that one question reads: hourly commits of three weeks."""


@dataclass(frozen=True, slots=True)
class Live:
    """The commit object of a target as it was read.

    generation: 0 if there is none: also the precondition for whoever replaces it.
    commit: None if there is none, or it can't be understood; then `malformed` says why (without the object's name).
    """

    target: Target
    generation: int
    commit: Commit | None
    malformed: str = ""


@dataclass(frozen=True, slots=True)
class UnreadableReceipt:
    """A receipt that isn't what the contract says."""

    generation: int
    why: str


def read_live(store: Store, target: Target) -> Live:
    """The live commit of `target`: absent, malformed or fine."""
    try:
        stored = read_commit_object(store, target)
    except ObjectMissing:
        return Live(target, 0, None)
    except DocumentMalformed as error:  # too large to be read: its generation is all that is needed
        info = store.stat(target.commit_name)
        return Live(target, info.generation if info else 0, None, _why(error, target))
    try:
        return Live(target, stored.generation, parse_commit(stored.data, target))
    except DocumentMalformed as error:
        return Live(target, stored.generation, None, _why(error, target))


def _why(error: DocumentMalformed, target: Target) -> str:
    return str(error).removeprefix(f"{target.commit_name}: ")


def commit_missing(store: Store, target: Target) -> CommitMissing:
    """The error for a target that nobody ever committed to; it names those that there are."""
    known = [target_ for target_, _ in list_commits(store) if target_]
    here = sorted(other.index for other in known if other.environment == target.environment)
    environments = sorted({other.environment for other in known if other.index == target.index})
    return CommitMissing(
        sentence(
            f"{target.commit_name}: nothing is committed for {target.index!r} in {target.environment!r}",
            near_names(target.index, here),
            f"it is committed in: {', '.join(environments)}" if environments else "",
            f"commit a build first: indexpush commit {target.index} <build> --environment {target.environment}",
        )
    )


def list_commits(store: Store) -> list[tuple[Target | None, str]]:
    """The objects in commits/ by name, each with its target, or None if its name is no commit's."""
    found: list[tuple[Target | None, str]] = []
    for info in listing(store, "commits/"):
        if info.name.endswith("/"):  # a "folder" that a browser of buckets made
            continue
        try:
            found.append((Target.from_commit_name(info.name), info.name))
        except NameRefused:
            found.append((None, info.name))
    return found


def read_receipt_or_none(store: Store, target: Target, generation: int) -> Receipt | UnreadableReceipt | None:
    """What became of one commit; None while nobody said."""
    if generation == 0:
        return None
    try:
        return read_receipt(store, target, generation)
    except ObjectMissing:
        return None
    except DocumentMalformed as error:
        return UnreadableReceipt(generation, str(error))


def receipts(store: Store, target: Target) -> Iterator[Receipt | UnreadableReceipt]:
    """The receipts of a target, newest first, read one by one as they are asked for."""
    for generation in _generations(store, target):
        receipt = read_receipt_or_none(store, target, generation)
        if receipt is not None:
            yield receipt


def recent_receipts(store: Store, target: Target) -> Iterator[Receipt]:
    """The newest receipts that can be read, at most `RECEIPTS_READ`, newest first."""
    return (receipt for receipt in islice(receipts(store, target), RECEIPTS_READ) if isinstance(receipt, Receipt))


def served(store: Store, target: Target) -> Receipt | None:
    """The newest receipt that says served: what serves now, as far as the bucket knows.

    An undone or rejected commit leaves what was there before it; a waiting one hasn't replaced it yet.
    """
    return next((receipt for receipt in recent_receipts(store, target) if receipt.outcome is Outcome.SERVED), None)


def _generations(store: Store, target: Target) -> list[int]:
    prefix = target.receipts_prefix
    found = []
    for info in listing(store, prefix):
        try:
            found.append(parse_generation(info.name[len(prefix) :].removesuffix(".json")))
        except NameRefused:  # nobody's receipt
            continue
    return sorted(found, reverse=True)
