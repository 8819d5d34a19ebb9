"""One JSON object a line on standard error, in the names of Google Cloud's structured logging."""

from __future__ import annotations

import contextlib
import json
import sys
import threading
from collections.abc import Iterator
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import TextIO

_TRACE: ContextVar[str] = ContextVar("trace", default="")


class Log:
    """Writes lines; may be shared by threads."""

    def __init__(self, stream: TextIO | None = None) -> None:
        """stream: where the lines go; None: standard error."""
        self._stream = stream or sys.stderr
        self._lock = threading.Lock()

    def line(self, severity: str, message: str, **fields: object) -> None:
        """Write one line. severity: INFO; WARNING, it passes by itself; ERROR, a person should know."""
        line: dict[str, object] = {"severity": severity, "message": message, "time": datetime.now(UTC).isoformat()}
        if trace := _TRACE.get():
            line["logging.googleapis.com/trace"] = trace
        text = json.dumps(line | fields, default=str) + "\n"
        with self._lock:
            self._stream.write(text)
            self._stream.flush()


@contextlib.contextmanager
def tracing(trace: str) -> Iterator[None]:
    """Within this, every line carries the trace id (empty: none)."""
    token = _TRACE.set(trace)
    try:
        yield
    finally:
        _TRACE.reset(token)
