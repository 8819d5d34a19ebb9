"""Log lines that Cloud Logging understands, each in the trace of its event."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest

from on_commit.log import Journal, Trace, find_trace

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = f"00-{TRACE}-00f067aa0ba902b7-01"


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_the_trace_of_the_event_counts_more_than_that_of_the_request() -> None:
    other = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"
    assert find_trace({"traceparent": PARENT}, {"Traceparent": other}) == Trace(TRACE, "00f067aa0ba902b7")
    assert find_trace({}, {"Traceparent": PARENT}) == Trace(TRACE, "00f067aa0ba902b7")


@pytest.mark.parametrize(
    ("header", "span"),
    [(f"{TRACE}/255;o=1", "00000000000000ff"), (f"{TRACE.upper()}", ""), (f"{TRACE};o=1", ""), (f"{TRACE}/0", "")],
)
def test_googles_own_trace_header_is_read_too(header: str, span: str) -> None:
    assert find_trace({}, {"X-Cloud-Trace-Context": header}) == Trace(TRACE, span)


@pytest.mark.parametrize(
    "stated", ["", "00", PARENT[:-4], "00-" + "0" * 32 + "-00f067aa0ba902b7-01", 5, None, "x" * 999]
)
def test_what_is_no_trace_is_none(stated: object) -> None:
    assert find_trace({"traceparent": stated}, {"X-Cloud-Trace-Context": "x"}) is None


def test_a_line_is_one_json_object_with_googles_names() -> None:
    stream = io.StringIO()
    journal = Journal(stream=stream).of_trace(Trace(TRACE, "00f067aa0ba902b7"), "a-project").bind(event_id="5")
    journal.info("two\nlines \ud800", generation=7)
    (line,) = lines(stream)
    assert line["severity"] == "INFO"
    assert line["message"] == "two\nlines \ud800"
    assert line["logging.googleapis.com/trace"] == f"projects/a-project/traces/{TRACE}"
    assert line["logging.googleapis.com/spanId"] == "00f067aa0ba902b7"
    assert (line["event_id"], line["generation"]) == ("5", 7)


def test_without_a_project_the_trace_is_named_alone() -> None:
    stream = io.StringIO()
    Journal(stream=stream).of_trace(Trace(TRACE), "").error("x")
    assert lines(stream)[0]["logging.googleapis.com/trace"] == TRACE


def test_fields_of_one_event_are_never_on_the_lines_of_another() -> None:
    stream = io.StringIO()
    journal = Journal(stream=stream)
    journal.bind(index="home").warning("one")
    journal.info("two")
    assert ["index" in line for line in lines(stream)] == [True, False]


def test_a_crash_carries_its_stack() -> None:
    stream = io.StringIO()
    try:
        int("what")
    except ValueError as error:
        Journal(stream=stream).crash("unexpected", error)
    (line,) = lines(stream)
    assert line["severity"] == "ERROR"
    assert "ValueError: invalid literal" in line["stack_trace"]
