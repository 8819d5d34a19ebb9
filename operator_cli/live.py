"""What stands in the bucket for a target: its live commit, readable or not, and the receipts of its commits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice

from model_repository.bucket.store import ObjectInfo, Store
from model_repository.documents.build_diff import DIFF_LIMIT, BuildDiff, parse_build_diff
from model_repository.documents.receipts.address import Address
from model_repository.documents.receipts.receipt import Outcome, Receipt
from model_repository.documents.receipts.shadow_comparison import ShadowComparison
from model_repository.errors import DocumentMalformed, NameRefused, ObjectMissing
from model_repository.mistyped import near_names, sentence
from model_repository.names import IndexPrefix, Target
from model_repository.repository import (
    COMMITS,
    CommitObject,
    Live,
    list_commits,
    list_receipts,
    read_address,
    read_receipt,
    read_shadow_comparison,
)
from operator_cli.errors import CommitMissing

RECEIPTS_READ = 500
"""Most receipts that one question reads: hourly commits of three weeks."""


@dataclass(frozen=True, slots=True)
class UnreadableReceipt:
    """A receipt that isn't what the contract says."""

    generation: int
    why: str


def commit_missing(store: Store, target: Target) -> CommitMissing:
    """The error for a target that nobody ever committed to; it names those that there are."""
    known = [found.target for found in list_commits(store) if found.target]
    here = sorted(other.index for other in known if other.environment == target.environment)
    environments = sorted({other.environment for other in known if other.index == target.index})
    meant = sentence(
        near_names(target.index, here), f"it is committed in: {', '.join(environments)}" if environments else ""
    )
    first = f"commit a build first: indexpush commit {target.index} <build> --environment {target.environment}"
    what = f"{target.commit_name}: nothing is committed for {target.index!r} in {target.environment!r}"
    return CommitMissing(sentence(what, meant or first))


def shadow_missing(target: Target) -> CommitMissing:
    """The error for an index that has no shadow. target: the index."""
    begin = f"indexpush shadow {target.index} <build> --environment {target.environment}"
    return CommitMissing(f"{target.shadow.commit_name}: {target} has no shadow; begin one: {begin}")


def nothing_committed(environment: str | None, index: str | None, commits: Sequence[CommitObject]) -> CommitMissing:
    """The error for an environment, or an index, in which nothing was ever committed; it names those that there are."""
    known = [found.target for found in commits if found.target]
    if environment is not None:
        names = sorted({target.environment for target in known})
        what, where, kind = environment, f"{COMMITS}{environment}/", "environments"
    else:
        names = sorted({target.index for target in known})
        what, where, kind = index or "", f"{COMMITS}*/{index}.json", "indexes"
    return CommitMissing(
        sentence(
            f"{where}: nothing is committed there", near_names(what, names), f"there are the {kind} {', '.join(names)}"
        )
    )


def read_receipt_or_none(store: Store, target: Target, generation: int) -> Receipt | UnreadableReceipt | None:
    """What became of one commit; None while nobody said, or there is no commit (generation 0)."""
    try:
        return read_receipt(store, target, generation) if generation else None
    except ObjectMissing:
        return None
    except DocumentMalformed as error:
        return UnreadableReceipt(generation, str(error))


def address_or_none(store: Store, receipt: Receipt | None) -> Address | None:
    """Where what a receipt says serves answers; None: nobody said it, or not so that it can be read."""
    try:
        return read_address(store, receipt.target, receipt.generation) if receipt else None
    except (ObjectMissing, DocumentMalformed):
        return None


def comparison_or_none(store: Store, target: Target, generation: int) -> ShadowComparison | None:
    """How the shadow of a commit answered beside its index; None: nobody compared it, or it can't be read."""
    try:
        return read_shadow_comparison(store, target, generation) if generation else None
    except (ObjectMissing, DocumentMalformed):
        return None


def newest_diffs(store: Store, index: str = "") -> dict[str, ObjectInfo]:
    """Of each index, or of one, by its name: the newest of what the batch wrote of how builds differ."""
    found = store.listing(f"diffs/{index}/" if index else "diffs/")
    return {info.name.split("/")[1]: info for info in sorted(found, key=lambda info: info.updated)}


def stopped(store: Store, live: Live, since: datetime | None, newest: ObjectInfo | None) -> BuildDiff | None:
    """How the newest build differs, if gates keep it from taking the live one's place and nobody decided since.

    since: when the live commit was uploaded. newest: of the index, of `newest_diffs`. None: no build waits for anybody,
    or the batch commits to another environment.
    """
    if live.commit is None or live.commit.hold or newest is None or since is None:
        return None
    if newest.updated <= since:
        return None
    try:
        build = newest.name.rpartition("/")[2].removesuffix(".json")
        prefix = IndexPrefix(live.target.index, build)
        found = parse_build_diff(store.read(newest.name, limit=DIFF_LIMIT).data, prefix)
    except (NameRefused, ObjectMissing, DocumentMalformed):
        return None
    here = found.environments is None or live.target.environment in found.environments
    return found if here and found.unexpected and found.against == live.commit.index_prefix else None


def receipts(store: Store, target: Target) -> Iterator[Receipt | UnreadableReceipt]:
    """The receipts of a target, newest first, read one by one as they are asked for."""
    found = (read_receipt_or_none(store, target, generation) for generation in list_receipts(store, target))
    return (receipt for receipt in found if receipt is not None)


def recent_receipts(store: Store, target: Target) -> Iterator[Receipt]:
    """The newest receipts that can be read, at most `RECEIPTS_READ`, newest first."""
    return (receipt for receipt in islice(receipts(store, target), RECEIPTS_READ) if isinstance(receipt, Receipt))


def served(store: Store, target: Target) -> Receipt | None:
    """The newest receipt that says served: what serves now, as far as the bucket knows.

    An undone or rejected commit leaves what was there before it; a waiting one hasn't replaced it yet.
    """
    return next((receipt for receipt in recent_receipts(store, target) if receipt.outcome is Outcome.SERVED), None)
