"""Looks at one index: level-triggered, so whatever asked for the look, it has the live commit deployed, or nothing."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from model_repository.bucket.store import Store
from model_repository.builds import check_build, served_last
from model_repository.clock import Clock
from model_repository.deployment import AnswerOutcome, DeploymentRequest
from model_repository.documents.commit import Commit, LiveCommit
from model_repository.documents.receipts.receipt import Outcome, Receipt
from model_repository.errors import DocumentMalformed, ObjectMissing, PermanentError, TransientError
from model_repository.names import Target
from model_repository.notify import Event as Told
from model_repository.notify import Notice, Notifier, NotifyRefused
from model_repository.repository import Live, read_live, read_receipt, write_receipt
from model_repository.telemetry.log import Log
from model_repository.telemetry.spans import Kind, note, note_failure, span
from on_commit.compare import COMMIT_LOST, FINDINGS, Compared
from on_commit.filters import FILTER_WAITS
from on_commit.incidents import Incidents
from on_commit.webhook import EnvironmentUnknown, Webhook, WebhookAnswer, WebhookFault, WebhookNotNow, WebhookRefused

DEPLOYMENT_GONE = "deployment-gone"


class Deployer:
    """Looks at one index at a time. May be used from several threads."""

    def __init__(self, store: Store, webhook: Webhook, notifier: Notifier, clock: Clock, incidents: Incidents) -> None:
        """Make the deployer of one Model Repository."""
        self._store = store
        self._webhook = webhook
        self._notifier = notifier
        self._clock = clock
        self._incidents = incidents

    def look(self, target: Target, log: Log, seen: Compared | None = None) -> dict[str, str]:
        """Have the live commit of `target` deployed, or refuse it, or leave it: it was refused before.

        seen: how the cluster differs, where a sweep looked. If it has nothing of it, or no pod since all that it was
        asked for was taken back, what served last is restored, where the live commit failed.

        Returns when there is nothing left to do: what a sweep tells of, by code. Raises `TransientError` when another
        look may do better; that it lasts is noted. Eight reads of the bucket while all is well and the build has one
        model.
        """
        log = log.bind(environment=target.environment, index=target.index)
        try:
            with span("commit", Kind.CONSUMER, index=target.index, environment=target.environment):
                found = self._look(target, log, seen or Compared())
        except WebhookFault as fault:
            self._incidents.of_environment(target.environment, {fault.code: str(fault)}, log)
            self._incidents.of_index(target, {}, _is_before_webhook, log)
            raise
        except TransientError as fault:
            looked_for = _is_fault if isinstance(fault, WebhookNotNow) else _is_before_webhook
            self._incidents.of_index(target, {fault.code: str(fault)}, looked_for, log)
            raise
        self._incidents.of_index(target, {}, _is_fault, log)
        return found

    def misnamed(self, name: str, error: PermanentError, log: Log) -> None:
        """Tell of a commit object that nobody will ever act on."""
        said = f"{name}: {error}; upload it under another name, and delete this one"
        log.error(f"refused: {said}", code=error.code, commit=name)
        self._tell(Notice(Told.REJECTED, self._store.bucket, name, error.code, said), log)

    def _look(self, target: Target, log: Log, seen: Compared) -> dict[str, str]:
        found = read_live(self._store, target)
        if not found.generation:
            log.info(f"{target.commit_name} is gone: nothing to deploy, and what serves goes on serving")
            return {}
        log = log.bind(generation=found.generation)
        note(generation=str(found.generation))
        before = self._outcome(target, found.generation, log)
        # One that was undone would be tried again where what served before was restored meanwhile.
        ended = before in {Outcome.REJECTED, Outcome.UNDONE}
        if ended:
            log.info(f"{target} commit {found.generation} was {before}: it is not tried again")
        refused = None if ended else self._deploy(found, log)
        if (seen.gone or seen.stopped) and (ended or refused is not None):
            if lost := self._restore(target, found.generation, seen, log):
                return {COMMIT_LOST: lost}
        elif seen.gone and before is Outcome.SERVED:
            self._tell_gone(target, f"commit {found.generation} is deployed again", log)
        if before is not Outcome.SERVED:  # its own receipt says what became of it
            return {}
        if refused is not None:
            return {COMMIT_LOST: f"commit {found.generation} served once, and can't be deployed again: {refused}"}
        if seen.taken_back:
            return {COMMIT_LOST: f"commit {found.generation} served once, and does no more: {seen.taken_back}"}
        return {}

    def _outcome(self, target: Target, generation: int, log: Log) -> Outcome | None:
        try:
            return read_receipt(self._store, target, generation).outcome
        except ObjectMissing:
            return None
        except DocumentMalformed as error:
            log.warning(f"a receipt can't be read: {error}", code=error.code)
            return None

    def _deploy(self, found: Live, log: Log) -> PermanentError | None:
        """Ask for the deployment of the commit, or refuse it; returns why."""
        target, commit, started = found.target, found.commit, self._clock.now()
        try:
            if commit is None:
                raise DocumentMalformed(target.commit_name, f"{found.malformed}; correct it, and upload it again")
            live = LiveCommit(target, found.generation, commit)
            with span("check build", build=str(commit.index_prefix)):
                build = check_build(self._store, commit.index_prefix)
            if self._replaced(live, started, log):
                return None
            answer = self._webhook.send(DeploymentRequest.of(live, build, bucket=self._store.bucket))
        except PermanentError as error:
            if (
                commit is not None
                and not isinstance(error, WebhookRefused)
                and self._rolls_out(target, found.generation)
            ):
                log.warning(f"it was taken up, and since then: {error}", code=error.code)
                return None
            receipt = self._receipt(Outcome.REJECTED, target, found.generation, commit, started, error)
            self._refuse(receipt, log)
            return error
        _log_answer(live, answer, log)
        return None

    def _rolls_out(self, target: Target, generation: int) -> bool:
        """Whether the cluster was asked for that commit, when its build was whole: it may serve yet."""
        try:
            status = (self._webhook.statuses(target.environment) or {}).get(target.index)
        except EnvironmentUnknown:  # nobody was
            return False
        return status is not None and status.generation == generation

    def _replaced(self, live: LiveCommit, started: datetime, log: Log) -> bool:
        """Whether another commit stands there by now: that one's event follows, and this one's receipt says so.

        A cd_webhook is asked all the same: it sees that for itself, and knows whether this one is rolling out already
        and may yet serve. A Spinnaker would deploy it.
        """
        now = self._store.stat(live.target.commit_name)
        if now is not None and now.generation == live.generation:
            return False
        if self._webhook.statuses(live.target.environment) is not None:
            return False
        detail = f"commit {now.generation} stands there now" if now else "the commit was deleted"
        receipt = self._receipt(Outcome.SUPERSEDED, live.target, live.generation, live.commit, started, None)
        write_receipt(self._store, replace(receipt, detail=detail))
        log.info(f"not asked for: {detail}", outcome=str(Outcome.SUPERSEDED))
        return True

    def _restore(self, target: Target, live_generation: int, seen: Compared, log: Log) -> str:
        """Ask for the build that served last, since the cluster runs nothing and the live commit can't be deployed.

        Returns why nothing serves, if the webhook refuses that, or it was tried before; else nothing.
        """
        found = served_last(self._store, target)
        if found is None:
            log.error(f"{target}: nothing is left that served and could be restored; commit a good build")
            return ""
        live, build = found
        request = replace(DeploymentRequest.of(live, build, bucket=self._store.bucket), restores=live_generation)
        try:
            answer = self._webhook.send(request)
        except WebhookRefused as error:
            return f"what served last can't be restored: {error}"
        _log_answer(live, answer, log)
        if seen.stopped:
            return f"nothing of {target.index} serves, and what served last is tried again: {seen.taken_back}"
        if answer.said is not AnswerOutcome.ACCEPTED:  # somebody was quicker, and tells
            return ""
        how = f"its live commit can't be deployed, and {live.commit.index_prefix}, which served last, is restored"
        self._tell_gone(target, how, log)
        return ""

    def _tell_gone(self, target: Target, how: str, log: Log) -> None:
        said = f"the Deployment of {target.index} was gone; {how}"
        log.error(said, code=DEPLOYMENT_GONE)
        name = target.commit_name
        notice = Notice(Told.FAULT, self._store.bucket, name, DEPLOYMENT_GONE, said, target.environment, target.index)
        self._tell(notice, log)

    def _receipt(  # noqa: PLR0917 - what a receipt says
        self,
        outcome: Outcome,
        target: Target,
        generation: int,
        commit: Commit | None,
        started: datetime,
        error: PermanentError | None,
    ) -> Receipt:
        """What is said of a commit. commit: None if it couldn't be read."""
        return Receipt(
            target=target,
            generation=generation,
            outcome=outcome,
            index_prefix=commit.index_prefix if commit else None,
            detail=str(error or ""),
            started=started,
            finished=self._clock.now(),
            code=error.code if error else "",
            by=commit.by if commit else "",
            reason=commit.reason if commit else "",
        )

    def _refuse(self, receipt: Receipt, log: Log) -> None:
        """Publish the refusal, then leave the receipt: whoever dies between the two tells of it again, not never.

        Whoever wrote the receipt that is there already did the same: the webhook, or an earlier look.
        """
        prefix = receipt.index_prefix and str(receipt.index_prefix)
        note(outcome=str(receipt.outcome))
        note_failure(receipt.code, receipt.detail)
        log.error(f"refused: {receipt.detail}", code=receipt.code, outcome=str(receipt.outcome), index_prefix=prefix)
        if self._store.stat(receipt.target.receipt_name(receipt.generation)) is None:
            self._tell(Notice.of_receipt(self._store.bucket, receipt), log, receipt.target)
            write_receipt(self._store, receipt)

    def _tell(self, notice: Notice, log: Log, target: Target | None = None) -> None:
        """Publish; a topic that goes on refusing keeps nothing else away. target: whose incident that is, if any."""
        try:
            self._notifier.publish(notice)
        except NotifyRefused as error:
            if target is not None and not self._incidents.lasts(target, error.code, log):
                raise
            log.error(f"not published: {error}", code=error.code)


def _log_answer(live: LiveCommit, answer: WebhookAnswer, log: Log) -> None:
    note(outcome=str(answer.said), build=str(live.commit.index_prefix))
    detail = f" ({answer.detail})" if answer.detail else ""
    log.info(
        f"{answer.said}: {live.target} -> {live.commit.index_prefix}{detail}",
        outcome=str(answer.said),
        index_prefix=str(live.commit.index_prefix),
        webhook_event_id=answer.event_id,
    )


def _is_fault(code: str) -> bool:
    """Whether it is something that a look at one index may meet; the others are a sweep's to find."""
    return code not in FINDINGS and code != FILTER_WAITS


def _is_before_webhook(code: str) -> bool:
    """Whether a look meets it before it asks the webhook: who ends sooner, or finds nobody there, knows no other."""
    return _is_fault(code) and code != WebhookNotNow.code
