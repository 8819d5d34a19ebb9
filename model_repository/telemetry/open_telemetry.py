"""Spans by OpenTelemetry's SDK, exported by OTLP over HTTP. Imported only where spans are wanted: see `spans`.

Endpoint, headers, sampler, resource and batches are OpenTelemetry's own variables, which the SDK reads of this process.
What ended is in a bounded queue of a thread that exports; while a collector is away, spans are lost and nothing waits.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Mapping
from contextvars import ContextVar
from datetime import datetime

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.trace import NonRecordingSpan, Span, SpanContext, SpanKind, TraceFlags, set_span_in_context
from opentelemetry.trace.status import Status, StatusCode

from model_repository import __version__
from model_repository.errors import Misconfigured
from model_repository.telemetry.log import Log, Trace
from model_repository.telemetry.spans import Attribute, Beginning

_PROTOCOL = "http/protobuf"
_READS_HEADERS = "opentelemetry.util.re"
"""The library's logger that repeats a header that it can't read; and in headers are secrets."""
_NO_PAIRS = (
    "OTEL_EXPORTER_OTLP_HEADERS, or OTEL_EXPORTER_OTLP_TRACES_HEADERS: expected name=value, URL-encoded, with commas "
    "between; what is not so is left out"
)
_LONGEST = 1000
"""Characters of a reason."""
_BEGINNING: ContextVar[Beginning | None] = ContextVar("beginning", default=None)


class SdkRecorder:
    """Records spans, and exports them in the background."""

    def __init__(self, service: str, log: Log, exporter: SpanExporter | None = None) -> None:
        """Begin to export. service: the name unless the variables say one. exporter: None: as the variables say.

        Raises `Misconfigured`, and what the SDK raises, for variables that make no sense.
        """
        named = Resource.create()
        own = {SERVICE_VERSION: __version__}
        if str(named.attributes.get(SERVICE_NAME, "unknown_service")).startswith("unknown_service"):
            own[SERVICE_NAME] = service
        _log_to(log)
        self._provider = TracerProvider(
            resource=named.merge(Resource(own)), id_generator=_Ids(), shutdown_on_exit=False
        )
        self._provider.add_span_processor(BatchSpanProcessor(exporter or _exporter()))
        self._tracer = self._provider.get_tracer("indexpush", __version__)
        self._waiting: threading.Thread | None = None

    def begin(self, beginning: Beginning) -> SdkSpan:
        """Begin a span."""
        token = _BEGINNING.set(beginning)
        parent = beginning.parent
        try:
            opened = self._tracer.start_span(
                beginning.name,
                context=set_span_in_context(NonRecordingSpan(_context(parent))) if parent else None,
                kind=SpanKind[beginning.kind.name],
                attributes=beginning.attributes,
                start_time=_nanoseconds(beginning.started),
            )
        finally:
            _BEGINNING.reset(token)
        return SdkSpan(opened)

    def flush(self, seconds: float) -> None:
        """Wait until all that ended is exported, for so many seconds at most.

        While an earlier one still waits for the collector, this one doesn't wait.
        """
        if self._waiting is not None and self._waiting.is_alive():
            return
        # the SDK's own takes no time limit
        self._waiting = threading.Thread(target=self._provider.force_flush, name="flush spans", daemon=True)
        self._waiting.start()
        self._waiting.join(seconds)

    def close(self, seconds: float) -> None:
        """Likewise, for good."""
        closing = threading.Thread(target=self._provider.shutdown, name="close spans", daemon=True)
        closing.start()
        closing.join(seconds)


class SdkSpan:
    """A span that hasn't ended."""

    def __init__(self, opened: Span) -> None:
        self._opened = opened

    @property
    def trace(self) -> Trace:
        """Its own place in the trace."""
        it = self._opened.get_span_context()
        return Trace(f"{it.trace_id:032x}", f"{it.span_id:016x}", sampled=it.trace_flags.sampled)

    def note(self, attributes: Mapping[str, Attribute]) -> None:
        """Add to it."""
        self._opened.set_attributes(attributes)

    def fail(self, code: str, reason: str) -> None:
        """Note that what it stands for failed. code: as in docs/errors.md."""
        self._opened.set_attributes({"error.type": code, "indexpush.reason": reason[:_LONGEST]})
        self._opened.set_status(Status(StatusCode.ERROR, reason[:_LONGEST]))

    def end(self, finished: datetime | None = None) -> None:
        """End it, and have it exported. finished: None: now."""
        self._opened.end(_nanoseconds(finished))


class _Ids(RandomIdGenerator):
    """Random, but for a span that has its id already, or whose trace is known and whose parent isn't."""

    def generate_span_id(self) -> int:
        it = _BEGINNING.get()
        return int(it.span, 16) if it and it.span else super().generate_span_id()

    def generate_trace_id(self) -> int:
        it = _BEGINNING.get()
        return int(it.parent.trace, 16) if it and it.parent else super().generate_trace_id()


class _LogHandler(logging.Handler):
    """Has the library's own complaints written as ours are."""

    def __init__(self, log: Log) -> None:
        super().__init__(logging.WARNING)
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        said = _NO_PAIRS if record.name == _READS_HEADERS else record.getMessage()
        self._log.warning(f"traces: {said}", logger=record.name)


def _log_to(log: Log) -> None:
    theirs = logging.getLogger("opentelemetry")
    theirs.handlers, theirs.propagate = [_LogHandler(log)], False


def _exporter() -> SpanExporter:
    for variable in ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"):
        if os.environ.get(variable, _PROTOCOL) != _PROTOCOL:
            raise Misconfigured(f"{variable}: expected {_PROTOCOL}, and a collector's port for it, usually 4318")
    return OTLPSpanExporter()


def _context(trace: Trace) -> SpanContext:
    flags = TraceFlags(TraceFlags.SAMPLED if trace.sampled else TraceFlags.DEFAULT)
    return SpanContext(int(trace.trace, 16), int(trace.span or "0", 16), is_remote=True, trace_flags=flags)


def _nanoseconds(moment: datetime | None) -> int | None:
    """As the SDK takes times; by whole numbers, since a float has not enough digits."""
    return None if moment is None else round(moment.timestamp() * 1e6) * 1000
