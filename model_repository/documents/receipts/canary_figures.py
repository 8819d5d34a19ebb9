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


def parse_canary_figures(fields: Fields) -> CanaryFigures:
    """Read what `format_canary_figures` wrote; raises `DocumentMalformed`."""
    figures = CanaryFigures(
        promoted=fields.flag("promoted", default=False),
        seconds=fields.number("seconds", least=0, most=_MOST_MS),
        wrong_answers=fields.whole("wrong_answers"),
        restarts=fields.whole("restarts"),
        canary=_parse_track(fields.object("canary")),
        stable=_parse_track(fields.object("stable")),
    )
    fields.done()
    return figures


def format_canary_figures(figures: CanaryFigures) -> dict[str, Any]:
    """The figures as JSON; what is None is left out."""
    value = asdict(figures)
    for track in ("canary", "stable"):
        value[track] = {key: found for key, found in value[track].items() if found is not None}
    return value


def _parse_track(fields: Fields) -> TrackFigures:
    def milliseconds(field: str) -> float | None:
        return fields.number(field, least=0, most=_MOST_MS) if fields.has(field) else None

    figures = TrackFigures(
        pods=fields.whole("pods"),
        probes=fields.whole("probes"),
        probes_failed=fields.whole("probes_failed"),
        p95_ms=milliseconds("p95_ms"),
        requests=fields.whole("requests"),
        errors=fields.whole("errors"),
        mean_ms=milliseconds("mean_ms"),
    )
    fields.done()
    return figures
