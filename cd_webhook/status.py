"""What a person wants to know of an index: what was asked for, what serves, how it goes, what was changed by hand."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from cd_webhook.canary import so_far
from cd_webhook.cluster import Cluster, Object, name_of
from cd_webhook.delivery.observed import ends_by
from cd_webhook.rules.drift import changes
from cd_webhook.rules.pods import is_ready
from cd_webhook.rules.rollout import Served, judge, new_pods
from cd_webhook.state import NEVER, Deployed, Rollout, read_deployed
from manifests.metadata import COMMIT_GENERATION, INDEX_PREFIX, INSTANCE, canary_name, deployment_selector, is_canary
from model_repository.deployment import DeploymentRequest
from model_repository.documents.receipts.canary_figures import CanaryFigures, SoFar
from model_repository.fields import format_moment
from model_repository.records import written


@dataclass(frozen=True, slots=True)
class Found:
    """What the cluster has of one index.

    live: its Deployment. canary: its canary's. pods: of both. service: its Service is there.
    """

    live: Object
    canary: Object | None
    pods: list[Object]
    service: bool


def describe(environment: str, found: Found) -> dict[str, Any]:
    """The status of one index, as JSON."""
    live, canary, pods = found.live, found.canary, found.pods
    deployed = read_deployed(live)
    spec, status = live["spec"], live.get("status") or {}
    sentence = deployed.detail
    if deployed.rollout is Rollout.IN_PROGRESS:
        sentence = judge(live, pods).sentence
    elif deployed.rollout is Rollout.CANARY:
        sentence = _canary(canary, pods)
    return {
        "environment": environment,
        "index": name_of(live),
        "shadow": _is_shadow(deployed),
        "rollout": deployed.rollout.value,
        "detail": sentence,
        "requested": _request(deployed.request) or _generation_alone(deployed),
        "late_from": _late_from(live, deployed),
        "waiting": _request(deployed.waiting),
        "service": found.service,
        "started": format_moment(deployed.started) if deployed.started > NEVER else None,
        "canary": deployed.trial.rules.to_json() if deployed.trial else None,
        "last_good": _request(deployed.last_good),
        "serving": _serving(pods),
        "replicas": {
            "wanted": spec.get("replicas", 1),
            "ready": status.get("readyReplicas") or 0,
            "updated": status.get("updatedReplicas") or 0,
        },
        "drift": _drift(deployed, spec),
        "receipts_owed": [receipt.generation for receipt in deployed.owed],
    }


def _is_shadow(deployed: Deployed) -> bool:
    asked = deployed.request
    return asked is not None and asked.target.is_shadow_of(asked.index_prefix)


def _generation_alone(deployed: Deployed) -> dict[str, Any] | None:
    """What is known of a request that somebody took back by hand."""
    return {"generation": str(deployed.generation)} if deployed.rollout is Rollout.REWOUND else None


def _drift(deployed: Deployed, spec: Object) -> list[str]:
    """What was changed by hand since the last apply; what the cluster itself made of that apply doesn't count."""
    if deployed.accepted is None:  # nobody has looked yet
        return []
    # how many pods there are is an autoscaler's where the values don't say; else it is held against those
    replicas = (deployed.spec or {}).get("replicas", spec.get("replicas"))
    return changes({**deployed.accepted, "replicas": replicas}, spec)


def _late_from(live: Object, deployed: Deployed) -> str | None:
    return format_moment(ends_by(live, deployed)) if deployed.pending else None


def _canary(canary: Object | None, pods: list[Object]) -> str:
    if canary is None:
        return "canary: not made yet"
    verdict = judge(canary, pods)
    return f"canary: {'compared with the stable pods' if isinstance(verdict, Served) else verdict.sentence}"


def _request(request: DeploymentRequest | None) -> dict[str, Any] | None:
    if request is None:
        return None
    return {
        "generation": str(request.generation),
        "index_prefix": str(request.index_prefix),
        "index_digest": request.index_digest,
        "models": [str(model) for model in request.models],
        "by": request.by,
        "reason": request.reason,
    }


