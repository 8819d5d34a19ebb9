"""Answers and their times, counted where all processes of a pod can read them.

Counting is on the path of every request, so it is three additions; `metrics` makes metric families of it when asked.
"""

from __future__ import annotations

from bisect import bisect_left
from http import HTTPStatus

ROUTES = (
    *("similar", "items", "search", "find-neighbors", "status", "page"),
    *("livez", "readyz", "metrics", "filter", "none"),
)
"""What was asked for; none: nothing that is served."""
STATUSES = tuple(HTTPStatus)
BUCKETS = (0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
"""Seconds, up to each of which answers are counted; the last count is of those that took longer."""

_TIMES = len(BUCKETS) + 1
_ROUTE = len(STATUSES) + _TIMES + 1
_STATUS_AT = {status.value: at for at, status in enumerate(STATUSES)}
_ROUTE_AT = {route: at * _ROUTE for at, route in enumerate(ROUTES)}


class Counters:
    """Answers by route and status, and their times by route: numbers in a row, so that memory can be shared."""

    SIZE = _ROUTE * len(ROUTES)

    def __init__(self, numbers: memoryview[float]) -> None:
        """Count in `numbers`, `SIZE` doubles."""
        self._numbers = numbers

    def count(self, route: str, status: int, seconds: float) -> None:
        """Count one answer."""
        numbers, at = self._numbers, _ROUTE_AT[route]
        numbers[at + _STATUS_AT[status]] += 1
        at += len(STATUSES)
        numbers[at + bisect_left(BUCKETS, seconds)] += 1
        numbers[at + _TIMES] += seconds

    def answers(self, route: str) -> list[float]:
        """How many of each status."""
        at = _ROUTE_AT[route]
        return list(self._numbers[at : at + len(STATUSES)])

    def times(self, route: str) -> list[float]:
        """How many in each bucket, and the sum of all seconds."""
        at = _ROUTE_AT[route] + len(STATUSES)
        return list(self._numbers[at : at + _TIMES + 1])
