"""One JSON object a line on stderr, in Google Cloud's structured logging."""

from __future__ import annotations

import sys
from datetime import UTC, datetime

import orjson


def log(severity: str, message: str, **fields: object) -> None:
    """Write one entry. severity: DEBUG, INFO, NOTICE, WARNING, ERROR or CRITICAL."""
    entry = {"severity": severity, "message": message, "time": datetime.now(UTC).isoformat(), **fields}
    sys.stderr.write(orjson.dumps(entry, default=str).decode() + "\n")
    sys.stderr.flush()
