"""What to write on the cluster: pure functions from what is known to the object to apply.

The state of a rollout and the write that changes it are one and the same write, so a process that is killed between any
two steps leaves a state that the next one understands. Receipts are decided in that write too: they stand in an
annotation until the bucket has them.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from datetime import datetime
from types import MappingProxyType

from cd_webhook.canary import Aborted
from cd_webhook.cluster import Object
from cd_webhook.deployed import (
    Deployed,
    Rollout,
    format_canary,
    format_figures,
    format_receipts,
    format_request,
    format_spec,
)
from cd_webhook.rollout import Failed
from cd_webhook.state.annotations import (
    CANARY,
    CANARY_FIGURES,
    CANARY_SPEC,
    DETAIL,
    LAST_GOOD,
    LAST_GOOD_MANIFEST,
    MANIFEST,
    PROMOTED,
    RECEIPTS_OWED,
    REQUEST,
    ROLLOUT,
    STARTED,
)
from manifests import metadata as marks
from manifests.canary import Canary
from manifests.render import Rendered
from model_repository.canary_figures import CanaryFigures
from model_repository.deployment import DeploymentRequest
from model_repository.fields import format_moment
from model_repository.receipt import Outcome, Receipt

_NO_CANARY = dict.fromkeys((CANARY, CANARY_SPEC, CANARY_FIGURES, PROMOTED), "")


def goes_through_canary(rendered: Rendered, live: Object, deployed: Deployed) -> bool:
    """Whether a canary comes first: the values ask for one, and something serves that it can be compared with.

    When no pod serves there is nothing to compare with, and nothing to protect: the mend must not wait for it.
    """
    serves = bool((live.get("status") or {}).get("readyReplicas"))
    return rendered.canary is not None and deployed.last_good_spec is not None and serves


def deployment_to_apply(
    rendered: Object, request: DeploymentRequest, deployed: Deployed | None, now: datetime
) -> Object:
    """The Deployment that starts the rollout of `request` over `deployed` (None: there is none yet).

    A rollout that is still in progress is replaced at once; its receipt says by what.
    """
    value = copy.deepcopy(rendered)
    value["metadata"]["annotations"] |= _marks(
        request,
        rollout=Rollout.IN_PROGRESS,
        started=now,
        spec=rendered["spec"],
        good=deployed.last_good if deployed else None,
        good_spec=deployed.last_good_spec if deployed else None,
        owed=_owed_when_replaced(request, deployed, now),
    )
    return value


def annotations_for_canary(
    rendered: Object, rules: Canary, request: DeploymentRequest, deployed: Deployed, now: datetime
) -> dict[str, str]:
    """What to note when `request` begins with a canary: the pods that serve aren't touched."""
    return _marks(
        request,
        rollout=Rollout.CANARY,
        started=now,
        spec=deployed.last_good_spec if deployed.rollout is Rollout.IN_PROGRESS else deployed.spec,
        good=deployed.last_good,
        good_spec=deployed.last_good_spec,
        owed=_owed_when_replaced(request, deployed, now),
        canary={CANARY: format_canary(rules), CANARY_SPEC: format_spec(rendered["spec"])},
    )


def deployment_taken_back(live: Object, deployed: Deployed, annotations: dict[str, str]) -> Object:
    """The Deployment with what served last, for a canary that interrupts a rollout: it is compared with that."""
    return _whole(live, annotations, deployed.last_good_spec or live["spec"])


def deployment_to_promote(live: Object, deployed: Deployed, figures: CanaryFigures, now: datetime) -> Object:
    """The Deployment that rolls out what its canary tried out."""
    if deployed.request is None or deployed.canary_spec is None:
        raise ValueError("no canary goes on")
    annotations = _marks(
        deployed.request,
        rollout=Rollout.IN_PROGRESS,
        started=deployed.started,
        spec=deployed.canary_spec,
        good=deployed.last_good,
        good_spec=deployed.last_good_spec,
        owed=deployed.owed,
        canary={CANARY_FIGURES: format_figures(figures), PROMOTED: format_moment(now)},
    )
    return _whole(live, annotations, deployed.canary_spec)


def annotations_when_aborted(
    deployed: Deployed, request: DeploymentRequest, aborted: Aborted, now: datetime
) -> dict[str, str]:
    """What to note when a canary was worse than what serves; again the pods that serve aren't touched."""
    good = deployed.last_good
    aftermath = f"{good.index_prefix} (commit {good.generation}) serves on" if good else "what served serves on"
    receipt = _receipt(
        request,
        Outcome.UNDONE,
        f"{aborted.failed.sentence}; {aftermath}",
        started=deployed.started,
        finished=now,
        code=aborted.failed.code,
        canary=aborted.figures,
    )
    return {
        ROLLOUT: Rollout.UNDONE.value,
        DETAIL: receipt.detail,
        RECEIPTS_OWED: format_receipts((*deployed.owed, receipt)),
        **_NO_CANARY,
    }


