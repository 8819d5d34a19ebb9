"""A collector of OTLP over HTTP: a real server that decodes what any SDK sends, or that behaves as one in trouble."""

from __future__ import annotations

import contextlib
import gzip
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http import HTTPStatus

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span as WireSpan
from opentelemetry.proto.trace.v1.trace_pb2 import Status

from tests.answering import Answer, Asked, http_server


@dataclass(frozen=True)
class Span:
    """As it arrived. started, ended: seconds since 1970. failed: its status is an error, with these words."""

    name: str
    service: str
    trace: str
    span: str
    parent: str
    started: float
    ended: float
    attributes: dict[str, str]
    failed: str | None


@dataclass
class Collector:
    """What arrived; and how the server answers: with `status`, once `going_on` is set."""

    url: str = ""
    spans: list[Span] = field(default_factory=list)
    requests: list[dict[str, str]] = field(default_factory=list)
    status: HTTPStatus = HTTPStatus.OK
    going_on: threading.Event = field(default_factory=threading.Event)
    arrived: threading.Condition = field(default_factory=threading.Condition)

    def wait_for(self, wanted: Callable[[Span], bool], timeout: float = 60.0) -> Span:
        """The first span that is `wanted`."""
        return self.wait_for_all(lambda spans: [span for span in spans if wanted(span)], timeout)[0]

    def wait_for_all(self, chosen: Callable[[list[Span]], list[Span]], timeout: float = 60.0) -> list[Span]:
        """What `chosen` gives, once it gives any."""
        with self.arrived:
            assert self.arrived.wait_for(lambda: chosen(self.spans), timeout), [span.name for span in self.spans]
            return chosen(self.spans)


@contextlib.contextmanager
def collecting(**how: HTTPStatus) -> Iterator[Collector]:
    """A collector on a port of its own."""
    it = Collector(**how)
    it.going_on.set()

    def answer(asked: Asked) -> Answer:
        with it.arrived:
            it.requests.append({"path": asked.path, **asked.headers})
            it.arrived.notify_all()
        it.going_on.wait()
        if it.status is HTTPStatus.OK:
            packed = asked.headers.get("content-encoding") == "gzip"
            with it.arrived:
                it.spans += decoded(gzip.decompress(asked.body) if packed else asked.body)
                it.arrived.notify_all()
        said = ExportTraceServiceResponse().SerializeToString()
        return Answer(said, it.status, {"Content-Type": "application/x-protobuf"})

    with http_server(answer) as it.url:
        try:
            yield it
        finally:
            it.going_on.set()


def decoded(body: bytes) -> list[Span]:
    """The spans of an ExportTraceServiceRequest."""
    return [
        _span(span, next(a.value.string_value for a in of_resource.resource.attributes if a.key == "service.name"))
        for of_resource in ExportTraceServiceRequest.FromString(body).resource_spans
        for scope in of_resource.scope_spans
        for span in scope.spans
    ]


def _span(span: WireSpan, service: str) -> Span:
    return Span(
        name=span.name,
        service=service,
        trace=span.trace_id.hex(),
        span=span.span_id.hex(),
        parent=span.parent_span_id.hex(),
        started=span.start_time_unix_nano // 1000 / 1e6,
        ended=span.end_time_unix_nano // 1000 / 1e6,
        attributes={a.key: _text(a.value) for a in span.attributes},
        failed=span.status.message if span.status.code == Status.STATUS_CODE_ERROR else None,
    )


def _text(value: object) -> str:
    chosen = value.WhichOneof("value")  # type: ignore[attr-defined]
    return str(getattr(value, chosen))
