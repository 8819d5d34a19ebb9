"""Log lines that Cloud Logging understands, each in the trace of its event."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest

from model_repository.telemetry.log import Log, trace_headers, tracing

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = f"00-{TRACE}-00f067aa0ba902b7-01"
TRACE_FIELD, SPAN_FIELD = "logging.googleapis.com/trace", "logging.googleapis.com/spanId"


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def traced(attributes: dict[str, object], headers: dict[str, str], project: str = "") -> tuple[str, str]:
    """The trace and the span of a line that is written within; empty where it has none."""
    stream = io.StringIO()
    with tracing(attributes, headers, project):
        Log(stream=stream).info("x")
    (line,) = lines(stream)
    return line.get(TRACE_FIELD, ""), line.get(SPAN_FIELD, "")


def test_the_trace_of_the_event_counts_more_than_that_of_the_request() -> None:
    other = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"
    assert traced({"traceparent": PARENT}, {"Traceparent": other}) == (TRACE, "00f067aa0ba902b7")
    assert traced({}, {"Traceparent": PARENT}) == (TRACE, "00f067aa0ba902b7")


@pytest.mark.parametrize(
    ("header", "span"),
    [(f"{TRACE}/255;o=1", "00000000000000ff"), (f"{TRACE.upper()}", ""), (f"{TRACE};o=1", ""), (f"{TRACE}/0", "")],
)
def test_googles_own_trace_header_is_read_too(header: str, span: str) -> None:
    assert traced({}, {"X-Cloud-Trace-Context": header}) == (TRACE, span)


@pytest.mark.parametrize(
    "stated", ["", "00", PARENT[:-4], "00-" + "0" * 32 + "-00f067aa0ba902b7-01", 5, None, "x" * 999]
)
def test_what_is_no_trace_is_none(stated: object) -> None:
    assert traced({"traceparent": stated}, {"X-Cloud-Trace-Context": "x"}) == ("", "")


def test_a_trace_is_named_with_its_project_where_somebody_said_which() -> None:
    assert traced({"traceparent": PARENT}, {}, "a-project")[0] == f"projects/a-project/traces/{TRACE}"


def test_a_request_goes_on_in_the_trace_of_what_asked_for_it() -> None:
    with tracing({"traceparent": PARENT}, {}, ""):
        assert trace_headers() == {"traceparent": PARENT}
    with tracing({}, {"X-Cloud-Trace-Context": TRACE}, ""):
        assert trace_headers() == {}, "there is no span to go on from"
    assert trace_headers() == {}


def test_a_line_is_one_json_object_with_googles_names() -> None:
    stream = io.StringIO()
    Log(stream=stream).bind(event_id="5").info("two\nlines \ud800", generation=7)
    (line,) = lines(stream)
    assert (line["severity"], line["message"]) == ("INFO", "two\nlines \ud800")
    assert (line["event_id"], line["generation"]) == ("5", 7)


def test_fields_and_trace_of_one_event_are_never_on_the_lines_of_another() -> None:
    stream = io.StringIO()
    log = Log(stream=stream)
    with tracing({"traceparent": PARENT}, {}, ""):
        log.bind(index="home").warning("one")
    log.info("two")
    assert [("index" in line, TRACE_FIELD in line) for line in lines(stream)] == [(True, True), (False, False)]


def test_a_crash_carries_its_stack() -> None:
    stream = io.StringIO()
    try:
        int("what")
    except ValueError as error:
        Log(stream=stream).crash("unexpected", error)
    (line,) = lines(stream)
    assert line["severity"] == "ERROR"
    assert "ValueError: invalid literal" in line["stack_trace"]


def test_a_line_that_the_disk_does_not_take_stops_nobody() -> None:
    stream = open("/dev/full", "w", encoding="utf-8")  # noqa: PTH123, SIM115 - closed below, where that fails
    log = Log(stream=stream)
    log.error("lost")
    log.error("lost, too")
    with pytest.raises(OSError, match="No space left"):
        stream.close()
