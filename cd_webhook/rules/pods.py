"""What is wrong with one pod, read from its conditions and container statuses, as one sentence for a person."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from cd_webhook.cluster import Object
from cd_webhook.state import NEVER
from model_repository.exit_codes import ExitCode

EVICTED = "pod-evicted"
OUR_CONTAINERS = frozenset({"pull", "search-server"})
"""As the template names them."""

_ENDS = 4
"""So many ends without an exit code that says whether a retry helps are final."""
_ENDS_AT_ONCE = 3
_AT_ONCE = timedelta(seconds=10)
"""A container that ends so soon after its start fails by what it is, not by what happens to it: fewer are final then.
What may pass has 75 to say so. Kubernetes waits 10, 20, 40 s between such starts, so this end comes within a minute."""
_PATIENCE = timedelta(seconds=60)
"""So long may an image or a configuration be missing: a registry hiccup passes, a wrong name does not."""
_IMAGE = frozenset({"ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "RegistryUnavailable"})
_CONFIG = frozenset({"CreateContainerConfigError", "CreateContainerError", "RunContainerError"})


@dataclass(frozen=True, slots=True)
class Trouble:
    """What keeps a pod from being ready. hopeless: waiting can't help."""

    code: str
    sentence: str
    hopeless: bool = False


def condition(status: dict[str, Any], kind: str, value: str) -> dict[str, Any]:
    """The condition of that kind in a Deployment's or a pod's status if it has that value, else an empty one."""
    found = (
        each for each in status.get("conditions") or [] if each.get("type") == kind and each.get("status") == value
    )
    return next(found, {})


def is_ready(pod: Object) -> bool:
    """Whether the Service sends to it."""
    return bool(condition(pod.get("status") or {}, "Ready", "True"))


def trouble_of(pod: Object, watched: timedelta, now: datetime) -> Trouble | None:
    """The trouble of a pod; None if it is ready or on its way without complaint.

    watched: for how long whoever asks has watched its rollout. now: by its clock.
    """
    status = pod.get("status") or {}
    stands = min(watched, _stands_for(status, now))
    name = f"pod {pod['metadata'].get('name', '?')}"
    if is_ready(pod):
        return None
    if status.get("phase") == "Failed" and (reason := status.get("reason")):
        # only an eviction may be the build's own doing; a node that shuts down or takes no pod says nothing of it
        code = EVICTED if reason == "Evicted" else "pod-trying-again"
        return Trouble(code, f"{name}: {reason}: {_short(status.get('message'))}")
    for container in _containers(status, ours=True):
        trouble = _container_trouble(name, container, stands)
        if trouble:
            return trouble
    unscheduled = condition(status, "PodScheduled", "False")
    if unscheduled:
        return Trouble("pod-unschedulable", f"{name} has no node: {_short(unscheduled.get('message'))}")
    return next(filter(None, (_trouble_beside(name, each) for each in _containers(status, ours=False))), None)


def _stands_for(status: dict[str, Any], now: datetime) -> timedelta:
    """Since when a pod stands as it does: it got its node, or the containers before are done; for ever, if nobody says.

    Nodes are made for minutes, and their first pull fails easily; a container's image is asked for when it is its turn.
    """
    moments = (_moment(each.get("lastTransitionTime")) for each in status.get("conditions") or [])
    return now - max(filter(None, moments), default=NEVER)


def _containers(status: dict[str, Any], *, ours: bool) -> Iterator[dict[str, Any]]:
    for kind in ("initContainerStatuses", "containerStatuses"):
        yield from (each for each in status.get(kind) or [] if (each.get("name") in OUR_CONTAINERS) is ours)


def _trouble_beside(name: str, container: dict[str, Any]) -> Trouble | None:
    """Of a container that values or a mesh added: what keeps the pod waiting; of the build it says nothing."""
    state = container.get("state") or {}
    who, waiting = f"{name}: {container.get('name', '?')}", state.get("waiting") or {}
    ended = state.get("terminated") or (container.get("lastState") or {}).get("terminated")
    if ended and int(ended.get("exitCode") or 0) != 0 and not container.get("ready"):
        words = _short(ended.get("message")) or str(ended.get("reason") or "no last words")
        return Trouble("pod-trying-again", f"{who} ended with {ended['exitCode']}: {words}")
    if waiting.get("reason") in _IMAGE | _CONFIG | {"InvalidImageName"}:
        return Trouble("pod-trying-again", f"{who}: {waiting['reason']}: {_short(waiting.get('message'))}")
    return None


def _container_trouble(name: str, container: dict[str, Any], stands: timedelta) -> Trouble | None:
    state = container.get("state") or {}
    waiting = state.get("waiting") or {}
    reason = str(waiting.get("reason") or "")
    who = f"{name}: {container.get('name', '?')}"
    if reason == "InvalidImageName":
        return Trouble("image-unavailable", f"{who}: {reason}: {_short(waiting.get('message'))}", hopeless=True)
    if reason in _IMAGE or reason in _CONFIG:
        code = "image-unavailable" if reason in _IMAGE else "pod-misconfigured"
        return Trouble(code, f"{who}: {reason}: {_short(waiting.get('message'))}", hopeless=stands > _PATIENCE)
    ended = state.get("terminated") or (container.get("lastState") or {}).get("terminated")
    if not ended or int(ended.get("exitCode") or 0) == 0 or container.get("ready"):
        return None
    # The count goes up when a container starts again, so one that waits or has ended has ended once more than that.
    ends = int(container.get("restartCount") or 0) + ("running" not in state)
    return _ended_trouble(who, ended, ends)


def _ended_trouble(who: str, ended: dict[str, Any], ends: int) -> Trouble:
    exit_code = int(ended["exitCode"])
    words = _short(ended.get("message")) or str(ended.get("reason") or "no last words")
    if exit_code == ExitCode.DATA:
        return Trouble("pod-refused-data", f"{who} refused the build: {words}", hopeless=True)
    if exit_code == ExitCode.USAGE:
        return Trouble("pod-misconfigured", f"{who} is misconfigured: {words}", hopeless=True)
    if exit_code == ExitCode.TRY_AGAIN:
        return Trouble("pod-trying-again", f"{who} tries again: {words}")
    if ended.get("reason") == "OOMKilled":
        sentence = f"{who} ran out of memory and was killed"
        return Trouble("pod-out-of-memory", sentence, hopeless=ends >= _ENDS)
    final = _ENDS_AT_ONCE if _lived(ended) <= _AT_ONCE else _ENDS
    times = f" for the {_ordinal(ends)} time" if ends > 1 else ""
    return Trouble("crash-loop", f"{who} ended with {exit_code}{times}: {words}", hopeless=ends >= final)


def _lived(ended: dict[str, Any]) -> timedelta:
    """How long a container ran; for ever, if nobody says."""
    started, finished = _moment(ended.get("startedAt")), _moment(ended.get("finishedAt"))
    return finished - started if started and finished else timedelta.max


def _moment(text: object) -> datetime | None:
    if not text:
        return None
    try:
        return datetime.fromisoformat(str(text))
    except ValueError:
        return None


def _short(text: object) -> str:
    words = " ".join(str(text or "").split())
    return words if len(words) <= 500 else f"{words[:497]}..."  # noqa: PLR2004 - a sentence, not a log


def _ordinal(number: int) -> str:
    return {1: "1st", 2: "2nd", 3: "3rd"}.get(number, f"{number}th")