def _serving(pods: list[Object]) -> list[dict[str, Any]]:
    """What the ready pods serve: one entry, but during a rollout."""
    ready: Counter[tuple[str, str]] = Counter()
    for pod in pods:
        if is_ready(pod):
            annotations = pod["metadata"].get("annotations") or {}
            ready[annotations.get(COMMIT_GENERATION, ""), annotations.get(INDEX_PREFIX, "")] += 1
    return [
        {"generation": generation, "index_prefix": prefix, "pods": count}
        for (generation, prefix), count in sorted(ready.items())
    ]


def describe_all(cluster: Cluster, environment: str) -> list[dict[str, Any]]:
    """The status of every index; three requests to the cluster, however many there are. Raises as the cluster does."""
    deployments = {name_of(live): live for live in cluster.deployments()}
    services = set(cluster.services())
    pods: dict[str, list[Object]] = defaultdict(list)
    for pod in cluster.all_pods():
        pods[pod["metadata"]["labels"].get(INSTANCE, "")].append(pod)
    return [
        describe(environment, Found(live, deployments.get(canary_name(name)), pods[name], name in services))
        for name, live in deployments.items()
        if not is_canary(name)
    ]


Showing = Callable[[str, int], CanaryFigures | None]
"""What the canary of an index's commit shows so far; see `Canaries.figures`."""


def describe_rollouts(cluster: Cluster, now: datetime, showing: Showing) -> list[dict[str, Any]]:
    """Each rollout that goes on: how many pods of the new build are ready, for how long, and what its canary shows.

    One request to the cluster, and a second one if there are any. Raises as the cluster does.
    """
    deployments = {name_of(live): live for live in cluster.deployments()}
    going = [live for name, live in deployments.items() if not is_canary(name) and read_deployed(live).pending]
    pods = cluster.all_pods() if going else []
    return [_describe_rollout(live, deployments.get(canary_name(name_of(live))), pods, now, showing) for live in going]


def _comparison(index: str, deployed: Deployed, showing: Showing) -> dict[str, Any] | None:
    """What a canary shows beside the stable pods, by which rules, and what is left of its time; None: nothing yet."""
    if deployed.trial is None:
        figures = deployed.figures  # of one that was promoted, and rolls out
        said = {"so_far": SoFar.PROMOTED.value, "why": "", "seconds_left": 0.0}
        return said | {"figures": written(figures)} if figures else None
    figures, rules = showing(index, deployed.generation), deployed.trial.rules
    if figures is None:
        return None
    verdict, why = so_far(figures, rules)
    return {
        "so_far": verdict.value,
        "why": why,
        "seconds_left": round(max(rules.seconds - figures.seconds, 0.0), 1),
        "rules": rules.to_json(),
        "figures": written(figures),
    }


def _describe_rollout(
    live: Object, canary: Object | None, pods: list[Object], now: datetime, showing: Showing
) -> dict[str, Any]:
    deployed = read_deployed(live)
    rolling_out = canary if deployed.trial else live
    mine = [] if rolling_out is None else _pods_of(rolling_out, pods)
    wanted = deployed.trial.rules.replicas if deployed.trial else live["spec"].get("replicas", 1)
    detail = _canary(canary, mine) if deployed.trial else judge(live, mine).sentence
    since = max(deployed.started, deployed.promoted or NEVER)
    return {
        "index": name_of(live),
        "generation": str(deployed.generation),
        "canary": deployed.trial is not None,
        "seconds": _seconds(now - since),
        "given_up_in": _seconds(ends_by(live, deployed) - now),
        "pods": {
            "wanted": wanted,
            "ready": sum(is_ready(pod) for pod in new_pods(rolling_out["spec"], mine)) if rolling_out else 0,
        },
        "detail": detail,
        "comparison": _comparison(name_of(live), deployed, showing),
    }


def _seconds(time: timedelta) -> float:
    return round(max(time / timedelta(seconds=1), 0.0), 1)


def _pods_of(deployment: Object, pods: list[Object]) -> list[Object]:
    wanted = deployment_selector(name_of(deployment)).items()
    return [pod for pod in pods if wanted <= pod["metadata"]["labels"].items()]


def describe_one(cluster: Cluster, environment: str, index: str) -> dict[str, Any] | None:
    """The status of one index; None: the cluster has nothing of it. Raises as the cluster does."""
    live = cluster.deployment(index)
    if live is None:
        return None
    canary = canary_name(index)
    pods = [*cluster.pods(index), *cluster.pods(canary)]
    found = Found(live, cluster.deployment(canary), pods, service=index in cluster.services())
    return describe(environment, found)
