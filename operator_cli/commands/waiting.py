"""Waiting for what becomes of a commit."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta

from model_repository.bucket.store import Store
from model_repository.clock import Clock
from model_repository.documents.receipts.receipt import Outcome, Receipt
from model_repository.errors import DeliveryError, TransientError
from model_repository.exit_codes import ExitCode
from model_repository.names import Target
from model_repository.repository import read_live
from operator_cli.live import UnreadableReceipt, read_receipt_or_none

_FIRST_PAUSE = 0.25
_LONGEST_PAUSE = 3.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a commit, as far as it is known.

    outcome: None while nobody knows. detail: one sentence. seconds: from the start of the wait.
    """

    outcome: Outcome | None
    detail: str
    exit_code: ExitCode
    seconds: float


def wait_for_receipt(
    store: Store, target: Target, generation: int, *, patience: float, clock: Clock, tick: Callable[[float], None]
) -> Verdict:
    """Wait up to `patience` seconds for the receipt of the commit with that generation; never raises `DeliveryError`.

    The commit is written already, so a bucket that doesn't answer for a while is no reason to give up.
    tick: called before each pause with the seconds so far.
    """
    start = clock.now()
    pause, trouble = _FIRST_PAUSE, ""
    while True:
        passed = (clock.now() - start) / timedelta(seconds=1)
        try:
            verdict = _look(store, target, generation, passed)
            trouble = ""
        except TransientError as error:
            verdict, trouble = None, f" ({error})"
        except DeliveryError as error:
            return Verdict(None, f"the commit is written, but: {error}", error.exit_code, passed)
        if verdict is not None:
            return verdict
        if passed >= patience:
            return Verdict(None, _unknown(store, target, generation, passed, trouble), ExitCode.TRY_AGAIN, passed)
        tick(passed)
        clock.sleep(min(pause, max(patience - passed, 0.01)))
        pause = min(pause * 1.3, _LONGEST_PAUSE)


def _look(store: Store, target: Target, generation: int, passed: float) -> Verdict | None:
    receipt = read_receipt_or_none(store, target, generation)
    if receipt is None:
        by = _rolled_out_instead(store, target, generation)
        if by is None:
            return None
        receipt = read_receipt_or_none(store, target, generation)  # it may have gone live just before it was replaced
        if receipt is None:
            return Verdict(Outcome.SUPERSEDED, _replaced(by), ExitCode.NOT_LIVE, passed)
    if isinstance(receipt, UnreadableReceipt):
        return Verdict(None, receipt.why, ExitCode.DATA, passed)
    code = ExitCode.OK if receipt.outcome is Outcome.SERVED else ExitCode.NOT_LIVE
    return Verdict(receipt.outcome, receipt.detail, code, passed)


def _rolled_out_instead(store: Store, target: Target, generation: int) -> int | None:
    """The commit that rolled out in its place, so that its own rollout is over; None: it may still go live.

    That another commit stands there says little: this one may be rolling out while that one waits, or is refused.
    """
    live = read_live(store, target).generation
    after = None if live == generation else read_receipt_or_none(store, target, live)
    rolled_out = isinstance(after, Receipt) and after.outcome in {Outcome.SERVED, Outcome.UNDONE}
    return live if rolled_out else None


def _replaced(generation: int) -> str:
    return f"commit generation {generation} rolled out in its place, and nobody said that this one went live"


def _unknown(store: Store, target: Target, generation: int, passed: float, trouble: str) -> str:
    look = f"indexpush status {target.index} --environment {target.environment}"
    stands = "the commit stands, and may still go live"
    with suppress(DeliveryError):
        live = read_live(store, target).generation
        if live != generation:
            what = f"commit generation {live} stands there now" if live else "the commit was deleted"
            stands = f"{what}, and this one may be rolling out all the same"
    return f"no receipt after {passed:.0f} s{trouble}; {stands}: {look}"
