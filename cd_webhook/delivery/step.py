"""What one step of a rollout found, and how long to wait before the next one."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Step:
    """One step.

    finished: nothing is left to do. sentence: how it goes, for a person.
    pause: the longest wait for the next step, in seconds; a change of the Deployment from `version` ends it. An empty
    version: nothing does.
    """

    finished: bool
    sentence: str
    version: str = ""
    pause: float = 5.0
