"""Figures for Prometheus."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from cd_webhook.telemetry.index_figures import IndexFigures
from model_repository.clock import Clock
from model_repository.documents.receipts.filter_receipt import FilterReceipt
from model_repository.documents.receipts.receipt import Outcome, Receipt
from model_repository.names import IndexPrefix

_SECONDS = (1, 2, 5, 10, 20, 40, 80, 160, 320, 640, 1280)


class Metrics:
    """The webhook's own figures, in a registry of their own.

    environment: what it deploys. freshness: the longest that what serves may be of age; None: nobody said.
    seconds: that never run backwards.
    """

    def __init__(
        self,
        environment: str,
        clock: Clock,
        freshness: timedelta | None = None,
        seconds: Callable[[], float] = time.monotonic,
    ) -> None:
        self._registry = CollectorRegistry()
        self._deliveries = Counter(
            "indexpush_deliveries", "Requests by what the sender was told.", ["outcome"], registry=self._registry
        )
        self._rollouts = Counter(
            "indexpush_rollouts", "Commits by how they ended.", ["index", "outcome"], registry=self._registry
        )
        self._seconds = Histogram(
            "indexpush_rollout_seconds",
            "From taking a commit up to knowing how it ended.",
            ["outcome"],
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._commit_to_ready = Histogram(
            "indexpush_commit_to_ready_seconds",
            "From the upload of a commit to its pods serving, by two machines' clocks.",
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._filters = Counter(
            "indexpush_filters", "Filters by how they ended.", ["index", "outcome"], registry=self._registry
        )
        self._watching = Gauge("indexpush_rollouts_watched", "Rollouts being watched.", registry=self._registry)
        self._cluster = _Cluster(environment, clock, seconds, freshness, swept=seconds(), seen=seconds())
        self._registry.register(self._cluster)

    def delivered(self, outcome: str) -> None:
        """Count an answer to a sender."""
        self._deliveries.labels(outcome).inc()

    def ended(self, receipt: Receipt) -> None:
        """Count a receipt that this process wrote."""
        self._rollouts.labels(receipt.target.index, receipt.outcome.value).inc()
        self._seconds.labels(receipt.outcome.value).observe(receipt.seconds)

    def ready(self, committed: datetime, served: datetime) -> None:
        """Count the time that a commit took from its upload on."""
        self._commit_to_ready.observe(_between(committed, served))

    def filtered(self, receipt: FilterReceipt) -> None:
        """Count a filter's receipt that this process wrote."""
        self._filters.labels(receipt.target.index, receipt.outcome.value).inc()

    def swept(self) -> None:
        """Whoever sweeps has asked what is deployed."""
        self._cluster.swept = self._cluster.seconds()

    def saw(
        self, indexes: Iterable[IndexFigures], made: Mapping[IndexPrefix, datetime], held: Mapping[str, datetime]
    ) -> None:
        """Keep what a look at the whole cluster showed.

        made: when builds were made, where that is known. held: since when indexes are on hold, of those that are.
        """
        self._cluster.indexes, self._cluster.made, self._cluster.held = tuple(indexes), made, held
        for it in self._cluster.indexes:
            for outcome in Outcome:  # from 0 on: Prometheus' increase() doesn't count what a series begins with
                self._rollouts.labels(it.index, outcome.value)
        self._cluster.seen = self._cluster.seconds()

    def text(self, watching: int) -> bytes:
        """All figures in Prometheus' text format. watching: rollouts being watched now."""
        self._watching.set(watching)
        return bytes(generate_latest(self._registry))


@dataclass(eq=False)
class _Cluster(Collector):
    """What was seen last, and how long ago everything was when Prometheus asks.

    swept: when a sweep last asked. seen: when the cluster was last looked at. Both: at the latest when this began, and
    in `seconds`: where a clock that was set back made one replica's age the least of all, nobody would be told.
    """

    environment: str
    clock: Clock
    seconds: Callable[[], float]
    freshness: timedelta | None
    swept: float
    seen: float
    indexes: tuple[IndexFigures, ...] = ()
    made: Mapping[IndexPrefix, datetime] = field(default_factory=dict)
    held: Mapping[str, datetime] = field(default_factory=dict)

    def describe(self) -> list[Metric]:
        """Nothing beforehand: the registry would otherwise ask before there is anything."""
        return []

    def collect(self) -> Iterator[Metric]:
        """The metric families, as prometheus_client wants them."""
        swept, seen = self.seconds() - self.swept, self.seconds() - self.seen
        yield self._of_environment("sweep_age_seconds", "Since a sweep asked what is deployed", swept)
        yield self._of_environment("cluster_seen_age_seconds", "Since the cluster was looked at", seen)
        if self.freshness is not None:
            target = self.freshness.total_seconds()
            yield self._of_environment("index_freshness_target_seconds", "How old what serves may be", target)
        yield self._of_indexes(
            "index_age_seconds",
            "Since the build that serves was made",
            {it.index: self._age(self.made[it.build]) for it in self.indexes if it.build and it.build in self.made},
        )
        yield self._of_indexes(
            "index_hold_seconds",
            "Since the live commit was made that holds the index",
            {index: self._age(since) for index, since in self.held.items()},
        )
        since = {it.index: it.rolling_out_since for it in self.indexes}
        yield self._of_indexes(
            "rollout_age_seconds",
            "Since the rollout that goes on was taken up",
            {index: self._age(moment) for index, moment in since.items() if moment},
        )
        for name, help_text, values in (
            (
                "pods_wanted",
                "Pods that an index's Deployment asks for",
                {it.index: it.pods_wanted for it in self.indexes},
            ),
            ("pods_ready", "Pods of an index that are ready", {it.index: it.pods_ready for it in self.indexes}),
            (
                "receipts_owed",
                "Receipts that are decided, and not in the bucket",
                {it.index: it.receipts_owed for it in self.indexes},
            ),
        ):
            yield self._of_indexes(name, help_text, values)

    def _of_environment(self, name: str, help_text: str, value: float) -> Metric:
        family = GaugeMetricFamily(f"indexpush_{name}", help_text, labels=["environment"])
        family.add_metric([self.environment], value)
        return family

    def _of_indexes(self, name: str, help_text: str, values: Mapping[str, float]) -> Metric:
        family = GaugeMetricFamily(f"indexpush_{name}", help_text, labels=["environment", "index"])
        for index, value in values.items():
            family.add_metric([self.environment, index], value)
        return family

    def _age(self, moment: datetime) -> float:
        return _between(moment, self.clock.now())


def _between(begin: datetime, end: datetime) -> float:
    """Seconds; none where two clocks, or one that was set back, say that the end came first."""
    return max(0.0, (end - begin).total_seconds())
