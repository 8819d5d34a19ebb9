"""Counts for Prometheus."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from model_repository.documents.filter_receipt import FilterReceipt
from model_repository.documents.receipt import Receipt


class Metrics:
    """The webhook's own figures, in a registry of their own."""

    def __init__(self) -> None:
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
            buckets=(1, 2, 5, 10, 20, 40, 80, 160, 320, 640, 1280),
            registry=self._registry,
        )
        self._filters = Counter(
            "indexpush_filters", "Filters by how they ended.", ["index", "outcome"], registry=self._registry
        )
        self._watching = Gauge("indexpush_rollouts_watched", "Rollouts being watched.", registry=self._registry)

    def delivered(self, outcome: str) -> None:
        """Count an answer to a sender."""
        self._deliveries.labels(outcome).inc()

    def ended(self, receipt: Receipt) -> None:
        """Count a receipt that this process wrote."""
        self._rollouts.labels(receipt.target.index, receipt.outcome.value).inc()
        self._seconds.labels(receipt.outcome.value).observe((receipt.finished - receipt.started).total_seconds())

    def filtered(self, receipt: FilterReceipt) -> None:
        """Count a filter's receipt that this process wrote."""
        self._filters.labels(receipt.target.index, receipt.outcome.value).inc()

    def text(self, watching: int) -> bytes:
        """All figures in Prometheus' text format. watching: rollouts being watched now."""
        self._watching.set(watching)
        return bytes(generate_latest(self._registry))
