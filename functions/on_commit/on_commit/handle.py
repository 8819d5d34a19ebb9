"""What the function does: level-triggered, so an event of any age has the live commit deployed, or nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

from model_repository.builds import check_build
from model_repository.clock import Clock
from model_repository.deployment import AnswerOutcome, DeploymentRequest
from model_repository.documents.commit import Commit, LiveCommit, parse_commit
from model_repository.documents.receipt import Outcome, Receipt
from model_repository.errors import ObjectMissing, PermanentError, TransientError
from model_repository.log import Log
from model_repository.names import Target
from model_repository.repository import list_commits, read_commit_object, read_receipt, write_receipt
from model_repository.store import Store
from on_commit.event import CommitUploaded, Event, Misnamed, Sweep, Unrelated
from on_commit.notify import Notifier, Refusal
from on_commit.webhook import Webhook, WebhookAnswer, WebhookRefused


class Handler:
    """Handles events. May be used from several threads at a time."""

    def __init__(self, store: Store, webhook: Webhook, notifier: Notifier, clock: Clock) -> None:
        """Make the handler of one Model Repository."""
        self._store = store
        self._webhook = webhook
        self._notifier = notifier
        self._clock = clock

    def handle(self, event: Event, log: Log) -> None:
        """Do what an event asks for.

        Returns when there is nothing left to do: deployed, refused for good and told of, or nothing of ours. Raises
        `TransientError` when another delivery of the event may do better.
        """
        match event:
            case Unrelated(why):
                log.info(f"passed over: {why}")
            case Misnamed(name, error):
                log.error(f"refused: {error}", code=error.code, commit=name)
                with _logged_if_permanent("not published", log):
                    self._notifier.publish(Refusal(self._store.bucket, name, error.code, str(error)))
            case CommitUploaded(target):
                self._deploy(target, log)
            case Sweep():
                self._sweep(log)

    def _deploy(self, target: Target, log: Log) -> None:
        """Have the live commit deployed, or refuse it; five reads of the bucket while all is well."""
        log = log.bind(environment=target.environment, index=target.index)
        started = self._clock.now()
        try:
            stored = read_commit_object(self._store, target)
        except ObjectMissing:
            log.info(f"{target.commit_name} is gone: nothing to deploy, and what serves goes on serving")
            return
        except PermanentError as error:  # too large, or not for us to read
            self._refuse(self._rejected(error, target, self._generation(target), None, started), log)
            return
        log = log.bind(generation=stored.generation)
        commit: Commit | None = None
        try:
            commit = parse_commit(stored.data, target)
            live = LiveCommit(target, stored.generation, commit)
            build = check_build(self._store, commit.index_prefix)
            answer = self._webhook.send(DeploymentRequest.of(live, build, bucket=self._store.bucket))
            _accept(live, answer, log)
        except PermanentError as error:
            self._refuse(self._rejected(error, target, stored.generation, commit, started), log)

    def _generation(self, target: Target) -> int:
        """The generation of a commit that can't be read; 0 if the bucket doesn't tell."""
        try:
            info = self._store.stat(target.commit_name)
        except PermanentError:
            return 0
        return info.generation if info else 0

    def _sweep(self, log: Log) -> None:
        """Look at every commit but those that were refused: a receipt is the last word on a generation."""
        failures: list[TransientError] = []
        looked = 0
        for found in list_commits(self._store):
            target = found.target
            if target is None:  # told of when it was uploaded
                continue
            try:
                if not self._was_refused(target, found.generation, log):
                    self._deploy(target, log)
                    looked += 1
            except TransientError as error:
                log.warning(f"not now: {error}", code=error.code, environment=target.environment, index=target.index)
                failures.append(error)
        log.info(f"swept: looked at {looked} commits, {len(failures)} to be tried again", looked=looked)
        if failures:
            raise failures[0]

    def _was_refused(self, target: Target, generation: int, log: Log) -> bool:
        try:
            return read_receipt(self._store, target, generation).outcome is Outcome.REJECTED
        except ObjectMissing:
            return False
        except PermanentError as error:
            log.warning(f"a receipt can't be read: {error}", code=error.code)
            return False

    def _rejected(
        self, error: PermanentError, target: Target, generation: int, commit: Commit | None, started: datetime
    ) -> Receipt:
        """What is said of a refused commit. generation: 0 if it isn't known. commit: None if it couldn't be read."""
        return Receipt(
            target=target,
            generation=generation,
            outcome=Outcome.REJECTED,
            index_prefix=commit.index_prefix if commit else None,
            detail=str(error),
            started=started,
            finished=self._clock.now(),
            code=error.code,
            by=commit.by if commit else "",
            reason=commit.reason if commit else "",
        )

    def _refuse(self, receipt: Receipt, log: Log) -> None:
        """Leave the receipt and publish the refusal; neither is lost because the other failed."""
        prefix = receipt.index_prefix and str(receipt.index_prefix)
        log.error(f"refused: {receipt.detail}", code=receipt.code, outcome=str(receipt.outcome), index_prefix=prefix)
        try:
            if receipt.generation:  # receipts are named after it
                with _logged_if_permanent("no receipt", log):
                    write_receipt(self._store, receipt)
        finally:
            with _logged_if_permanent("not published", log):
                self._notifier.publish(Refusal.of(self._store.bucket, receipt))


def _accept(live: LiveCommit, answer: WebhookAnswer, log: Log) -> None:
    """Log what the webhook said; raises `WebhookRefused` if it refused."""
    if answer.said is AnswerOutcome.REJECTED:
        raise WebhookRefused(answer.detail or "the CD webhook rejected it and didn't say why; see its log")
    if not answer.understood:
        log.warning("the webhook's answer is not a CD webhook's: check what stands at CD_WEBHOOK_URL")
    detail = f" ({answer.detail})" if answer.detail else ""
    log.info(
        f"{answer.said}: {live.target} -> {live.commit.index_prefix}{detail}",
        outcome=str(answer.said),
        index_prefix=str(live.commit.index_prefix),
        webhook_event_id=answer.event_id,
    )


@contextmanager
def _logged_if_permanent(what: str, log: Log) -> Iterator[None]:
    """Log a failure that no retry mends; let one that may pass through."""
    try:
        yield
    except PermanentError as error:
        log.error(f"{what}: {error}", code=error.code)
