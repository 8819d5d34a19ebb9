"""The sequence: decide, render, apply; then step by step until it serves or is undone; then the receipt.

Every write names the version that its decision was made on. Where somebody else wrote first, the answer is `Conflict`,
and the whole decision is made anew, so two webhooks, or two deliveries, can't both win. Any step may be the last one
before a crash: `advance` goes on from what the Deployment says.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from cd_webhook.canary import Canaries, tried_out
from cd_webhook.cluster import BeingDeleted, Cluster, ClusterRefused, Conflict, Object, name_of, version_of
from cd_webhook.delivery.ensure import ensure, owned
from cd_webhook.delivery.observed import Observed, ends_by
from cd_webhook.delivery.receipts import Receipts
from cd_webhook.delivery.step import Step
from cd_webhook.rules import plan
from cd_webhook.rules.decide import (
    AlreadyDeployed,
    Decision,
    Deploy,
    Refuse,
    Situation,
    Superseded,
    TakeBack,
    TryOut,
    Wait,
    check_addressee,
    decide,
)
from cd_webhook.rules.pods import is_ready
from cd_webhook.rules.rollout import Failed, Progressing, Served, judge, new_pods
from cd_webhook.state import Deployed, Rollout, Trial, changed, format_receipts, marks, read_deployed
from cd_webhook.state.annotations import RECEIPTS_OWED
from cd_webhook.telemetry import spans
from manifests.metadata import MANAGER, is_ours
from manifests.render import Rendered
from model_repository.bucket.store import Store
from model_repository.builds import served_last
from model_repository.clock import Clock
from model_repository.deployment import AnswerOutcome, DeploymentRequest
from model_repository.documents.receipts.receipt import Receipt
from model_repository.errors import DeliveryError, DocumentMalformed, PermanentError, SetupFault, TransientError
from model_repository.names import Target
from model_repository.telemetry.log import Log
from model_repository.telemetry.spans import Kind, note, span, traceparent

_TRIES = 25
"""How often a decision is made anew when others write meanwhile; a busy rollout changes its status often."""
_LATE = timedelta(minutes=30)
"""After its end a rollout holds back nobody who waits for it; clocks of two machines differ by less."""
_MOST_OWED = 50
_MOST_OWED_BYTES = 96 * 1024
"""Of receipts; they stand in an annotation beside four specs, and Kubernetes takes 256 KiB of those in all."""


class ReceiptsOwed(TransientError, code="receipts-owed"):
    """The bucket takes no receipts, so nothing new is taken up that would owe more."""


class ValuesFault(SetupFault, code="values-fault"):
    """The values of the environment, or the templates, make no Deployment."""


class Rejected(PermanentError, code="rejected"):
    """The last word on a request: its receipt is written. why: what was wrong, with the code."""

    def __init__(self, why: PermanentError) -> None:
        super().__init__(str(why))
        self.why = why


@dataclass(frozen=True, slots=True)
class DeliveryResult:
    """What became of a delivery, and one sentence about it."""

    outcome: AnswerOutcome
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """Acts on decisions, for the indexes of one environment.

    render: what the templates make of a request. receipts: of what this ends.
    """

    environment: str
    cluster: Cluster
    store: Store
    render: Callable[[DeploymentRequest], Rendered]
    canaries: Canaries
    clock: Clock
    log: Log
    receipts: Receipts
    observed: Observed = field(default_factory=Observed)

    def deliver(self, request: DeploymentRequest) -> DeliveryResult:
        """Start the rollout of `request`, if it is the live commit's. Returns as soon as the cluster has taken it.

        Raises `Rejected` (after writing the receipt) when the request can never be applied, `DocumentMalformed` when it
        isn't for this webhook, `TransientError` when another try may pass.
        """
        with span("delivery", Kind.SERVER, parent=request.traceparent, **spans.about(request)):
            result = self._deliver(replace(request, traceparent=traceparent() or request.traceparent))
            note(outcome=result.outcome.value)
            return result

    def _deliver(self, request: DeploymentRequest) -> DeliveryResult:
        if refused := check_addressee(request, self.environment, self.store.bucket):
            raise DocumentMalformed(refused.what, refused.why)
        for attempt in range(_TRIES):
            try:
                return self._deliver_once(request)
            except Conflict:
                self.clock.sleep(random.uniform(0, 0.02 * min(attempt, 10)))  # noqa: S311 - only to spread rivals
        raise Conflict(f"Deployment {request.target.index}: written by others {_TRIES} times in a row; try again")

    def _deliver_once(self, request: DeploymentRequest) -> DeliveryResult:
        # In this order: the write is guarded by the Deployment's version, so what the bucket said after that was read
        # can't be older than what anybody else has acted on since.
        live = self._staying(request.target.index)
        committed = self.store.stat(request.target.commit_name)
        before = read_deployed(live)
        is_shadow = request.target.is_shadow_of(request.index_prefix)
        situation = self._situation(live, before, committed.generation if committed else None, is_shadow=is_shadow)
        try:
            return self._act(request, live, before, situation)
        except PermanentError as error:
            self.receipts.reject(request, error, live)
            raise Rejected(error) from error

    def _staying(self, index: str) -> Object | None:
        """The Deployment; raises `BeingDeleted` where somebody deleted it and it isn't gone yet."""
        live = self.cluster.deployment(index)
        if live is not None and (leaving := _leaving(live)):
            raise BeingDeleted(f"{leaving}; it is made again after that")
        return live

    def _act(
        self, request: DeploymentRequest, live: Object | None, before: Deployed, situation: Situation
    ) -> DeliveryResult:
        now = self.clock.now()
        match _affordable(decide(request, situation), before, request.target):
            case Refuse(what, why):
                raise DocumentMalformed(what, why)
            case AlreadyDeployed(how):
                return DeliveryResult(AnswerOutcome.ALREADY_DEPLOYED, how)
            case Superseded(by):
                receipt = plan.superseded(request, by, started=now, now=now)
                self._supersede(receipt, live, before)
                return DeliveryResult(AnswerOutcome.SUPERSEDED, receipt.detail)
            case Wait(behind):
                self._mark(_existing(live), plan.kept_waiting(before, request, now))
                said = f"{request.index_prefix} is taken up when commit {behind} has ended"
                return DeliveryResult(AnswerOutcome.ACCEPTED, said)
            case Deploy():
                written = self._roll_out(request, live, before, situation)
            case TryOut(rules):
                trial = Trial(rules, self._prepare(request, live)["spec"])
                written = self._mark(_existing(live), tried_out(before, request, trial, before.spec, now))
            case TakeBack(rules):
                trial, live = Trial(rules, self._prepare(request, live)["spec"]), _existing(live)
                after = plan.deployment_of(live, tried_out(before, request, trial, before.last_good_spec, now))
                after["spec"] = plan.as_scaled(after["spec"], before, live)
                written = self._apply(after, live)
        how = "as a canary" if read_deployed(written).rollout is Rollout.CANARY else "at once"
        self.log.info(f"rolling out {request.index_prefix} {how}", **_fields(request))
        try:
            self.receipts.settle(written)
        except Conflict:  # the rollout has begun: who watches it settles
            pass
        except DeliveryError as error:
            self.log.warning(f"receipts of {request.target} are still owed: {error}", **_fields(request))
        return DeliveryResult(
            AnswerOutcome.ACCEPTED, f"rolling out {request.index_prefix} as commit {request.generation}"
        )

    def _supersede(self, receipt: Receipt, live: Object | None, before: Deployed) -> None:
        """Write the receipt once nobody can take that commit up any more: whoever would writes at this version."""
        if live is None or before.rollout is Rollout.REWOUND:
            self.receipts.write(receipt, live)
        elif self.store.stat(receipt.target.receipt_name(receipt.generation)) is None:
            owed = marks(live, {RECEIPTS_OWED: format_receipts((*before.owed, receipt))})
            written = self.cluster.mark(name_of(live), owed, resource_version=version_of(live))
            with suppress(Conflict):  # it is written by then: who watches crosses it off
                self.receipts.settle(written)

    def _roll_out(
        self, request: DeploymentRequest, live: Object | None, before: Deployed, situation: Situation
    ) -> Object:
        rendered = self._prepare(request, live)
        after = plan.deployment_of(rendered, plan.begun(before, request, rendered["spec"], self.clock.now()))
        after["spec"] = plan.as_scaled(after["spec"], before, live)
        if live is not None:
            return self._apply(after, live)
        written = self._create(after, request, situation)
        self._stand_beside(request, self.render(request), written)
        return written

    def _create(self, value: Object, request: DeploymentRequest, situation: Situation) -> Object:
        """Create the Deployment, unless another commit is live by then.

        No version guards what isn't there: who stalled between reading and writing finds somebody's deletion, and not
        what was deployed before that.
        """
        written = self.cluster.create(value)
        committed = self.store.stat(request.target.commit_name)
        if committed is not None and committed.generation == situation.live_generation:
            return written
        self.cluster.delete(written)
        raise Conflict(f"Deployment {request.target.index}: another commit is live meanwhile; decide anew")

    def _situation(
        self, live: Object | None, deployed: Deployed, live_generation: int | None, *, is_shadow: bool
    ) -> Situation:
        return Situation(
            deployed,
            live_generation,
            exists=live is not None,
            foreign=live is not None and not is_ours(live),
            serving=plan.ready_pods(live),
            late=live is not None and _is_late(live, deployed, self.clock.now()),
            canary=None if is_shadow else self.canaries.rules,
        )

    def _prepare(self, request: DeploymentRequest, live: Object | None) -> Object:
        """The Deployment as the values and templates make it, once what stands beside it is there."""
        try:
            rendered = self.render(request)
        except PermanentError as error:  # it was parsed, so it isn't the request that is wrong
            raise ValuesFault(
                f"the environment's values make no Deployment of {request.index_prefix}: {error}"
            ) from error
        self._stand_beside(request, rendered, live)  # with a Service first, no Deployment lacks one
        return rendered.deployment

    def _stand_beside(self, request: DeploymentRequest, rendered: Rendered, live: Object | None) -> None:
        """Have Service and budget. An index's Service outlives its Deployment; a shadow's goes with it."""
        is_shadow = request.target.is_shadow_of(request.index_prefix)
        ensure(self.cluster, owned(rendered.service, live) if is_shadow else rendered.service)
        ensure(self.cluster, owned(rendered.budget, live))

    def withdraw(self, name: str) -> str:
        """Delete the Deployment of a shadow whose commit object is gone; returns what was done, for a person.

        Raises `DocumentMalformed` for what is no shadow, and what cluster and bucket raise, also `Conflict`.
        """
        live = self.cluster.deployment(name)
        if live is None:
            return f"{name}: nothing is there"
        asked = read_deployed(live).request
        if not is_ours(live) or asked is None or not asked.target.is_shadow_of(asked.index_prefix):
            raise DocumentMalformed(f"Deployment {name}", "is no shadow's, so it isn't deleted")
        # read after the Deployment, whose version guards what follows: who commits it anew deploys it anew
        if self.store.stat(asked.target.commit_name) is not None:
            return f"{name}: {asked.target.commit_name} is there, so it stays"
        self.cluster.delete(live)
        self.log.info(f"the shadow {name} is deleted: its commit is gone", index=name)
        return f"{name}: deleted, with its pods and Service"

    def advance(self, name: str) -> Step:
        """Take the rollout of the index `name` a step on: note that it serves, undo it, write receipts, or only look.

        Raises `TransientError`, also `Conflict`: try again.
        """
        live = self.cluster.deployment(name)
        if live is None:
            self.canaries.remove(name)
            return Step(finished=True, sentence="the Deployment is gone")
        if not is_ours(live):
            return Step(finished=True, sentence=f"Deployment {name} isn't managed by {MANAGER}")
        deployed, now = read_deployed(live), self.clock.now()
        if deployed.unaccepted:
            deployed = replace(deployed, accepted=live["spec"])
            live = self._mark(live, deployed)
        watched = self.observed.watched(name, deployed, now)
        try:
            live, step = self._advance(live, deployed, watched, now)
        except ClusterRefused as error:  # such as a policy: what it keeps from ending keeps nothing else waiting
            step = Step(finished=False, sentence=str(error))
        self.observed.looked(name)
        if step.finished:
            self.observed.forget(name)
        try:
            self.receipts.settle(live)
        except Conflict:
            raise
        except DeliveryError:  # what can't be written or told yet keeps nothing waiting
            if (taken_up := self._take_up(live)) is None:
                raise
            return taken_up
        return self._take_up(live) or step

    def _advance(self, live: Object, deployed: Deployed, watched: timedelta, now: datetime) -> tuple[Object, Step]:
        if leaving := _leaving(live):  # its pods go, which says nothing of a build
            return live, Step(finished=False, sentence=leaving, version=version_of(live))
        if deployed.rollout is Rollout.CANARY:
            return self.canaries.advance(live, deployed, watched, now)
        self.canaries.remove(name_of(live))
        if deployed.rollout is Rollout.REWOUND:
            self.receipts.note_rewound(live, deployed, now)
        if deployed.rollout is not Rollout.IN_PROGRESS:
            return live, Step(finished=True, sentence=deployed.rollout.value)
        request = plan.newest_of(deployed)
        pods = self.cluster.pods(name_of(live))
        verdict = judge(live, pods, watched=watched, now=now)
        match verdict:
            case Progressing(sentence):
                return live, Step(finished=False, sentence=sentence, version=version_of(live))
            case Served(sentence):
                live = self._mark(live, plan.served(deployed, live, now))
                self.log.info(f"{request.index_prefix} serves", **_fields(request))
            case Failed(_, sentence) if not deployed.last_good_spec and any(
                map(is_ready, new_pods(live["spec"], pods))
            ):
                # It serves with some of its pods, and nothing is known that could serve instead.
                said = f"{sentence}; nothing says what served before, so its pods that are ready serve on"
                return live, Step(finished=False, sentence=said, version=version_of(live))
            case Failed(code, sentence):
                live = self._undo(live, deployed, verdict, now)
                self.log.error(f"undone: {request.index_prefix}: {sentence}", code=code, **_fields(request))
        return live, Step(finished=True, sentence=sentence)

    def _undo(self, live: Object, deployed: Deployed, failed: Failed, now: datetime) -> Object:
        if deployed.last_good_spec is None and (deployed.last_good or plan.ready_pods(live)):
            # Pods serve, and what they served with isn't known: to stop them would be worse than to leave them.
            why = "what serves stays as it is, for nothing says what served before; commit a good build"
            return self._mark(live, plan.given_up(deployed, failed, why, deployed.figures, now))
        if deployed.last_good is None and deployed.waiting is None:
            deployed = replace(deployed, waiting=self._restoring(name_of(live), plan.newest_of(deployed)))
        after = plan.deployment_of(live, plan.undone(deployed, live, failed, now))
        if deployed.last_good_spec is not None:
            after["spec"] = plan.as_scaled(after["spec"], deployed, live)
        return self._apply(after, live)

    def _restoring(self, index: str, failed: DeploymentRequest) -> DeploymentRequest | None:
        """The request for what served before the Deployment was lost, in place of `failed`; None: nothing did.

        One that served once may fail now, too: then it is what served before that, so each is tried once.
        """
        target = Target(self.environment, index)
        found = served_last(self.store, target, before=failed.generation, but=failed.index_prefix)
        if found is None:
            return None
        request = DeploymentRequest.of(*found, bucket=self.store.bucket)
        return replace(request, restores=failed.restores or failed.generation, traceparent=failed.traceparent)

    def _take_up(self, live: Object) -> Step | None:
        """Deliver what waits, once nothing goes on any more; None: nothing does, or not yet."""
        deployed = read_deployed(live)
        if deployed.waiting is None or (deployed.pending and not _is_late(live, deployed, self.clock.now())):
            return None
        sentence = ""
        with suppress(PermanentError):  # one that is rejected has its receipt, and was told of
            sentence = self.deliver(deployed.waiting).detail
        found = self.cluster.deployment(name_of(live))
        if found is not None and read_deployed(found).waiting == deployed.waiting:
            self._mark(found, plan.not_waiting(read_deployed(found)))
        return Step(finished=False, sentence=sentence, pause=0.0)

    def _apply(self, value: Object, live: Object) -> Object:
        return self.cluster.apply(value, resource_version=version_of(live))

    def _mark(self, live: Object, state: Deployed) -> Object:
        return self.cluster.mark(name_of(live), changed(live, state), resource_version=version_of(live))