def annotations_when_served(deployed: Deployed, request: DeploymentRequest, now: datetime) -> dict[str, str]:
    """What to note when the newest request serves."""
    receipt = _receipt(
        request,
        Outcome.SERVED,
        f"{request.index_prefix} serves",
        started=deployed.started,
        finished=now,
        canary=deployed.figures,
    )
    return {
        ROLLOUT: Rollout.SERVED.value,
        DETAIL: receipt.detail,
        LAST_GOOD: format_request(request),
        LAST_GOOD_MANIFEST: format_spec(deployed.spec),
        RECEIPTS_OWED: format_receipts((*deployed.owed, receipt)),
        **_NO_CANARY,
    }


def deployment_to_undo(
    live: Object, deployed: Deployed, request: DeploymentRequest, failed: Failed, now: datetime
) -> Object:
    """The Deployment that takes a failed rollout back to what served last.

    The spec is the very one that served, so that its ReplicaSet, whose pods never stopped, is used again; the
    generation on the Deployment stays the failed one's, so that no older request gets in. When nothing ever served
    there are no pods to go back to: the failing ones are stopped.
    """
    if deployed.last_good and deployed.last_good_spec:
        spec = deployed.last_good_spec
        good = deployed.last_good
        aftermath = f"{good.index_prefix} (commit {good.generation}) serves on"
    else:
        spec = {**(deployed.spec or live["spec"]), "replicas": 0}
        aftermath = "nothing served before, so no pod runs now; commit a good build"
    receipt = _receipt(
        request,
        Outcome.UNDONE,
        f"{failed.sentence}; {aftermath}",
        started=deployed.started,
        finished=now,
        code=failed.code,
        canary=deployed.figures,
    )
    annotations = _marks(
        request,
        rollout=Rollout.UNDONE,
        started=deployed.started,
        spec=spec,
        good=deployed.last_good,
        good_spec=deployed.last_good_spec,
        owed=(*deployed.owed, receipt),
        detail=receipt.detail,
    )
    return _whole(live, annotations, spec)


def _marks(
    request: DeploymentRequest,
    *,
    rollout: Rollout,
    started: datetime,
    spec: Object | None,
    good: DeploymentRequest | None,
    good_spec: Object | None,
    owed: tuple[Receipt, ...],
    detail: str = "",
    canary: Mapping[str, str] = MappingProxyType({}),
) -> dict[str, str]:
    """All annotations, so that none of an earlier state stays."""
    return {
        marks.COMMIT_GENERATION: str(request.generation),
        marks.INDEX_PREFIX: str(request.index_prefix),
        marks.INDEX_DIGEST: request.index_digest,
        marks.MODEL_DIGEST: request.model_digest,
        REQUEST: format_request(request),
        MANIFEST: format_spec(spec),
        LAST_GOOD: format_request(good),
        LAST_GOOD_MANIFEST: format_spec(good_spec),
        ROLLOUT: rollout.value,
        DETAIL: detail,
        STARTED: format_moment(started),
        RECEIPTS_OWED: format_receipts(owed),
        **_NO_CANARY,
        **canary,
    }


def _whole(live: Object, annotations: dict[str, str], spec: Object) -> Object:
    head = {key: live["metadata"][key] for key in ("name", "namespace", "labels") if key in live["metadata"]}
    metadata = {**head, "annotations": annotations}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": copy.deepcopy(spec)}


def _owed_when_replaced(request: DeploymentRequest, deployed: Deployed | None, now: datetime) -> tuple[Receipt, ...]:
    if deployed is None:
        return ()
    if deployed.request is None or not deployed.pending:
        return deployed.owed
    return (*deployed.owed, superseded(deployed.request, request.generation, started=deployed.started, now=now))


def superseded(request: DeploymentRequest, by_generation: int, *, started: datetime, now: datetime) -> Receipt:
    """The receipt of a request that a newer one overtook."""
    detail = f"commit {by_generation} of {request.target} is newer and was taken up instead"
    return _receipt(request, Outcome.SUPERSEDED, detail, started=started, finished=now)


def rejected(request: DeploymentRequest, detail: str, code: str, now: datetime) -> Receipt:
    """The receipt of a request that could not be applied."""
    return _receipt(request, Outcome.REJECTED, detail, started=now, finished=now, code=code)


def _receipt(
    request: DeploymentRequest,
    outcome: Outcome,
    detail: str,
    *,
    started: datetime,
    finished: datetime,
    code: str = "",
    canary: CanaryFigures | None = None,
) -> Receipt:
    # A receipt passes through an annotation: only what format and parse keep as it is may stand in it.
    return Receipt(
        target=request.target,
        generation=request.generation,
        outcome=outcome,
        index_prefix=request.index_prefix,
        detail=printable(detail),
        started=started,
        finished=finished,
        code=code,
        by=printable(request.by)[:1000],
        reason=printable(request.reason)[:1000],
        canary=canary,
    )


def printable(text: str) -> str:
    """The text on one line, without what a terminal would act on."""
    return "".join(character if character.isprintable() else " " for character in text)[:4000]
