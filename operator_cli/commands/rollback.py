"""Which build a rollback without a target means."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime

from model_repository.documents.index_manifest import IndexManifest
from model_repository.documents.receipts.receipt import Outcome, Receipt
from model_repository.errors import PermanentError
from model_repository.mistyped import sentence
from model_repository.names import IndexPrefix
from model_repository.repository import Live
from operator_cli.errors import NothingServed
from operator_cli.live import RECEIPTS_READ

_FAILED = (Outcome.UNDONE, Outcome.REJECTED)


@dataclass(frozen=True, slots=True)
class Pick:
    """The build to roll back to, whole in the bucket.

    why: for the person, one clause. passed_over: builds that came first but can't be taken, each with its reason.
    """

    manifest: IndexManifest
    why: str
    passed_over: tuple[str, ...]


def pick_rollback(
    live: Live,
    outcome: Outcome | None,
    receipts: Iterable[Receipt],
    *,
    live_created: datetime | None,
    check: Callable[[IndexPrefix], IndexManifest],
    others: Callable[[], str],
) -> Pick:
    """The build that served last before the live one.

    If the live commit never went live, that is what has been serving on. Else it is the build that served most
    recently of those older than the live one: going by age too, a second rollback goes further back instead of
    returning to the build that the first one left.

    outcome: of the live commit, None while it is waiting. receipts: of its target, newest first. live_created: when
    the live build was made, None if nobody knows. check: gives the manifest of a whole build, or raises
    `PermanentError`. others: says which builds there are besides the live one. Raises `NothingServed`.
    """
    left = live.commit.index_prefix if live.commit else None
    passed_over: list[str] = []
    met: set[IndexPrefix] = set()
    served_on: bool | None = None
    for receipt in receipts:
        prefix = receipt.index_prefix
        if receipt.outcome is not Outcome.SERVED or prefix is None:
            continue
        if served_on is None:  # the newest that served is what serves now
            served_on = prefix != left and (left is None or outcome in _FAILED)
        if prefix == left or prefix in met:
            continue
        met.add(prefix)
        try:
            manifest = check(prefix)
        except PermanentError as error:
            passed_over.append(f"{prefix} can't be served any more ({error})")
            continue
        if not served_on and live_created is not None and manifest.created >= live_created:
            passed_over.append(f"{prefix} is newer than the live build")
            continue
        return Pick(manifest, _why(live, outcome, receipt, served_on=served_on and not passed_over), tuple(passed_over))
    raise NothingServed(sentence(_nothing(live, passed_over), others()))


def _why(live: Live, outcome: Outcome | None, receipt: Receipt, *, served_on: bool) -> str:
    when = f"generation {receipt.generation}, {receipt.finished:%Y-%m-%d %H:%M:%SZ}"
    if served_on and live.commit is None:
        return f"there is no live commit that can be read, and this build has been serving since {when}"
    if served_on:
        return f"the live commit was {outcome}, and this build has been serving on since {when}"
    return f"of the builds older than the live one, this one served most recently ({when})"


def _nothing(live: Live, passed_over: list[str]) -> str:
    target = live.target
    found = f"passed over: {'; '.join(passed_over)}; " if passed_over else ""
    return (
        f"{target.receipts_prefix}: by its newest receipts (at most {RECEIPTS_READ}) there is no build to go back to; "
        f"{found}name a build: indexpush rollback {target.index} --to <build> --environment {target.environment}"
    )
