"""What is committed, what became of it, and what serves: for one target or all of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice
from typing import Final

from model_repository.bucket.store import ObjectInfo, Store
from model_repository.documents.build_diff import BuildDiff
from model_repository.documents.incidents import INCIDENTS_LIMIT, Incident, parse_incidents
from model_repository.documents.receipts.address import Address
from model_repository.documents.receipts.receipt import Outcome, Receipt
from model_repository.documents.receipts.shadow_comparison import ShadowComparison
from model_repository.errors import AccessDenied, DocumentMalformed, ObjectMissing
from model_repository.names import SHADOW, Target, environment_incidents_name
from model_repository.repository import COMMITS, CommitObject, Live, list_commits, read_live
from operator_cli.live import (
    UnreadableReceipt,
    address_or_none,
    commit_missing,
    comparison_or_none,
    newest_diffs,
    nothing_committed,
    read_receipt_or_none,
    receipts,
    served,
    stopped,
)

_AT_ONCE: Final = 8
"""Targets that are read at a time: of each some seven objects, one after another."""


@dataclass(frozen=True, slots=True)
class TargetStatus:
    """One target as the bucket shows it.

    since: when the live commit was uploaded, in UTC. receipt: of the live commit; None: nobody said yet.
    serving: the newest receipt that says served; None: no receipt does. serving_gone: the bucket has its build no more.
    incidents: what is wrong now and may pass, of the index and of its whole environment.
    denied: why nothing of it can be read; empty: it can. address: where what serves answers; None: nobody said it.
    comparison: of a shadow, how it answered beside its index; None: nobody compared what is live there.
    stopped: how a build differs that waits for a person to commit it; None: none does.
    """

    live: Live
    since: datetime | None
    receipt: Receipt | UnreadableReceipt | None
    serving: Receipt | None
    incidents: tuple[Incident, ...] = ()
    denied: str = ""
    address: Address | None = None
    comparison: ShadowComparison | None = None
    stopped: BuildDiff | None = None
    serving_gone: bool = False

    @property
    def is_shadow(self) -> bool:
        """Whether what is committed is to serve beside its index, to nobody but who asks for it."""
        commit = self.live.commit
        return commit is not None and self.live.target.is_shadow_of(commit.index_prefix)

    @property
    def waits(self) -> bool:
        """Whether nobody said yet what became of the live commit."""
        return self.receipt is None and not self.denied

    def seconds(self, now: datetime) -> float:
        """How old the live commit is."""
        return max((now - self.since) / timedelta(seconds=1), 0.0) if self.since else 0.0

    @property
    def mend(self) -> str:
        """What to do about a commit that can't be understood; empty for one that can."""
        if self.live.commit is not None or self.denied:
            return ""
        target = self.live.target
        return f"commit over it: indexpush commit {target.index} <build> --environment {target.environment}"


def status(store: Store, environment: str | None, index: str | None) -> list[TargetStatus | CommitObject]:
    """The targets that the filters leave, by name, and the objects among them whose names are no commit's.

    Raises `CommitMissing` if nothing is there that they leave, and something else is: a name may be mistyped.
    """
    if environment is not None and index is not None:
        target = Target(environment, index)
        found = _status(store, target, newest_diffs(store, index))
        if found.live.generation == 0:
            raise commit_missing(store, target)
        return [found]
    commits = list_commits(store)
    wanted = [found for found in commits if _wanted(found, environment, index)]
    if not wanted and commits and (environment is not None or index is not None):
        raise nothing_committed(environment, index, commits)
    diffs = newest_diffs(store, index or "")
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return list(pool.map(lambda it: listed(store, it, it.target, diffs) if it.target else it, wanted))


def listed(store: Store, found: CommitObject, target: Target, diffs: Mapping[str, ObjectInfo]) -> TargetStatus:
    """One of many: what the bucket denies of it must not hide the others. diffs: as `newest_diffs` gives them."""
    try:
        return _status(store, target, diffs)
    except AccessDenied as error:
        return TargetStatus(Live(target, found.generation, None), found.updated, None, None, denied=str(error))


def _wanted(found: CommitObject, environment: str | None, index: str | None) -> bool:
    if found.target is None:
        return index is None and (environment is None or found.name.startswith(f"{COMMITS}{environment}/"))
    return environment in (None, found.target.environment) and index in (None, found.target.index)


def _status(store: Store, target: Target, diffs: Mapping[str, ObjectInfo]) -> TargetStatus:
    live = read_live(store, target)
    info = store.stat(target.commit_name)
    since = info.updated if info else None
    receipt = read_receipt_or_none(store, target, live.generation)
    serving = receipt if isinstance(receipt, Receipt) and receipt.outcome is Outcome.SERVED else served(store, target)
    return TargetStatus(
        live,
        since,
        receipt,
        serving,
        tuple(_incidents(store, target)),
        address=address_or_none(store, serving),
        comparison=comparison_or_none(store, target, live.generation) if target.index.endswith(SHADOW) else None,
        stopped=stopped(store, live, since, diffs.get(target.index)),
        serving_gone=bool(serving and serving.index_prefix and store.stat(serving.index_prefix.manifest) is None),
    )


def _incidents(store: Store, target: Target) -> Iterator[Incident]:
    for name in (target.incidents_name, environment_incidents_name(target.environment)):
        # a record that can't be understood is the function's to write anew
        with suppress(ObjectMissing, DocumentMalformed):
            yield from parse_incidents(store.read(name, limit=INCIDENTS_LIMIT).data, name)


def held_generation(store: Store, target: Target) -> int:
    """The generation of the live commit, if that is on hold; else 0. A receipt doesn't say it."""
    with suppress(AccessDenied):
        live = read_live(store, target)
        if live.commit is not None and live.commit.hold:
            return live.generation
    return 0


@dataclass(frozen=True, slots=True)
class ServedThen:
    """What served at a moment, as far as receipts say, and what served after it; None: nothing that is known.

    incidents: what was wrong then and still is: what was restored meanwhile gets no receipt, and may have served.
    """

    receipt: Receipt | None
    after: Receipt | None
    incidents: tuple[Incident, ...]


def served_at(store: Store, target: Target, moment: datetime) -> ServedThen:
    """Reads receipts until it is found, however many came since. Raises `CommitMissing` as `history` does."""
    history(store, target, 1)
    incidents = tuple(each for each in _incidents(store, target) if each.since <= moment)
    after: Receipt | None = None
    for receipt in receipts(store, target):
        if not isinstance(receipt, Receipt) or receipt.outcome is not Outcome.SERVED:
            continue
        if receipt.finished <= moment:
            return ServedThen(receipt, after, incidents)
        after = receipt
    return ServedThen(None, after, incidents)


def history(store: Store, target: Target, limit: int) -> list[Receipt | UnreadableReceipt]:
    """The newest `limit` receipts of a target, newest first.

    Raises `CommitMissing` if there are none, and no commit that could get one.
    """
    found = list(islice(receipts(store, target), limit))
    if not found and store.stat(target.commit_name) is None:
        raise commit_missing(store, target)
    return found
