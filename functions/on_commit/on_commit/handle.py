"""What the function does: level-triggered, so an event of any age has the live commit deployed, or nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

from model_repository.commit import Commit, LiveCommit, parse_commit
from model_repository.deployment import AnswerOutcome
from model_repository.errors import NameRefused, ObjectMissing, PermanentError, TransientError
from model_repository.names import Target
from model_repository.receipt import Outcome, Receipt
from model_repository.repository import read_commit_object, read_receipt, write_receipt
from model_repository.store import Store
from on_commit.build import check_build
from on_commit.event import COMMITS, Asked, Look, Misnamed, NotOurs, Sweep
from on_commit.log import Journal
from on_commit.notify import Notifier, Report
from on_commit.webhook import Answer, Webhook, WebhookRefused

Clock = Callable[[], datetime]
"""The time now, in UTC."""


@dataclass(frozen=True, slots=True)
class Refused:
    """A commit that can't be deployed as it stands.

    generation: 0 if it isn't known. commit: None if it couldn't be read.
    """

    target: Target
    generation: int
    commit: Commit | None
    error: PermanentError
    started: datetime


class Handler:
    """Handles events. May be used from several threads at a time."""

    def __init__(self, store: Store, webhook: Webhook, notifier: Notifier, clock: Clock) -> None:
        """Make the handler of one Model Repository."""
        self._store = store
        self._webhook = webhook
        self._notifier = notifier
        self._clock = clock

    def handle(self, asked: Asked, journal: Journal, *, traceparent: str = "") -> None:
        """Do what an event asks for.

        Returns when there is nothing left to do: deployed, refused for good and reported, or nothing of ours. Raises
        `TransientError` when another delivery of the event may do better.
        """
        match asked:
            case NotOurs(why):
                journal.info(f"passed over: {why}")
            case Misnamed(name, error):
                journal.error(f"refused: {error}", code=error.code, commit=name)
                self._report(Report(self._store.bucket, name, 0, None, None, error.code, str(error)), journal)
            case Look(target):
                self._look(target, journal, traceparent)
            case Sweep():
                self._sweep(journal, traceparent)

    def _look(self, target: Target, journal: Journal, traceparent: str) -> None:
        journal = journal.bind(environment=target.environment, index=target.index)
        started = self._clock()
        try:
            stored = read_commit_object(self._store, target)
        except ObjectMissing:
            journal.info(f"{target.commit_name} is gone: nothing to deploy, and what serves goes on serving")
            return
        except PermanentError as error:  # too large, or not for us to read
            self._refuse(Refused(target, self._generation(target), None, error, started), journal)
            return
        journal = journal.bind(generation=stored.generation)
        commit: Commit | None = None
        try:
            commit = parse_commit(stored.data, target)
            live = LiveCommit(target, stored.generation, commit)
            answer = self._webhook.send(check_build(self._store, live), traceparent=traceparent)
            self._tell(live, answer, journal)
        except PermanentError as error:
            self._refuse(Refused(target, stored.generation, commit, error, started), journal)

    def _generation(self, target: Target) -> int:
        """The generation of a commit that can't be read; 0 if the bucket doesn't tell."""
        try:
            info = self._store.stat(target.commit_name)
        except PermanentError:
            return 0
        return info.generation if info else 0

    def _sweep(self, journal: Journal, traceparent: str) -> None:
        """Look at every commit but those that were refused: a receipt is the last word on a generation."""
        failures: list[TransientError] = []
        looked = 0
        for info in self._store.listing(COMMITS):
            try:
                target = Target.from_commit_name(info.name)
            except NameRefused:
                continue  # reported when it was uploaded
            try:
                if not self._was_refused(target, info.generation, journal):
                    self._look(target, journal, traceparent)
                    looked += 1
            except TransientError as error:
                journal.warning(
                    f"not now: {error}", code=error.code, environment=target.environment, index=target.index
                )
                failures.append(error)
        journal.info(f"swept: looked at {looked} commits, {len(failures)} to be tried again", looked=looked)
        if failures:
            raise failures[0]

    def _was_refused(self, target: Target, generation: int, journal: Journal) -> bool:
        try:
            return read_receipt(self._store, target, generation).outcome is Outcome.REJECTED
        except ObjectMissing:
            return False
        except PermanentError as error:
            journal.warning(f"a receipt can't be read: {error}", code=error.code)
            return False

    def _tell(self, live: LiveCommit, answer: Answer, journal: Journal) -> None:
        """Log what the webhook said; raises `WebhookRefused` if it refused."""
        if answer.said is AnswerOutcome.REJECTED:
            raise WebhookRefused(answer.detail or "the CD webhook rejected it and didn't say why; see its log")
        if not answer.understood:
            journal.warning("the webhook's answer is not a CD webhook's: check what stands at CD_WEBHOOK_URL")
        journal.info(
            f"{answer.said}: {live.target} -> {live.commit.index_prefix}"
            + (f" ({answer.detail})" if answer.detail else ""),
            outcome=str(answer.said),
            index_prefix=str(live.commit.index_prefix),
            webhook_event_id=answer.event_id,
        )

    def _refuse(self, refused: Refused, journal: Journal) -> None:
        """Leave a receipt and publish a report; neither is lost because the other failed."""
        error, target, commit = refused.error, refused.target, refused.commit
        prefix = commit.index_prefix if commit else None
        journal.error(f"refused: {error}", code=error.code, outcome="rejected", index_prefix=prefix and str(prefix))
        receipt = Receipt(
            target=target,
            generation=refused.generation,
            outcome=Outcome.REJECTED,
            index_prefix=prefix,
            detail=str(error),
            started=refused.started,
            finished=self._clock(),
            code=error.code,
            by=commit.by if commit else "",
            reason=commit.reason if commit else "",
        )
        report = Report(
            self._store.bucket, target.commit_name, refused.generation, target, prefix, error.code, str(error)
        )
        try:
            if refused.generation:  # receipts are named after it
                self._leave(receipt, journal)
        finally:
            self._report(report, journal)

    def _leave(self, receipt: Receipt, journal: Journal) -> None:
        with _told_if_permanent("no receipt", journal):
            write_receipt(self._store, receipt)

    def _report(self, report: Report, journal: Journal) -> None:
        with _told_if_permanent("no report", journal):
            self._notifier.publish(report)


@contextmanager
def _told_if_permanent(what: str, journal: Journal) -> Iterator[None]:
    """Log a failure that no retry mends; let one that may pass through."""
    try:
        yield
    except PermanentError as error:
        journal.error(f"{what}: {error}", code=error.code)
