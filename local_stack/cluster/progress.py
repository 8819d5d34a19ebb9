"""The status of a Deployment, from counts: pure, and as the Deployment controller writes it."""

from __future__ import annotations

from dataclasses import dataclass

from local_stack.cluster.specification import Json

PROGRESSING, AVAILABLE = "Progressing", "Available"
_COMPLETE = "NewReplicaSetAvailable"
_EXCEEDED = "ProgressDeadlineExceeded"


@dataclass(frozen=True, slots=True)
class Counts:
    """Pods that aren't being deleted. updated: of the current template. available: ready for minReadySeconds."""

    wanted: int = 0
    replicas: int = 0
    updated: int = 0
    ready: int = 0
    available: int = 0

    @property
    def complete(self) -> bool:
        """Whether all that is wanted is there, of the current template, and nothing else."""
        return self.wanted == self.replicas == self.updated == self.available

    def advanced_from(self, before: Counts) -> bool:
        """Whether this is nearer to completion than `before`: what restarts the deadline."""
        old_now, old_before = self.replicas - self.updated, before.replicas - before.updated
        return (
            self.updated > before.updated
            or old_now < old_before
            or self.ready > before.ready
            or self.available > before.available
        )


@dataclass(frozen=True, slots=True)
class Condition:
    """A condition of a Deployment. updated, changed: in seconds since the epoch."""

    kind: str
    status: bool
    reason: str
    message: str
    updated: float
    changed: float


@dataclass(frozen=True, slots=True)
class Situation:
    """What the conditions are made from. now: in seconds since the epoch. deadline: in seconds.

    found: the name of the current ReplicaSet. new_template: since the last look; reused: and it had been there before.
    """

    found: str
    now: float
    deadline: int
    least_available: int
    new_template: bool
    reused: bool


def progressing(before: Condition | None, earlier: Counts, counts: Counts, situation: Situation) -> Condition:
    """The condition Progressing, as it follows from the one before."""
    name, now = situation.found, situation.now
    if before is None or situation.new_template:
        reason = "FoundNewReplicaSet" if situation.reused else "NewReplicaSetCreated"
        message = f'{"Found" if situation.reused else "Created"} new replica set "{name}"'
        before = _next(before, PROGRESSING, reason, message, now, status=True)
    elif before.reason == _COMPLETE and counts.replicas == counts.updated:
        return before  # one of its pods isn't available, or it is scaled: that is no new rollout, and has no deadline
    if counts.complete:
        return _next(
            before, PROGRESSING, _COMPLETE, f'ReplicaSet "{name}" has successfully progressed.', now, status=True
        )
    if counts.advanced_from(earlier):
        return _next(before, PROGRESSING, "ReplicaSetUpdated", f'ReplicaSet "{name}" is progressing.', now, status=True)
    if before.status and now >= before.updated + situation.deadline:
        message = f'ReplicaSet "{name}" has timed out progressing.'
        return _next(before, PROGRESSING, _EXCEEDED, message, now, status=False)
    return before


def deadline_of(condition: Condition | None, deadline: int) -> float | None:
    """When the rollout will have taken too long, in seconds since the epoch; None if nothing is rolling out."""
    if condition is None or not condition.status or condition.reason == _COMPLETE:
        return None
    return condition.updated + deadline


def available(before: Condition | None, counts: Counts, situation: Situation) -> Condition:
    """The condition Available."""
    if counts.available >= situation.least_available:
        reason, message = "MinimumReplicasAvailable", "Deployment has minimum availability."
    else:
        reason, message = "MinimumReplicasUnavailable", "Deployment does not have minimum availability."
    if before is not None and before.reason == reason:
        return before
    status = reason == "MinimumReplicasAvailable"
    return _next(before, AVAILABLE, reason, message, situation.now, status=status)


def _next(before: Condition | None, kind: str, reason: str, message: str, now: float, *, status: bool) -> Condition:
    changed = before.changed if before is not None and before.status == status else now
    return Condition(kind, status, reason, message, now, changed)


def status_of(generation: int, counts: Counts) -> Json:
    """The counts as Kubernetes writes them: without those that are zero."""
    fields = {
        "observedGeneration": generation,
        "replicas": counts.replicas,
        "updatedReplicas": counts.updated,
        "readyReplicas": counts.ready,
        "availableReplicas": counts.available,
        "unavailableReplicas": max(0, counts.replicas - counts.available),
    }
    return {name: value for name, value in fields.items() if value}
