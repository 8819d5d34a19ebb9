"""How far a rollout is, from counts: pure, and as the Deployment controller sees it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from local_stack.cluster.manifest import Json

UPDATED: Literal["ReplicaSetUpdated"] = "ReplicaSetUpdated"
COMPLETE: Literal["NewReplicaSetAvailable"] = "NewReplicaSetAvailable"
EXCEEDED: Literal["ProgressDeadlineExceeded"] = "ProgressDeadlineExceeded"


@dataclass(frozen=True, slots=True)
class Counts:
    """Pods that aren't being deleted. updated: of the current template. available: ready for minReadySeconds."""

    wanted: int = 0
    replicas: int = 0
    updated: int = 0
    ready: int = 0
    available: int = 0

    def status(self, generation: int) -> Json:
        """As Kubernetes writes them: without those that are zero."""
        fields = {
            "observedGeneration": generation,
            "replicas": self.replicas,
            "updatedReplicas": self.updated,
            "readyReplicas": self.ready,
            "availableReplicas": self.available,
            "unavailableReplicas": max(0, self.replicas - self.available),
        }
        return {name: value for name, value in fields.items() if value}


@dataclass(frozen=True, slots=True)
class Progress:
    """The condition Progressing: its reason, and since when, in seconds since the epoch."""

    reason: str
    since: float

    def deadline(self, seconds: int) -> float | None:
        """When the rollout will have taken too long; None if nothing is rolling out."""
        return self.since + seconds if self.reason == UPDATED else None


def progress(before: Progress, earlier: Counts, counts: Counts, now: float, deadline: int) -> Progress:
    """The condition as it follows from the one before. deadline: in seconds without progress."""
    if before.reason != UPDATED:
        return before  # until the next template
    if counts.wanted == counts.replicas == counts.updated == counts.available:
        return Progress(COMPLETE, now)
    old, old_before = counts.replicas - counts.updated, earlier.replicas - earlier.updated
    advanced = (
        counts.updated > earlier.updated
        or old < old_before
        or counts.ready > earlier.ready
        or counts.available > earlier.available
    )
    if advanced:
        return Progress(UPDATED, now)
    return Progress(EXCEEDED, now) if now >= before.since + deadline else before