def _affordable(decision: Decision, before: Deployed, target: Target) -> Decision:
    """The decision; raises `ReceiptsOwed` if it would owe more receipts than the Deployment has room for."""
    full = len(before.owed) >= _MOST_OWED or len(format_receipts(before.owed).encode()) >= _MOST_OWED_BYTES
    if full and isinstance(decision, Deploy | TryOut | TakeBack | Wait | Superseded):
        raise ReceiptsOwed(
            f"Deployment {target.index} owes {len(before.owed)} receipts that the bucket doesn't take; "
            "let the webhook write under deployments/, and this commit is taken up"
        )
    return decision


def _is_late(live: Object, deployed: Deployed, now: datetime) -> bool:
    return deployed.pending and now > ends_by(live, deployed) + _LATE


def _leaving(live: Object) -> str:
    """What a Deployment that somebody deleted waits for, as a sentence; empty: nobody did."""
    metadata = live["metadata"]
    if not metadata.get("deletionTimestamp"):
        return ""
    held = ", ".join(metadata.get("finalizers") or []) or "its pods"
    return f"Deployment {name_of(live)} is being deleted, and waits for {held}"


def _existing(live: Object | None) -> Object:
    if live is None:
        raise ValueError("nothing is there that a canary could be compared with")
    return live


def _fields(request: DeploymentRequest) -> dict[str, str]:
    return {"index": request.target.index, "generation": str(request.generation), "prefix": str(request.index_prefix)}
