"""The state of a rollout as values, and as the annotations of its Deployment that hold it."""

from __future__ import annotations

from cd_webhook.state.annotations import changed, format_deployed, format_receipts, marks, read_deployed, seal
from cd_webhook.state.deployed import NEVER, Deployed, Rollout, Trial

__all__ = [
    "NEVER",
    "Deployed",
    "Rollout",
    "Trial",
    "changed",
    "format_deployed",
    "format_receipts",
    "marks",
    "read_deployed",
    "seal",
]
