"""What a step tells while it works. Whoever runs the batch passes in what listens."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Progress:
    """`done` of `total` units of a step are done; the first has done = 0, the last done = total."""

    step: str
    done: int
    total: int


@dataclass(frozen=True, slots=True)
class StepEnded:
    """A step took that many seconds. detail: a few words about what it did."""

    step: str
    seconds: float
    detail: str


@dataclass(frozen=True, slots=True)
class Warned:
    """Something is wrong that doesn't stop the batch: a sentence that names it and says what to do."""

    message: str


Event = Progress | StepEnded | Warned
Listener = Callable[[Event], None]
