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

    def info(self, message: str, **fields: object) -> None:
        """Write a line about something normal."""
        self._write("INFO", message, fields)

    def warning(self, message: str, **fields: object) -> None:
        """Write a line about something that passes by itself."""
        self._write("WARNING", message, fields)

    def error(self, message: str, **fields: object) -> None:
        """Write a line about something that a person should know."""
        self._write("ERROR", message, fields)

    def _write(self, severity: str, message: str, fields: dict[str, object]) -> None:
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
