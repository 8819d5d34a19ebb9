"""How a rollout goes: a pure judgement of what the cluster shows, with one sentence for a person."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from cd_webhook.cluster import Object
from cd_webhook.rules.pods import EVICTED, Trouble, condition, is_ready, trouble_of
from cd_webhook.state import NEVER
from manifests.metadata import COMMIT_GENERATION


@dataclass(frozen=True, slots=True)
class Progressing:
    """Not decided yet; what it waits for."""

    sentence: str


@dataclass(frozen=True, slots=True)
class Served:
    """Every pod that was asked for runs the new template and is available; the old ones are gone."""

    sentence: str


@dataclass(frozen=True, slots=True)
class Failed:
    """It will not become ready: undo it. code: stable, for the receipt."""

    code: str
    sentence: str


Verdict = Progressing | Served | Failed

_GRACE = timedelta(seconds=30)
"""How much longer than Kubernetes itself this judge waits, so that Kubernetes' own word is usually the first."""
_EVICTIONS = 3
_PAUSED = "somebody paused the Deployment; kubectl rollout resume lets it go on"
_NOBODY = "replicas is 0, so no pod can prove the build: scale the Deployment up"


def judge(
    deployment: Object, pods: Sequence[Object], *, watched: timedelta = timedelta(0), now: datetime = NEVER
) -> Verdict:
    """Judge the rollout of the newest request.

    deployment, pods: as the API gives them. watched: for how long whoever asks has watched this rollout, and now: by
    its clock; without them no time is ever up.

    The deadline is the Deployment's own progressDeadlineSeconds without progress, by Kubernetes' word, as far as that
    is one on this rollout; a limit on the whole, for each pod one deadline, ends those that never stop making a little
    progress.
    """
    spec, status = deployment["spec"], deployment.get("status") or {}
    if int(status.get("observedGeneration", 0)) < int(deployment["metadata"].get("generation", 0)):
        progress = condition(status, "Progressing", "False")  # all that Kubernetes notes where it may not make one
        why = str(progress.get("message")) if progress.get("reason") == "ReplicaSetCreateError" else ""
        waits = "waiting for the cluster to take note of the new Deployment"
        return _out_of_time(spec, watched, why) or Progressing(why or waits)
    if _wanted(spec) and _complete(spec, status):
        return Served(f"{status.get('availableReplicas', 0)} of {_wanted(spec)} pods serve")
    if held := _held_by_hand(spec):
        return _out_of_time(spec, watched, held) or Progressing(held)
    troubles = _troubles(spec, pods, watched, now)
    hopeless = next((trouble for trouble in troubles if trouble.hopeless), None)
    if hopeless:
        return Failed(hopeless.code, hopeless.sentence)
    why = troubles[0].sentence if troubles else str(condition(status, "ReplicaFailure", "True").get("message") or "")
    if _deadline_passed(spec, status, pods, watched):
        return Failed("deadline-exceeded", _late(spec["progressDeadlineSeconds"], why))
    late = _out_of_time(spec, watched, why)
    return late or Progressing(why or _count(spec, status))


def _deadline_passed(spec: dict[str, Any], status: dict[str, Any], pods: Sequence[Object], watched: timedelta) -> bool:
    """Whether the deadline passed without progress.

    Kubernetes counts from its controller's note that it made a new ReplicaSet. If anybody else, such as a webhook,
    wrote to the Deployment just then, that write fails, and it isn't tried again: until there is progress the condition
    stays that of the rollout before, which says nothing of this one. If that had served, Kubernetes counts nothing; if
    it was late, this one is called late from its first moment (syncRolloutStatus and DeploymentTimedOut of 1.34). On a
    busy node a write right after the apply brought that about in a third of all rollouts. So the deadline has to have
    passed here, too.
    """
    if watched <= timedelta(seconds=int(spec["progressDeadlineSeconds"])):
        return False
    if condition(status, "Progressing", "False").get("reason") == "ProgressDeadlineExceeded":
        return True
    uncounted = condition(status, "Progressing", "True").get("reason") == "NewReplicaSetAvailable"
    return uncounted and not any(map(is_ready, new_pods(spec, pods)))


def _held_by_hand(spec: dict[str, Any]) -> str:
    if _wanted(spec) == 0:
        return _NOBODY
    return _PAUSED if spec.get("paused") else ""


def new_pods(deployment_spec: dict[str, Any], pods: Sequence[Object]) -> list[Object]:
    """The pods of the Deployment's present template that aren't leaving."""
    wanted = _generation(deployment_spec["template"])
    return [pod for pod in pods if _generation(pod) == wanted and not pod["metadata"].get("deletionTimestamp")]


def _generation(value: Object) -> str:
    annotations: dict[str, str] = value["metadata"].get("annotations") or {}
    return annotations.get(COMMIT_GENERATION, "")


def _wanted(spec: dict[str, Any]) -> int:
    return int(spec.get("replicas", 1))


def _complete(spec: dict[str, Any], status: dict[str, Any]) -> bool:
    wanted = _wanted(spec)
    counts = [int(status.get(field) or 0) for field in ("updatedReplicas", "replicas", "availableReplicas")]
    return counts == [wanted] * 3 and not status.get("unavailableReplicas")


def _troubles(spec: dict[str, Any], pods: Sequence[Object], watched: timedelta, now: datetime) -> list[Trouble]:
    fresh = new_pods(spec, pods)
    troubles = [trouble for pod in fresh if (trouble := trouble_of(pod, watched, now))]
    evicted = [trouble for trouble in troubles if trouble.code == EVICTED]
    if len(evicted) >= _EVICTIONS:
        troubles.append(Trouble(evicted[0].code, f"{len(evicted)} pods: {evicted[0].sentence}", hopeless=True))
    return troubles


def _late(seconds: int, why: str) -> str:
    return f"not ready within {seconds} s: {why or 'no pod says why; see kubectl describe'}"


def _out_of_time(spec: dict[str, Any], watched: timedelta, why: str = "") -> Failed | None:
    limit = longest(spec)
    if watched <= limit + _GRACE:
        return None
    return Failed("deadline-exceeded", _late(int(limit.total_seconds()), why or "the cluster made no progress"))


def longest(spec: dict[str, Any]) -> timedelta:
    """How long a whole rollout may take: for each pod, and once more, the deadline without progress."""
    return timedelta(seconds=int(spec.get("progressDeadlineSeconds", 600))) * (_wanted(spec) + 1)


def _count(spec: dict[str, Any], status: dict[str, Any]) -> str:
    updated, ready = int(status.get("updatedReplicas") or 0), int(status.get("readyReplicas") or 0)
    old = int(status.get("replicas") or 0) - updated
    leaving = f", {old} old still there" if old > 0 else ""
    return f"{updated} of {_wanted(spec)} pods are new, {ready} ready{leaving}"
