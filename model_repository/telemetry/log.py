"""Log lines: one JSON object a line on standard error, in the names of Google Cloud's structured logging."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, TextIO

_TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]([0-9a-f])(?:-.*)?", re.ASCII)
_CLOUD_TRACE = re.compile(r"([0-9a-fA-F]{32})(?:/([0-9]+))?(?:;o=([0-9])|;.*)?", re.ASCII)
_TRACE: ContextVar[Trace | None] = ContextVar("trace", default=None)


@dataclass(frozen=True, slots=True)
class Log:
    """Writes lines with fixed fields; immutable, so that no line carries another's. May be shared by threads.

    fields: of every line. stream: where the lines go; None: standard error as it is then.
    """

    fields: Mapping[str, Any] = field(default_factory=dict)
    stream: TextIO | None = None

    def bind(self, **fields: object) -> Log:
        """A log whose lines carry these fields too."""
        return replace(self, fields={**self.fields, **fields})

    def debug(self, message: str, **fields: object) -> None:
        """Write what only somebody who looks for a fault wants to know."""
        self.line("DEBUG", message, **fields)

    def info(self, message: str, **fields: object) -> None:
        """Write what went as it should."""
        self.line("INFO", message, **fields)

    def warning(self, message: str, **fields: object) -> None:
        """Write what may pass, or what somebody should know."""
        self.line("WARNING", message, **fields)

    def error(self, message: str, **fields: object) -> None:
        """Write what somebody must mend."""
        self.line("ERROR", message, **fields)

    def crash(self, message: str, error: BaseException) -> None:
        """Write an error that nobody expected, with its stack, so that Error Reporting finds it."""
        self.line("ERROR", message, stack_trace="".join(traceback.format_exception(error)))

    def line(self, severity: str, message: str, **fields: object) -> None:
        """Write one line. severity: DEBUG, INFO, WARNING or ERROR. One that can't be written is lost."""
        now = datetime.now(UTC).isoformat().replace("+00:00", "Z")
        trace = found.fields() if (found := _TRACE.get()) else {}
        line = {"severity": severity, "message": message, "time": now, **trace, **self.fields, **fields}
        stream = self.stream or sys.stderr
        with contextlib.suppress(OSError):  # a full disk, or a pipe that nobody reads
            stream.write(json.dumps(line, default=str) + "\n")  # one write: lines of other threads can't mix in
            stream.flush()


@dataclass(frozen=True, slots=True)
class Trace:
    """A place in a trace.

    trace: 32 hex digits. span: 16 hex digits, or empty. project: whose traces they are, or empty.
    sampled: whether whoever began it keeps its spans.
    """

    trace: str
    span: str
    project: str = ""
    sampled: bool = True

    def fields(self) -> dict[str, str]:
        """As log lines say it."""
        name = f"projects/{self.project}/traces/{self.trace}" if self.project else self.trace
        spans = {"logging.googleapis.com/spanId": self.span} if self.span else {}
        return {"logging.googleapis.com/trace": name, **spans}

    @property
    def traceparent(self) -> str:
        """As W3C Trace Context has it; empty without a span."""
        return f"00-{self.trace}-{self.span}-{int(self.sampled):02x}" if self.span else ""

    def child(self, name: str) -> Trace:
        """The one child of that name: its place is known before it begins, and to everybody who knows the parent's."""
        return replace(self, span=hashlib.sha256(f"{name} of {self.traceparent}".encode()).hexdigest()[:16])


def tracing(
    attributes: Mapping[str, object], headers: Mapping[str, str], project: str
) -> contextlib.AbstractContextManager[None]:
    """Within this, lines belong to the trace that an event or a request names, if it names one.

    attributes: of a CloudEvent; its own ``traceparent`` comes first. headers: of the request, in any case.
    project: whose traces they are; may be empty, where nobody said so.
    """
    return within(_find(attributes, {name.lower(): value for name, value in headers.items()}, project))


@contextlib.contextmanager
def within(trace: Trace | None) -> Iterator[None]:
    """Within this, lines belong to that place of a trace; None: to none."""
    token = _TRACE.set(trace)
    try:
        yield
    finally:
        _TRACE.reset(token)


def current_trace() -> Trace | None:
    """Where lines belong that are written now; None: to no trace."""
    return _TRACE.get()


def trace_headers() -> dict[str, str]:
    """The headers that make a request part of this trace; none where there is no trace."""
    found = _TRACE.get()
    return {"traceparent": found.traceparent} if found and found.span else {}


def parse_traceparent(stated: object, project: str = "") -> Trace | None:
    """Read what `Trace.traceparent` writes, of any version; None: it is no such thing."""
    found = _TRACEPARENT.fullmatch(stated.strip()) if isinstance(stated, str) else None
    if found is None or not found[1].strip("0"):
        return None
    return Trace(found[1], found[2], project, sampled=bool(int(found[3], 16) & 1))


def _find(attributes: Mapping[str, object], headers: Mapping[str, str], project: str) -> Trace | None:
    for stated in (attributes.get("traceparent"), headers.get("traceparent")):
        if found := parse_traceparent(stated, project):
            return found
    cloud = _CLOUD_TRACE.fullmatch(headers.get("x-cloud-trace-context", "").strip())
    if cloud is None:
        return None
    number = int(cloud[2] or 0)
    span = f"{number:016x}" if 0 < number < 2**64 else ""
    return Trace(cloud[1].lower(), span, project, sampled=cloud[3] != "0")
