"""What a canary showed beside the stable pods: part of a receipt, and, while it goes on, of what the webhook says."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

from model_repository.records import Bound

Milliseconds = Annotated[float, Bound(0, 1e9)]


class SoFar(StrEnum):
    """How a canary does beside the live pods."""

    NO_WORSE = "no-worse"
    WORSE = "worse"
    TOO_FEW_ANSWERS = "too-few-answers"
    PROMOTED = "promoted"
    """It did no worse to the end, and its build rolls out."""


@dataclass(frozen=True, slots=True)
class TrackFigures:
    """One side of the comparison.

    pods: that were looked at, at most at once. probes, probes_failed: questions that the CD side asked by itself.
    p95_ms: of the answers to those, in milliseconds; None: too few to tell. requests, errors: all that the pods
    themselves counted meanwhile, callers' and probes', and those of them that were answered 5xx. mean_ms: their mean.
    """

    pods: int
    probes: int
    probes_failed: int
    p95_ms: Milliseconds | None
    requests: int
    errors: int
    mean_ms: Milliseconds | None


@dataclass(frozen=True, slots=True)
class CanaryFigures:
    """A canary and the stable pods over the same `seconds`.

    promoted: whether the build was then rolled out. wrong_answers: golden queries that the canary answered otherwise
    than the batch recorded. restarts: of the canary's containers.
    """

    promoted: bool
    seconds: Annotated[float, Bound(0, 1e9)]
    wrong_answers: int
    restarts: int
    canary: TrackFigures
    stable: TrackFigures
