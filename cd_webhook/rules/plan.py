"""How the state of an index goes on: pure functions from one `Deployed` to the next, and to the object to apply.

A step of a rollout is one write, and the state stands in that same write, so a process that is killed between any two
steps leaves a state that the next one understands. Receipts are decided in it too: they are owed until the bucket has
them.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from datetime import datetime

from cd_webhook.cluster import Object
from cd_webhook.rules.rollout import Failed
from cd_webhook.state import Deployed, Rollout, format_deployed, seal
from manifests.metadata import STATE
from model_repository.deployment import DeploymentRequest
from model_repository.documents.receipts.canary_figures import CanaryFigures
from model_repository.documents.receipts.receipt import Outcome, Receipt, printable
from model_repository.names import Target


def begun(before: Deployed, request: DeploymentRequest, spec: Object, now: datetime) -> Deployed:
    """The state when `request` begins to roll out with `spec`.

    What is still pending, or waits, is replaced at once; its receipt says by what.
    """
    replaced = [before.request] if before.pending and before.request else []
    replaced += [before.waiting] if before.waiting and before.waiting.generation != request.generation else []
    return replace(
        _overtaken(before, replaced, request, now),
        generation=request.generation,
        request=request,
        rollout=Rollout.IN_PROGRESS,
        started=now,
        spec=spec,
        detail="",
        trial=None,
        figures=None,
        promoted=None,
        displaced=before.pending,
        waiting=None,
        accepted=None,
    )


def kept_waiting(before: Deployed, request: DeploymentRequest, now: datetime) -> Deployed:
    """The state when `request` waits for the rollout that goes on; what waited so far is overtaken."""
    return replace(_overtaken(before, [before.waiting] if before.waiting else [], request, now), waiting=request)


def not_waiting(before: Deployed) -> Deployed:
    """The state when what waited won't be taken up after all."""
    return replace(before, waiting=None)


def _overtaken(before: Deployed, replaced: list[DeploymentRequest], by: DeploymentRequest, now: datetime) -> Deployed:
    receipts = [
        superseded(old, by.generation, started=before.started if old is before.request else now, now=now)
        for old in replaced
    ]
    return replace(before, owed=(*before.owed, *receipts), traces=_traces(before, *replaced))


def served(before: Deployed, live: Object, now: datetime) -> Deployed:
    """The state when the newest request serves."""
    request = newest_of(before)
    detail = f"{request.index_prefix} serves{by_hand(before, live)}"
    receipt = _receipt(request, Outcome.SERVED, detail, (before.started, now), canary=before.figures)
    return replace(_ended(before, Rollout.SERVED, receipt), last_good=request, last_good_spec=before.spec)


def undone(before: Deployed, live: Object, failed: Failed, now: datetime) -> Deployed:
    """The state when the rollout of the newest request failed, and what served last serves again.

    The spec is the very one that served, so that its ReplicaSet, whose pods never stopped, is used again; the
    generation stays the failed one's, so that no older request gets in. When nothing ever served there are no pods to
    go back to: the failing ones are stopped.
    """
    good, spec = before.last_good, before.last_good_spec
    if good and spec:
        aftermath = serves_on(good, live)
    else:
        spec, then = {**(before.spec or live["spec"]), "replicas": 0}, before.waiting
        aftermath = (
            f"no pod of it runs now, and {then.index_prefix} (commit {then.generation}) is taken up"
            if then
            else "nothing served before, so no pod runs now; commit a good build"
        )
    return replace(given_up(before, failed, aftermath, before.figures, now), spec=spec, accepted=None)


def given_up(
    before: Deployed, failed: Failed, aftermath: str, figures: CanaryFigures | None, now: datetime
) -> Deployed:
    """The state when the newest request failed. aftermath: what serves now, for a person."""
    detail = f"{failed.sentence}; {aftermath}"
    receipt = _receipt(
        newest_of(before), Outcome.UNDONE, detail, (before.started, now), code=failed.code, canary=figures
    )
    return _ended(before, Rollout.UNDONE, receipt)


def serves_on(good: DeploymentRequest | None, live: Object) -> str:
    """The aftermath of a failure where something served before. good: what, if that is known; live: the Deployment."""
    what = f"{good.index_prefix} (commit {good.generation})" if good else "what served"
    return f"{what} serves on" if ready_pods(live) else f"{what} stays, and no pod of it is ready"


