"""What one step of a rollout found, and what to wait for before the next one."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Step:
    """One step.

    finished: nothing is left to do. sentence: how it goes, for a person.
    waits_for, version: the Deployment whose change from this version ends the wait for the next step; empty: the
    index's own. pause: the longest wait, in seconds.
    """

    finished: bool
    sentence: str
    version: str = ""
    waits_for: str = ""
    pause: float = 5.0
