"""A request and the values of its environment become a Deployment, its Service and its disruption budget."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from manifests.metadata import SAFE_TO_EVICT, STABLE, TRACK, build_annotations, deployment_selector, labels, selector
from manifests.pod_patch import patched
from manifests.templates import render_template
from manifests.values import SET_BY_TEMPLATE, Values
from model_repository.deployment import ELSEWHERE_MIB, TRACES_MIB, WORKER_MIB, DeploymentRequest
from model_repository.errors import DocumentMalformed
from model_repository.telemetry.spans import spans_wanted

LOG_MIB = 64
"""Disk for a container's own log, on top of the volume."""
FILE_SYSTEM_MIB = 64
"""What a file system takes of a volume besides an eighth of it: ext4 keeps a tenth for its tables and for root."""
_VOLUME_SECONDS = 120
"""What it may take to make a volume, to attach and to format it."""
_EXIT_SECONDS = 40
"""After drain: 30 for a body that is on its way; the rest for its answer and the interpreter's end."""
_STARTUP_SECONDS = 120
"""What the server may take to map and prove an index once it is pulled."""


@dataclass(frozen=True, slots=True)
class Rendered:
    """The objects of one index, as Kubernetes takes them."""

    deployment: dict[str, Any]
    service: dict[str, Any]
    budget: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Requested:
    """All that differs in the objects of one index from request to request. A Spinnaker fills it in by expressions.

    memory, volume, disk: Kubernetes quantities; disk is what a container takes of the
        node's: volume and log, or the log alone.
    progress_deadline: in seconds, counted from the start of a rollout until its pods have been ready for long enough.
    traceparent: the span that pods go on from: the rollout's, or where a Spinnaker deploys, that in which it was asked
        to; empty: no spans are recorded.
    """

    generation: str
    index_prefix: str
    index_digest: str
    memory: str
    volume: str
    disk: str
    progress_deadline: int | str
    traceparent: str = ""


def render(request: DeploymentRequest, values: Values) -> Rendered:
    """The objects that serve `request`. Raises `DocumentMalformed` for the values of another environment."""
    if values.environment != request.target.environment:
        raise DocumentMalformed(
            "parameters", f"environment {request.target.environment!r}; these are the values of {values.environment!r}"
        )
    volume = request.footprint.volume_mib
    claimed = volume + volume // 8 + FILE_SYSTEM_MIB
    requested = Requested(
        generation=str(request.generation),
        index_prefix=str(request.index_prefix),
        index_digest=request.index_digest,
        memory=f"{request.footprint.memory_mib + further_mib(values, request.footprint.model_mib)}Mi",
        volume=f"{volume if values.storage_class is None else claimed}Mi",
        disk=f"{volume + LOG_MIB if values.storage_class is None else LOG_MIB}Mi",
        progress_deadline=request.footprint.deadline_seconds + further_seconds(values),
        traceparent=request.rollout.traceparent if request.rollout else "",
    )
    if request.target.is_shadow_of(request.index_prefix):
        values = replace(values, replicas=1)
    return render_objects(request.target.index, request.bucket, requested, values, filter_of=request.index_prefix.index)


def further_mib(values: Values, model_mib: int = 0) -> int:
    """Memory beyond what the footprint counts: one worker, and models that run in the pod, and no traces.

    model_mib: of the footprint, which isn't needed where photos are embedded elsewhere.
    """
    elsewhere = ELSEWHERE_MIB - model_mib if values.env.get("EMBEDDING_URL") else 0
    return (values.workers - 1) * WORKER_MIB + elsewhere + (TRACES_MIB if spans_wanted(values.env) else 0)


def further_seconds(values: Values) -> int:
    """Time for a rollout beyond what the footprint counts."""
    return values.min_ready_seconds + (0 if values.storage_class is None else _VOLUME_SECONDS)


def render_objects(index: str, bucket: str, requested: Requested, values: Values, *, filter_of: str = "") -> Rendered:
    """The objects of an index in the environment whose values these are.

    filter_of: the index whose filter they obey; empty: their own.
    Raises `DocumentMalformed` for a `pod_patch` that does more than add.
    """
    own_labels = {**values.labels, **labels(index)}
    context = {
        "index": index,
        "filter_of": filter_of or index,
        "bucket": bucket,
        "requested": requested,
        "values": values,
        "labels": own_labels,
        "deployment_labels": own_labels | {TRACK: STABLE},
        "selector": selector(index),
        "deployment_selector": deployment_selector(index),
        "annotations": build_annotations(requested),
        "pod_annotations": SAFE_TO_EVICT | dict(values.pod_annotations) | build_annotations(requested),
        "grace_seconds": values.pre_stop_seconds + values.drain_seconds + _EXIT_SECONDS,
        "startup_seconds": _STARTUP_SECONDS,
    }
    names = ("deployment.yaml.j2", "service.yaml.j2", "disruption_budget.yaml.j2")
    rendered = Rendered(*(render_template(name, context) for name in names))
    spec, place = rendered.deployment["spec"], f"{values.environment}.yaml: pod_patch"
    spec["template"] = patched(spec["template"], values.pod_patch, place, SET_BY_TEMPLATE)
    return rendered
