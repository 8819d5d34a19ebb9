"""The sequence: decide, render, apply; then look until it serves or is undone; then the receipt.

Every write names the version that its decision was made on. Where somebody else wrote first, the answer is `Conflict`,
and the whole decision is made anew, so two webhooks, or two deliveries, can't both win. Any step may be the last one
before a crash: `look` goes on from what the Deployment says.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from cd_webhook import plan
from cd_webhook.canary import Passed, Watching, rollout_started
from cd_webhook.canary_rollout import Canaries
from cd_webhook.cluster import Cluster, Conflict, Object, name_of, version_of
from cd_webhook.decide import AlreadyDeployed, Superseded, decide
from cd_webhook.deployed import NEVER, Deployed, Rollout, format_receipts, read_deployed
from cd_webhook.log import Log
from cd_webhook.observe import ROUND_SECONDS
from cd_webhook.pod_client import PodClient
from cd_webhook.rollout import Failed, Progressing, Served, judge
from cd_webhook.state.annotations import RECEIPTS_OWED
from manifests import metadata as marks
from manifests.render import Rendered
from model_repository.deployment import AnswerOutcome, DeploymentRequest
from model_repository.errors import DeliveryError, DocumentMalformed, PermanentError
from model_repository.receipt import Receipt
from model_repository.repository import write_receipt
from model_repository.store import Store

_TRIES = 25
"""How often a decision is made anew when others write meanwhile; a busy rollout changes its status often."""


class Clock(Protocol):
    """The time, and waiting for it."""

    def now(self) -> datetime:
        """The time in UTC."""
        ...

    def sleep(self, seconds: float) -> None:
        """Let so many seconds pass."""
        ...


@dataclass(frozen=True, slots=True)
class Answer:
    """The outcome of a delivery, and one sentence about it."""

    outcome: AnswerOutcome
    detail: str


@dataclass(frozen=True, slots=True)
class Look:
    """What one look at a rollout found.

    finished: nothing is left to do. waits_for, version: the Deployment whose change ends the wait for the next look;
    empty: the index's own. pause: the longest wait, in seconds.
    """

    finished: bool
    sentence: str
    version: str = ""
    waits_for: str = ""
    pause: float = 5.0


class Delivery:
    """Acts on decisions, for the indexes of one environment."""

    def __init__(
        self,
        *,
        environment: str,
        cluster: Cluster,
        store: Store,
        render: Callable[[DeploymentRequest], Rendered],
        clock: Clock,
        log: Log,
        pod_client: PodClient,
        on_receipt: Callable[[Receipt], None] = lambda _: None,
    ) -> None:
        """pod_client: asks canaries. on_receipt: called for each receipt that this process wrote."""
        self._environment = environment
        self._cluster = cluster
        self._store = store
        self._render = render
        self._clock = clock
        self._log = log
        self._on_receipt = on_receipt
        self._canaries = Canaries(cluster, store, pod_client)

    def deliver(self, request: DeploymentRequest) -> Answer:
        """Start the rollout of `request`, if it is the newest. Returns as soon as the cluster has taken it.

        Raises `PermanentError` (after writing the receipt) when the request can never be applied, `TransientError`
        when another try may pass.
        """
        self._check(request)
        for attempt in range(_TRIES):
            try:
                return self._deliver_once(request)
            except Conflict:
                self._clock.sleep(random.uniform(0, 0.02 * min(attempt, 10)))  # noqa: S311 - only to spread rivals
        raise Conflict(f"Deployment {request.target.index}: written by others {_TRIES} times in a row; try again")

    def _check(self, request: DeploymentRequest) -> None:
        if request.target.environment != self._environment:
            raise DocumentMalformed(
                "parameters",
                f"environment {request.target.environment!r}: this webhook deploys {self._environment!r}; "
                "point the sender at the other environment's webhook",
            )
        if request.bucket != self._store.bucket:
            raise DocumentMalformed(
                "parameters", f"bucket {request.bucket!r}: this webhook's Model Repository is {self._store.bucket!r}"
            )

    def _deliver_once(self, request: DeploymentRequest) -> Answer:
        live = self._cluster.deployment(request.target.index)
        try:
            deployed = self._ours(live) if live else None
            decision = decide(request, deployed.generation if deployed else None)
            if isinstance(decision, AlreadyDeployed) and deployed:
                how = f"commit {decision.generation}: {deployed.rollout.value}: {deployed.detail}".removesuffix(": ")
                return Answer(AnswerOutcome.ALREADY_DEPLOYED, how)
            if isinstance(decision, Superseded):
                return self._superseded(request, decision)
            applied = self._start(request, live, deployed)
        except PermanentError as error:
            self._write(plan.rejected(request, str(error), error.code, self._clock.now()))
            raise
        how = "as a canary" if read_deployed(applied).rollout is Rollout.CANARY else "at once"
        self._log.line("INFO", f"rolling out {request.index_prefix} {how}", **_fields(request))
        try:
            self._settle(applied)
        except DeliveryError as error:  # the rollout has begun; who watches it settles
            self._log.line("WARNING", f"receipts of {request.target} are still owed: {error}", **_fields(request))
        return Answer(AnswerOutcome.ACCEPTED, f"rolling out {request.index_prefix} as commit {request.generation}")

    def _superseded(self, request: DeploymentRequest, decision: Superseded) -> Answer:
        now = self._clock.now()
        receipt = plan.superseded(request, decision.by_generation, started=now, now=now)
        self._write(receipt)
        return Answer(AnswerOutcome.SUPERSEDED, receipt.detail)

    def _ours(self, live: Object) -> Deployed:
        labels = live["metadata"].get("labels") or {}
        if labels.get(marks.MANAGED_BY) != marks.MANAGER:
            raise DocumentMalformed(
                f"Deployment {name_of(live)}",
                f"isn't managed by {marks.MANAGER}; rename the index, or delete that Deployment",
            )
        return read_deployed(live)

    def _start(self, request: DeploymentRequest, live: Object | None, deployed: Deployed | None) -> Object:
        rendered = self._render(request)
        # The Service is the same for every generation, so it needs no guard; with it first, no Deployment lacks one.
        self._cluster.apply(rendered.service, resource_version=None)
        now = self._clock.now()
        if live and deployed and rendered.canary and plan.goes_through_canary(rendered, live, deployed):
            noted = plan.annotations_for_canary(rendered.deployment, rendered.canary, request, deployed, now)
            if deployed.rollout is Rollout.IN_PROGRESS:
                taken_back = plan.deployment_taken_back(live, deployed, noted)
                return self._cluster.apply(taken_back, resource_version=version_of(live))
            return self._cluster.annotate(name_of(live), noted, resource_version=version_of(live))
        value = plan.deployment_to_apply(rendered.deployment, request, deployed, now)
        if live is None:
            return self._cluster.create(value)
        return self._cluster.apply(value, resource_version=version_of(live))

    def look(self, name: str) -> Look:
        """Look at the rollout of the index `name`, and do what is due: note that it serves, undo it, write receipts.

        Raises `TransientError`, also `Conflict`: look again.
        """
        live = self._cluster.deployment(name)
        if live is None:
            self._canaries.remove(name)
            return Look(finished=True, sentence="the Deployment is gone")
        deployed = read_deployed(live)
        if deployed.rollout is Rollout.CANARY:
            return self._look_at_canary(live, deployed)
        self._canaries.remove(name)
        if deployed.rollout is not Rollout.IN_PROGRESS or deployed.request is None:
            self._settle(live)
            return Look(finished=True, sentence=deployed.rollout.value)
        now = self._clock.now()
        started = deployed.started if deployed.started > NEVER else now
        started = rollout_started(started, deployed.promoted)
        verdict = judge(live, self._cluster.pods(name), started=started, now=now)
        if isinstance(verdict, Progressing):
            self._settle(live)
            return Look(finished=False, sentence=verdict.sentence, version=version_of(live))
        self._finish(live, deployed, deployed.request, verdict)
        return Look(finished=True, sentence=verdict.sentence)

    def _look_at_canary(self, live: Object, deployed: Deployed) -> Look:
        request, rules, spec = deployed.request, deployed.canary, deployed.canary_spec
        if request is None or rules is None or spec is None:  # `read_deployed` calls that unknown
            raise ValueError("a canary without its rules")
        now = self._clock.now()
        found = self._canaries.look(live, deployed, request, rules, spec, now)
        if isinstance(found, Watching):
            self._settle(live)
            canary = marks.canary_name(name_of(live))
            return Look(
                finished=False, sentence=found.sentence, version=found.version, waits_for=canary, pause=ROUND_SECONDS
            )
        if isinstance(found, Passed):
            promoted = plan.deployment_to_promote(live, deployed, found.figures, now)
            done = self._cluster.apply(promoted, resource_version=version_of(live))
            self._log.line("INFO", f"promoted: {request.index_prefix}: {found.sentence}", **_fields(request))
            return Look(finished=False, sentence=found.sentence, version=version_of(done), pause=ROUND_SECONDS)
        noted = plan.annotations_when_aborted(deployed, request, found, now)
        done = self._cluster.annotate(name_of(live), noted, resource_version=version_of(live))
        sentence = found.failed.sentence
        self._log.line(
            "ERROR", f"aborted: {request.index_prefix}: {sentence}", code=found.failed.code, **_fields(request)
        )
        self._canaries.remove(name_of(live))
        self._settle(done)
        return Look(finished=True, sentence=sentence)

    def _finish(self, live: Object, deployed: Deployed, request: DeploymentRequest, verdict: Served | Failed) -> None:
        now = self._clock.now()
        if isinstance(verdict, Served):
            noted = plan.annotations_when_served(deployed, request, now)
            done = self._cluster.annotate(name_of(live), noted, resource_version=version_of(live))
            self._log.line("INFO", f"{request.index_prefix} serves", **_fields(request))
        else:
            undone = plan.deployment_to_undo(live, deployed, request, verdict, now)
            done = self._cluster.apply(undone, resource_version=version_of(live))
            self._log.line(
                "ERROR", f"undone: {request.index_prefix}: {verdict.sentence}", code=verdict.code, **_fields(request)
            )
        self._settle(done)

    def _settle(self, live: Object) -> None:
        """Write the receipts that the Deployment owes, then forget them there."""
        owed = read_deployed(live).owed
        for receipt in owed:
            self._write(receipt)
        for _ in range(_TRIES):
            now_owed = read_deployed(live).owed
            left = tuple(receipt for receipt in now_owed if receipt not in owed)
            if left == now_owed:
                return
            noted = {RECEIPTS_OWED: format_receipts(left)}
            try:
                self._cluster.annotate(name_of(live), noted, resource_version=version_of(live))
            except Conflict:
                again = self._cluster.deployment(name_of(live))
                if again is None:
                    return
                live = again
            else:
                return
        # Not forgotten, then: the next look writes them again, and the bucket keeps the first.

    def _write(self, receipt: Receipt) -> None:
        if write_receipt(self._store, receipt):
            self._on_receipt(receipt)
            self._log.line(
                "INFO",
                f"receipt: {receipt.outcome.value}: {receipt.detail}",
                index=receipt.target.index,
                generation=str(receipt.generation),
                outcome=receipt.outcome.value,
            )


def _fields(request: DeploymentRequest) -> dict[str, str]:
    return {"index": request.target.index, "generation": str(request.generation), "prefix": str(request.index_prefix)}
