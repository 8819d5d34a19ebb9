"""The span of a pull that failed, recorded by the puller itself: no server starts that could tell of it.

A pull that succeeds is told of by its pod's server (`search_server/processes/start_spans.py`), which would wait for
the half second that the libraries cost. After a failure nobody waits for the puller but its next try.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping
from datetime import UTC, datetime

from init_container.config import Config
from init_container.progress import Counts
from init_container.pull import Stopped
from model_repository.errors import DeliveryError
from model_repository.telemetry.log import Log, parse_traceparent
from model_repository.telemetry.spans import (
    TRACEPARENT,
    Beginning,
    attributes_of,
    close_spans,
    record_spans,
    span_of_past,
)

SERVICE = "indexpush-search"
"""As the pod's server is called, which tells of the pulls that succeed."""
_MOST_SECONDS = 2.0
"""That the next try waits at most for a collector."""


def record_failed_pull(
    environment: Mapping[str, str],
    config: Config | None,
    *,
    began: float,
    done: Counts,
    error: BaseException,
    log: Log,
) -> None:
    """Record the pull that ends now with `error`; does nothing without a rollout's span, or a collector.

    environment: this process's own. config: None: it can't be read. began: seconds since 1970. done: what it came to.
    """
    rollout = parse_traceparent(environment.get(TRACEPARENT))
    if rollout is None:
        return
    record_spans(environment, SERVICE, log)
    said = {
        "index": config.index_prefix.index if config else None,
        "build": str(config.index_prefix) if config else None,
        "generation": environment.get("COMMIT_GENERATION"),
        "pod": socket.gethostname(),
        "bytes": done.received,
        "retries": done.retries,
        "outcome": "failed",
    }
    code = error.code if isinstance(error, DeliveryError | Stopped) else type(error).__name__
    beginning = Beginning("pull", rollout, attributes=attributes_of(said), started=datetime.fromtimestamp(began, UTC))
    span_of_past(beginning, datetime.now(UTC), (code, str(error)))
    close_spans(_MOST_SECONDS)
