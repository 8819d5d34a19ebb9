"""The spans of a rollout: what a delivery is about, and the rollout itself once its verdict is known.

A rollout outlives the request that began it, and perhaps the process. The Deployment keeps its trace, with the request
and then with the receipt; so whoever writes the receipt records the span, whose place pods knew from the start.
"""

from __future__ import annotations

from model_repository.deployment import DeploymentRequest
from model_repository.documents.receipts.receipt import Outcome, Receipt
from model_repository.telemetry.log import parse_traceparent
from model_repository.telemetry.spans import Attribute, Beginning, attributes_of, span_of_past


def about(it: DeploymentRequest | Receipt) -> dict[str, Attribute]:
    """What every span of a commit says of it."""
    said: dict[str, Attribute] = {"index": it.target.index, "environment": it.target.environment}
    return said | {"generation": str(it.generation), "build": str(it.index_prefix or "")}


def record_rollout(receipt: Receipt, traceparent: str) -> None:
    """Record the rollout that a receipt ends. traceparent: of its delivery; empty: that one wasn't recorded either."""
    delivery = parse_traceparent(traceparent)
    if delivery is None:
        return
    said = attributes_of({**about(receipt), "outcome": receipt.outcome.value, "reason": receipt.detail})
    beginning = Beginning(
        "rollout", delivery, attributes=said, started=receipt.started, span=delivery.child("rollout").span
    )
    failed = (receipt.code, receipt.detail) if receipt.outcome is Outcome.UNDONE else None
    span_of_past(beginning, receipt.finished, failed)
