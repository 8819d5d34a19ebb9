"""What to write on the cluster: pure functions from what is known to the object to apply.

The state of a rollout and the write that changes it are one and the same write, so a process that is killed between any
two steps leaves a state that the next one understands. Receipts are decided in that write too: they stand in an
annotation until the bucket has them.
"""

from __future__ import annotations

import copy
from datetime import datetime

from cd_webhook.cluster import Object
from cd_webhook.deployed import Deployed, Rollout, format_receipts, format_request, format_spec
from cd_webhook.rollout import Failed
from manifests import annotations as marks
from model_repository.deployment import DeploymentRequest
from model_repository.documents import format_moment
from model_repository.receipt import Outcome, Receipt


def deployment_to_apply(
    rendered: Object, request: DeploymentRequest, deployed: Deployed | None, now: datetime
) -> Object:
    """The Deployment that starts the rollout of `request` over `deployed` (None: there is none yet).

    A rollout that is still in progress is replaced at once; its receipt says by what.
    """
    owed = deployed.owed if deployed else ()
    if deployed and deployed.request and deployed.rollout is Rollout.IN_PROGRESS:
        owed = (*owed, superseded(deployed.request, request.generation, started=deployed.started, now=now))
    value = copy.deepcopy(rendered)
    value["metadata"]["annotations"] |= {
        marks.REQUEST: format_request(request),
        marks.MANIFEST: format_spec(rendered["spec"]),
        marks.LAST_GOOD: format_request(deployed.last_good if deployed else None),
        marks.LAST_GOOD_MANIFEST: format_spec(deployed.last_good_spec if deployed else None),
        marks.ROLLOUT: Rollout.IN_PROGRESS.value,
        marks.DETAIL: "",
        marks.STARTED: format_moment(now),
        marks.RECEIPTS_OWED: format_receipts(owed),
    }
    return value


def annotations_when_served(deployed: Deployed, request: DeploymentRequest, now: datetime) -> dict[str, str]:
    """What to note when the newest request serves."""
    receipt = _receipt(
        request,
        Outcome.SERVED,
        f"{request.index_prefix} serves",
        started=deployed.started,
        finished=now,
    )
    return {
        marks.ROLLOUT: Rollout.SERVED.value,
        marks.DETAIL: receipt.detail,
        marks.LAST_GOOD: format_request(request),
        marks.LAST_GOOD_MANIFEST: format_spec(deployed.spec),
        marks.RECEIPTS_OWED: format_receipts((*deployed.owed, receipt)),
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
    )
    metadata = live["metadata"]
    annotations = {
        marks.COMMIT_GENERATION: str(request.generation),
        marks.INDEX_PREFIX: str(request.index_prefix),
        marks.INDEX_DIGEST: request.index_digest,
        marks.MODEL_DIGEST: request.model_digest,
        marks.REQUEST: format_request(request),
        marks.MANIFEST: format_spec(spec),
        marks.LAST_GOOD: format_request(deployed.last_good),
        marks.LAST_GOOD_MANIFEST: format_spec(deployed.last_good_spec),
        marks.ROLLOUT: Rollout.UNDONE.value,
        marks.DETAIL: receipt.detail,
        marks.STARTED: format_moment(deployed.started),
        marks.RECEIPTS_OWED: format_receipts((*deployed.owed, receipt)),
    }
    head = {key: metadata[key] for key in ("name", "namespace", "labels") if key in metadata}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {**head, "annotations": annotations},
        "spec": copy.deepcopy(spec),
    }


def superseded(request: DeploymentRequest, by_generation: int, *, started: datetime, now: datetime) -> Receipt:
    """The receipt of a request that a newer one overtook."""
    detail = f"commit {by_generation} of {request.target} is newer and was taken up instead"
    return _receipt(request, Outcome.SUPERSEDED, detail, started=started, finished=now)


def rejected(request: DeploymentRequest, detail: str, code: str, now: datetime) -> Receipt:
    """The receipt of a request that could not be applied."""
    return _receipt(request, Outcome.REJECTED, detail, started=now, finished=now, code=code)


def _receipt(
    request: DeploymentRequest, outcome: Outcome, detail: str, *, started: datetime, finished: datetime, code: str = ""
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
    )


def printable(text: str) -> str:
    """The text on one line, without what a terminal would act on."""
    return "".join(character if character.isprintable() else " " for character in text)[:4000]
