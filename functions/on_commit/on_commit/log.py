"""One JSON object a line on stderr, in Google Cloud's structured logging names."""

from __future__ import annotations

import json
import re
import sys
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, TextIO

_TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}(?:-.*)?", re.ASCII)
_CLOUD_TRACE = re.compile(r"([0-9a-fA-F]{32})(?:/([0-9]+))?(?:;.*)?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Trace:
    """Where an event belongs. trace_id: 32 hex digits. span_id: 16 hex digits, or empty."""

    trace_id: str
    span_id: str = ""


def find_trace(attributes: Mapping[str, object], headers: Mapping[str, str]) -> Trace | None:
    """The trace of an event: its own (CloudEvents' distributed tracing extension), else that of the request."""
    of_request = {name.lower(): value for name, value in headers.items()}
    for stated in (attributes.get("traceparent"), of_request.get("traceparent")):
        found = _TRACEPARENT.fullmatch(stated.strip()) if isinstance(stated, str) else None
        if found and found[1].strip("0"):
            return Trace(found[1], found[2])
    found = _CLOUD_TRACE.fullmatch(of_request.get("x-cloud-trace-context", "").strip())
    if found is None:
        return None
    span = int(found[2] or 0)
    return Trace(found[1].lower(), f"{span:016x}" if 0 < span < 2**64 else "")


@dataclass(frozen=True, slots=True)
class Journal:
    """Writes log lines with fixed fields; immutable, so a line never carries another event's fields."""

    fields: Mapping[str, Any] = field(default_factory=dict)
    stream: TextIO | None = None

    def bind(self, **fields: object) -> Journal:
        """A journal whose lines carry these fields too."""
        return replace(self, fields={**self.fields, **fields})

    def of_trace(self, trace: Trace | None, project: str) -> Journal:
        """A journal whose lines belong to a trace. project: may be empty, where nobody said which it is."""
        if trace is None:
            return self
        name = f"projects/{project}/traces/{trace.trace_id}" if project else trace.trace_id
        fields = {"logging.googleapis.com/trace": name}
        if trace.span_id:
            fields["logging.googleapis.com/spanId"] = trace.span_id
        return self.bind(**fields)

    def info(self, message: str, **fields: object) -> None:
        """Log what went as it should."""
        self._write("INFO", message, fields)

    def warning(self, message: str, **fields: object) -> None:
        """Log what may pass, or what somebody should know."""
        self._write("WARNING", message, fields)

    def error(self, message: str, **fields: object) -> None:
        """Log what somebody must mend."""
        self._write("ERROR", message, fields)

    def crash(self, message: str, error: BaseException) -> None:
        """Log an error that nobody expected, with its stack, so that Error Reporting finds it."""
        stack = "".join(traceback.format_exception(error))
        self._write("ERROR", message, {"stack_trace": stack})

    def _write(self, severity: str, message: str, fields: Mapping[str, object]) -> None:
        now = datetime.now(UTC).isoformat().replace("+00:00", "Z")
        line = {"severity": severity, "message": message, "time": now, **self.fields, **fields}
        stream = self.stream or sys.stderr
        stream.write(json.dumps(line, default=str) + "\n")  # one write: lines of other threads can't mix in
        stream.flush()
