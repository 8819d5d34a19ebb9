"""Where the seconds between a commit and its first answer go."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Stage:
    """One share of the way. seconds: may be 0, never negative."""

    name: str
    seconds: float


def stages(
    committed: float, event_came: float, events: Sequence[Mapping[str, Any]], answered: float
) -> tuple[Stage, ...]:
    """The shares of one rollout, in order; all times are seconds since the epoch.

    committed: when the commit was uploaded. event_came: when its event reached the function. events: what the cluster
    recorded for this rollout's pod. answered: when a caller first got an answer of the new generation.
    """
    created = _time(events, "PodCreated", None)
    pulling, pulled = _time(events, "Started", "pull"), _time(events, "Ended", "pull")
    started, ready = _time(events, "Started", "search-server"), _time(events, "Ready", None)
    marks = [
        ("the event arrives", committed, event_came),
        ("function and webhook check, decide and apply", event_came, created),
        ("the pod starts", created, pulling),
        ("pull and verify", pulling, pulled),
        ("load, prove, ready", min(started, pulled), ready),
        ("the Service switches over", ready, answered),
    ]
    return tuple(Stage(name, max(end - begin, 0.0)) for name, begin, end in marks)


def _time(events: Sequence[Mapping[str, Any]], reason: str, container: str | None) -> float:
    times = [
        float(event["time"])
        for event in events
        if event["reason"] == reason and (container is None or event.get("container") == container)
    ]
    return times[0] if times else 0.0
