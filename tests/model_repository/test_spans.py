"""Spans: off unless a collector is named, in the trace that flows anyway, and never in anybody's way."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http import HTTPStatus

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from model_repository.errors import Misconfigured
from model_repository.telemetry import spans
from model_repository.telemetry.log import Log, Trace, parse_traceparent, trace_headers, tracing
from model_repository.telemetry.open_telemetry import SdkRecorder
from model_repository.telemetry.spans import (
    Beginning,
    Kind,
    attributes_of,
    note,
    note_failure,
    span,
    span_of_past,
    traceparent,
)
from tests.collector import collecting

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = f"00-{TRACE}-00f067aa0ba902b7-01"
ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"


class Recorded:
    """What a recorder gave away."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self.lines = io.StringIO()
        self.recorder = SdkRecorder("a-part", Log(stream=self.lines), self._exporter)

    def spans(self) -> dict[str, ReadableSpan]:
        self.recorder.flush(30)
        return {span.name: span for span in self._exporter.get_finished_spans()}


@pytest.fixture
def recorded() -> Iterator[Recorded]:
    it = Recorded()
    spans.record_with(it.recorder)
    yield it
    spans.close_spans(30)


@pytest.fixture(autouse=True)
def _unset(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in (*spans.COLLECTOR, "OTEL_SERVICE_NAME", "OTEL_RESOURCE_ATTRIBUTES", "OTEL_TRACES_SAMPLER"):
        monkeypatch.delenv(name, raising=False)
    yield
    spans.record_with(None)


def ids(found: ReadableSpan) -> tuple[str, str]:
    """Its trace, and its parent."""
    assert found.context
    return f"{found.context.trace_id:032x}", f"{found.parent.span_id:016x}" if found.parent else ""


@pytest.mark.parametrize(
    ("variables", "wanted"),
    [
        ({}, False),
        ({ENDPOINT: ""}, False),
        ({ENDPOINT: "http://c:4318"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c:4318/v1/traces"}, True),
        ({ENDPOINT: "http://c:4318", "OTEL_SDK_DISABLED": "TRUE"}, False),
        ({ENDPOINT: "http://c:4318", "OTEL_TRACES_EXPORTER": "none"}, False),
        ({ENDPOINT: "http://c:4318", "OTEL_TRACES_EXPORTER": "otlp"}, True),
        ({"OTEL_SERVICE_NAME": "x"}, False),
    ],
)
def test_spans_are_recorded_where_the_environment_names_a_collector(variables: dict[str, str], wanted: bool) -> None:
    assert spans.spans_wanted(variables) is wanted


def test_without_a_collector_nothing_is_imported() -> None:
    program = (
        "import sys; from model_repository.telemetry.log import Log; from model_repository.telemetry.spans import *;"
        "record_spans({}, 'a', Log());"
        'exec(\'with span("a", index="b"): note(c=1)\');'
        "flush_spans(1); close_spans(1);"
        "sys.exit(any(name.partition('.')[0] in ('opentelemetry', 'requests') for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_without_a_collector_the_trace_flows_through_as_it_came() -> None:
    with tracing({"traceparent": PARENT}, {}, ""), span("a"):
        assert trace_headers() == {"traceparent": PARENT}
        assert traceparent() == ""
    assert span_of_past(Beginning("b", None), datetime.now(UTC)) == ""


def test_a_span_goes_on_from_the_trace_that_flows_and_requests_go_on_from_it(recorded: Recorded) -> None:
    with tracing({"traceparent": PARENT}, {}, "a-project"), span("outer", Kind.CONSUMER, index="home"):
        outer = parse_traceparent(trace_headers()["traceparent"])
        with span("inner", nothing=None):
            inner = parse_traceparent(traceparent())
    found = recorded.spans()
    assert outer
    assert inner
    assert ids(found["outer"]) == (TRACE, "00f067aa0ba902b7")
    assert ids(found["inner"]) == (TRACE, outer.span)
    assert found["inner"].context is not None
    assert f"{found['inner'].context.span_id:016x}" == inner.span
    assert dict(found["outer"].attributes or {}) == {"indexpush.index": "home"}
    assert dict(found["inner"].attributes or {}) == {}


def test_log_lines_within_name_the_span_and_the_project(recorded: Recorded) -> None:
    stream = io.StringIO()
    with tracing({"traceparent": PARENT}, {}, "a-project"), span("a"):
        Log(stream=stream).info("x")
    line, found = json.loads(stream.getvalue()), recorded.spans()["a"]
    assert found.context is not None
    assert line["logging.googleapis.com/trace"] == f"projects/a-project/traces/{TRACE}"
    assert line["logging.googleapis.com/spanId"] == f"{found.context.span_id:016x}"


def test_where_no_trace_flows_one_begins(recorded: Recorded) -> None:
    with span("a"):
        assert trace_headers()
    assert ids(recorded.spans()["a"])[1] == ""


def test_a_trace_that_google_names_without_a_span_goes_on(recorded: Recorded) -> None:
    with tracing({}, {"X-Cloud-Trace-Context": f"{TRACE};o=1"}, ""), span("a"):
        pass
    assert ids(recorded.spans()["a"]) == (TRACE, "")


def test_whoever_began_a_trace_decides_whether_it_is_kept(recorded: Recorded) -> None:
    for kept in ("00", "01"):
        with tracing({"traceparent": PARENT[:-2] + kept}, {}, ""), span(kept):
            assert trace_headers()["traceparent"].endswith(kept)
    assert list(recorded.spans()) == ["01"]


def test_an_error_that_leaves_a_span_is_why_it_failed(recorded: Recorded) -> None:
    with pytest.raises(Misconfigured), span("a"):
        raise Misconfigured("no bucket")
    with span("b"):
        note(outcome="rejected")
        note_failure("proof-failed", "x" * 5000)
    found = recorded.spans()
    assert found["a"].status.description == "no bucket"
    assert (found["a"].attributes or {})["error.type"] == "misconfigured"
    said = found["b"].attributes or {}
    assert (said["indexpush.outcome"], said["error.type"], len(str(said["indexpush.reason"]))) == (
        "rejected",
        "proof-failed",
        1000,
    )


def test_what_is_over_is_recorded_in_the_place_that_others_went_on_from(recorded: Recorded) -> None:
    delivery = Trace(TRACE, "00f067aa0ba902b7")
    place, began = delivery.child("rollout"), datetime(2026, 11, 28, 1, 2, 3, 456789, tzinfo=UTC)
    beginning = Beginning("rollout", delivery, attributes=attributes_of({"a": 1}), started=began, span=place.span)
    assert span_of_past(beginning, began + timedelta(seconds=5), ("undone", "why")) == place.traceparent
    found = recorded.spans()["rollout"]
    assert ids(found) == (TRACE, "00f067aa0ba902b7")
    assert found.start_time == 1795827723456789000
    assert found.end_time == found.start_time + 5 * 10**9
    assert found.status.description == "why"


def test_a_part_is_called_as_it_says_unless_the_variables_say_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    for variables, name in (
        ({}, "a-part"),
        ({"OTEL_SERVICE_NAME": "mine"}, "mine"),
        ({"OTEL_RESOURCE_ATTRIBUTES": "service.name=ours,team=search"}, "ours"),
    ):
        with monkeypatch.context() as patch, collecting() as collector:
            for variable, value in {**variables, ENDPOINT: collector.url}.items():
                patch.setenv(variable, value)
            spans.record_spans({ENDPOINT: collector.url}, "a-part", Log(stream=io.StringIO()))
            with span("a"):
                pass
            spans.close_spans(30)
            (found,) = collector.spans
            assert found.service == name


def test_settings_that_make_no_sense_leave_everything_else_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
    lines = io.StringIO()
    spans.record_spans({ENDPOINT: "http://127.0.0.1:4317"}, "a", Log(stream=lines))
    with span("a"):
        assert traceparent() == ""
    assert "OTEL_EXPORTER_OTLP_PROTOCOL: expected http/protobuf" in json.loads(lines.getvalue())["message"]


def test_a_collector_that_refuses_loses_spans_and_says_so_in_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    with collecting(status=HTTPStatus.FORBIDDEN) as collector:
        monkeypatch.setenv(ENDPOINT, collector.url)
        lines = io.StringIO()
        spans.record_spans({ENDPOINT: collector.url}, "a", Log(stream=lines))
        with span("a"):
            pass
        spans.flush_spans(30)
        assert collector.requests[0]["path"] == "/v1/traces"
    said = [json.loads(line) for line in lines.getvalue().splitlines()]
    assert [line["severity"] for line in said] == ["WARNING"]
    assert "403" in said[0]["message"]
    spans.close_spans(30)


def test_no_log_line_repeats_a_header_that_can_not_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ENDPOINT, "http://user:hunter2@127.0.0.1:9")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "authorization Bearer hunter2")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "0.1")
    lines = io.StringIO()
    spans.record_spans({ENDPOINT: "http://127.0.0.1:9"}, "a", Log(stream=lines))
    with span("a"):
        pass
    spans.close_spans(30)
    assert "OTEL_EXPORTER_OTLP_HEADERS" in lines.getvalue()
    assert "Failed to export" in lines.getvalue()
    assert "hunter2" not in lines.getvalue()


def test_nobody_waits_for_a_collector_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    with collecting() as collector:
        collector.going_on.clear()
        monkeypatch.setenv(ENDPOINT, collector.url)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "3600")  # seconds: whoever waited for it would wait for long
        spans.record_spans({ENDPOINT: collector.url}, "a", Log(stream=io.StringIO()))
        with span("a"):
            pass
        spans.flush_spans(0.05)
        for _ in range(5000):  # more than the queue holds
            with span("b"):
                pass
        spans.flush_spans(3600)  # one waits already, so this one doesn't
        spans.close_spans(0.05)
        assert [thread.name for thread in threading.enumerate() if thread.name == "flush spans"] == ["flush spans"]
        assert collector.spans == []