def ready_pods(live: Object | None) -> int:
    """How many pods of a Deployment are ready, of whatever build."""
    return int(((live or {}).get("status") or {}).get("readyReplicas") or 0)


def newest_of(deployed: Deployed) -> DeploymentRequest:
    """The newest request, which whatever is pending has."""
    if deployed.request is None:
        raise ValueError("nothing was asked for")
    return deployed.request


def deployment_of(base: Object, deployed: Deployed) -> Object:
    """The Deployment with this state and its spec. base: a rendered or live one, for name and labels."""
    return with_annotations(base, format_deployed(deployed), deployed.spec or base["spec"])


def with_annotations(base: Object, annotations: dict[str, str], spec: Object) -> Object:
    """A Deployment to apply: name and labels of `base`, these annotations and no others, sealed, and this spec."""
    head = {key: base["metadata"][key] for key in ("name", "namespace") if key in base["metadata"]}
    labels = {**base["metadata"]["labels"], STATE: seal(annotations)}
    metadata = {**head, "labels": labels, "annotations": annotations}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": copy.deepcopy(spec)}


def as_scaled(spec: Object, before: Deployed, live: Object | None) -> Object:
    """The spec with as many pods as somebody scaled the Deployment to by hand since it was applied last.

    Whoever scales up for a busy evening must not lose that to the next hourly commit. The state keeps what the values
    say, so a scale is told from those for as long as it differs.
    """
    wanted = (before.spec or {}).get("replicas")
    there = live["spec"].get("replicas") if live else None
    if wanted is None or there is None or wanted == there or "replicas" not in spec:
        return spec
    return {**spec, "replicas": there}


def by_hand(before: Deployed, live: Object) -> str:
    """What somebody set by hand and is left so, for the end of a sentence; empty: nothing."""
    wanted, there = (before.spec or {}).get("replicas"), live["spec"].get("replicas")
    if wanted is None or there in {wanted, None, 0}:
        return ""
    return f"; scaled by hand to {there} pods, where the values say {wanted}"


def rewound(target: Target, deployed: Deployed, now: datetime) -> Receipt:
    """The receipt of a commit that somebody took back by hand before it had one."""
    return Receipt(target, deployed.generation, Outcome.UNDONE, None, deployed.detail, now, now, code="rewound-by-hand")


def superseded(request: DeploymentRequest, by: int | None, *, started: datetime, now: datetime) -> Receipt:
    """The receipt of a request that another one overtook. by: the generation that is live now; None: no commit is."""
    detail = (
        f"commit {by} of {request.target} is the live one now and is taken up instead"
        if by is not None
        else f"the commit of {request.target} was deleted before this one was taken up"
    )
    return _receipt(request, Outcome.SUPERSEDED, detail, (started, now))


def rejected(request: DeploymentRequest, detail: str, code: str, now: datetime) -> Receipt:
    """The receipt of a request that could not be applied."""
    return _receipt(request, Outcome.REJECTED, detail, (now, now), code=code)


def _traces(before: Deployed, *ended: DeploymentRequest) -> dict[int, str]:
    return {**before.traces, **{request.generation: request.traceparent for request in ended if request.traceparent}}


def _ended(before: Deployed, rollout: Rollout, receipt: Receipt) -> Deployed:
    return replace(
        before,
        rollout=rollout,
        owed=(*before.owed, receipt),
        traces=_traces(before, newest_of(before)),
        detail=receipt.detail,
        trial=None,
        figures=None,
        promoted=None,
    )


def _receipt(
    request: DeploymentRequest,
    outcome: Outcome,
    detail: str,
    time: tuple[datetime, datetime],
    *,
    code: str = "",
    canary: CanaryFigures | None = None,
) -> Receipt:
    # A receipt passes through an annotation: only what format and parse keep as it is may stand in it.
    return Receipt(
        target=request.target,
        generation=request.generation,
        outcome=outcome,
        index_prefix=request.index_prefix,
        detail=printable(detail)[:4000],
        started=time[0],
        finished=time[1],
        code=code,
        by=printable(request.by)[:1000],
        reason=printable(request.reason)[:1000],
        canary=canary,
    )
