"""What Prometheus scrapes.

Counting is on the path of every request, so it is two additions here, and made into metric families when asked for.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

_BUCKETS = (0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)


@dataclass(frozen=True, slots=True)
class Reading:
    """The state of the server at the moment of a scrape. labels: what it serves."""

    ready: bool
    connections: int
    answering: int
    pictures: int
    items: int
    labels: dict[str, str]


class Metrics(Collector):
    """Counts answers and their times by route."""

    def __init__(self, read: Callable[[], Reading]) -> None:
        """Ask `read` for the state of the server at each scrape."""
        self._read = read
        self._answers: defaultdict[tuple[str, int], int] = defaultdict(int)
        self._times: defaultdict[str, list[int]] = defaultdict(lambda: [0] * (len(_BUCKETS) + 1))
        self._seconds: defaultdict[str, float] = defaultdict(float)
        self._registry = CollectorRegistry()
        self._registry.register(self)
        ProcessCollector(registry=self._registry)

    def count(self, route: str, status: int, seconds: float) -> None:
        """Count one answer."""
        self._answers[route, status] += 1
        self._times[route][bisect_left(_BUCKETS, seconds)] += 1
        self._seconds[route] += seconds

    def exposition(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self._registry)

    def describe(self) -> list[Metric]:
        """Nothing beforehand: the registry would otherwise scrape in order to find the names."""
        return []

    def collect(self) -> Iterator[Metric]:
        """The metric families, as prometheus_client wants them."""
        answers = CounterMetricFamily("indexpush_search_requests", "Answers written", labels=["route", "code"])
        for (route, status), count in self._answers.items():
            answers.add_metric([route, str(status)], count)
        yield answers
        times = HistogramMetricFamily(
            "indexpush_search_request_seconds", "From a request read to its answer written", labels=["route"]
        )
        for route, counts in self._times.items():
            times.add_metric([route], list(_cumulated(counts)), self._seconds[route])
        yield times
        reading = self._read()
        for name, help_text, value in (
            ("ready", "1 when the self-proof passed and the server isn't leaving", reading.ready),
            ("connections", "Open connections", reading.connections),
            ("requests_in_flight", "Requests being read or answered", reading.answering),
            ("pictures_waiting", "Pictures waiting for the model or being embedded", reading.pictures),
            ("items", "Items of the index", reading.items),
        ):
            yield GaugeMetricFamily(f"indexpush_search_{name}", help_text, value=float(value))
        serving = GaugeMetricFamily("indexpush_search_serving", "What is served", labels=list(reading.labels))
        serving.add_metric(list(reading.labels.values()), 1)
        yield serving


def _cumulated(counts: list[int]) -> Iterator[tuple[str, float]]:
    total = 0
    for bound, count in zip((*map(str, _BUCKETS), "+Inf"), counts, strict=True):
        total += count
        yield bound, total
