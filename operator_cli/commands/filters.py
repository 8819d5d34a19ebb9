"""``indexpush filter``: what is hidden of an index, and whether that is in force; or hide what a file lists."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from model_repository.bucket.store import Store
from model_repository.documents.items.item_filter import LiveFilter
from model_repository.documents.receipts.filter_receipt import FilterOutcome, FilterReceipt
from model_repository.errors import DocumentMalformed, ObjectMissing, TransientError
from model_repository.exit_codes import ExitCode
from model_repository.names import Target
from model_repository.repository import read_filter_receipt, read_live_filter, write_filter
from operator_cli.context import Context
from operator_cli.errors import UsageRefused
from operator_cli.live import commit_missing

_PAUSE_SECONDS = 0.5
_PATIENCE_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class FilterStatus:
    """live: None: there is no filter. receipt: None: nobody has said yet what became of it."""

    target: Target
    live: LiveFilter | None
    receipt: FilterReceipt | None

    @property
    def exit_code(self) -> ExitCode:
        """Of waiting for it."""
        if self.receipt is None:
            return ExitCode.TRY_AGAIN
        return ExitCode.OK if self.receipt.outcome is FilterOutcome.APPLIED else ExitCode.NOT_LIVE


def look(store: Store, target: Target) -> FilterStatus:
    """Read what is hidden now. Raises `DocumentMalformed` for a filter that makes no sense.

    `CommitMissing` is an index without a filter that isn't there itself.
    """
    try:
        live = read_live_filter(store, target)
    except ObjectMissing:
        if store.stat(target.commit_name) is None:
            raise commit_missing(store, target) from None
        return FilterStatus(target, None, None)
    return FilterStatus(target, live, _receipt(store, target, live.generation))


def hide(store: Store, target: Target, file: str, *, by: str, reason: str) -> FilterStatus:
    """Hide exactly the items that a file lists, an id on each line; ``-``: standard input; empty: nothing any more.

    Raises UsageRefused for a file that can't be read, and what the store does.
    """
    return FilterStatus(target, write_filter(store, target, _ids(file), by=by, reason=reason), None)


def wait(store: Store, status: FilterStatus, context: Context, patience: float) -> FilterStatus:
    """Wait for the receipt. patience: seconds, or 0 for a minute.

    The list is written already, so a bucket that doesn't answer for a while is no reason to give up.
    """
    if status.live is None:
        return status
    generation, start = status.live.generation, context.clock.now()
    while True:
        receipt = None
        with suppress(TransientError):
            receipt = _receipt(store, status.target, generation)
        waited = (context.clock.now() - start) / timedelta(seconds=1)
        if receipt is not None or waited >= (patience or _PATIENCE_SECONDS):
            context.clear_transient()
            return FilterStatus(status.target, status.live, receipt)
        context.transient(f"waiting for {status.target.filter_receipt_name(generation)} ({waited:.0f} s)")
        context.clock.sleep(_PAUSE_SECONDS)


def for_people(status: FilterStatus) -> str:
    """The same in words."""
    if status.live is None:
        return f"{status.target}: nothing is hidden: {status.target.filter_name} isn't there"
    found = status.live.filter
    who = "".join(f"  {name:<11} {text}\n" for name, text in (("by", found.by), ("reason", found.reason)) if text)
    said = "waiting: nobody has said yet whether it is in force"
    if status.receipt is not None:
        detail = f": {status.receipt.detail}" if status.receipt.detail else ""
        said = f"{status.receipt.outcome} on {status.receipt.pods} pod{'' if status.receipt.pods == 1 else 's'}{detail}"
    hidden = f"{found.hidden} item{' is' if found.hidden == 1 else 's are'} hidden"
    return f"{status.target}: {hidden}, generation {status.live.generation}\n{who}  {said}"


def for_programs(status: FilterStatus) -> dict[str, Any]:
    """The same as JSON; what isn't known is null."""
    live, receipt = status.live, status.receipt
    return {
        "environment": status.target.environment,
        "index": status.target.index,
        "generation": live.generation if live else None,
        "hidden": live.filter.hidden if live else 0,
        "by": live.filter.by if live else "",
        "reason": live.filter.reason if live else "",
        "outcome": receipt.outcome.value if receipt else None,
        "pods": receipt.pods if receipt else None,
        "detail": receipt.detail if receipt else None,
    }


def _receipt(store: Store, target: Target, generation: int) -> FilterReceipt | None:
    try:
        return read_filter_receipt(store, target, generation)
    except (ObjectMissing, DocumentMalformed):
        return None


def _ids(file: str) -> Iterator[str]:
    try:
        data = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
        text = data.decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageRefused(f"--hide: {file}: can't be read ({error}); name a file with an id on each line") from error
    # ids may hold what Python takes for the end of a line, such as U+2028: only LF is one
    return (line for each in text.split("\n") if (line := each.removesuffix("\r")))
