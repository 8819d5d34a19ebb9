"""What a canary showed beside the stable pods: part of a receipt."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from model_repository.fields import Fields

_MOST_MS = 1e9


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
    p95_ms: float | None
    requests: int
    errors: int
    mean_ms: float | None


@dataclass(frozen=True, slots=True)
class CanaryFigures:
    """A canary and the stable pods over the same `seconds`.

    promoted: whether the build was then rolled out. wrong_answers: golden queries that the canary answered otherwise
    than the batch recorded. restarts: of the canary's containers.
    """

    promoted: bool
    seconds: float
    wrong_answers: int
    restarts: int
    canary: TrackFigures
    stable: TrackFigures


def parse_canary_figures(document: Fields) -> CanaryFigures:
    """Read what `format_canary_figures` wrote; raises `DocumentMalformed`."""
    figures = CanaryFigures(
        promoted=document.flag("promoted", default=False),
        seconds=document.number("seconds", least=0, most=_MOST_MS),
        wrong_answers=document.whole("wrong_answers"),
        restarts=document.whole("restarts"),
        canary=_parse_track(document.object("canary")),
        stable=_parse_track(document.object("stable")),
    )
    document.done()
    return figures


def format_canary_figures(figures: CanaryFigures) -> dict[str, Any]:
    """The figures as JSON; what is None is left out."""
    value = asdict(figures)
    for track in ("canary", "stable"):
        value[track] = {key: found for key, found in value[track].items() if found is not None}
    return value


def _parse_track(document: Fields) -> TrackFigures:
    def milliseconds(field: str) -> float | None:
        return document.number(field, least=0, most=_MOST_MS) if document.has(field) else None

    figures = TrackFigures(
        pods=document.whole("pods"),
        probes=document.whole("probes"),
        probes_failed=document.whole("probes_failed"),
        p95_ms=milliseconds("p95_ms"),
        requests=document.whole("requests"),
        errors=document.whole("errors"),
        mean_ms=milliseconds("mean_ms"),
    )
    document.done()
    return figures
