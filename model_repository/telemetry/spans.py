"""Spans: one for each step from a commit's upload to pods that serve.

Nothing is recorded, and nothing of OpenTelemetry imported, unless the environment names a collector. A span belongs to
the trace that `log.tracing` found, and within it log lines and requests name the span.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING

from model_repository.errors import DeliveryError
from model_repository.telemetry.log import Log, Trace, current_trace, parse_traceparent, within

if TYPE_CHECKING:
    from model_repository.telemetry.open_telemetry import SdkRecorder, SdkSpan

COLLECTOR = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
"""The variables that name a collector: with either one, spans are recorded."""
TRACEPARENT = "TRACEPARENT"
"""The variable that gives a program its place in a trace."""

_recorder: SdkRecorder | None = None
_OPEN: ContextVar[SdkSpan | None] = ContextVar("span", default=None)

Attribute = str | int | float | bool


class Kind(StrEnum):
    """What a span is towards others, in OpenTelemetry's words."""

    INTERNAL = "internal"
    SERVER = "server"
    CLIENT = "client"
    CONSUMER = "consumer"


@dataclass(frozen=True, slots=True)
class Beginning:
    """A span as it begins.

    parent: None: it begins a trace. started: None: now. span: its 16 hex digits, where somebody knows them already;
    empty: any. attributes: as `attributes_of` names them.
    """

    name: str
    parent: Trace | None
    kind: Kind = Kind.INTERNAL
    attributes: Mapping[str, Attribute] = field(default_factory=dict)
    started: datetime | None = None
    span: str = ""


def spans_wanted(variables: Mapping[str, str]) -> bool:
    """Whether the environment asks for spans, by OpenTelemetry's own variables."""
    disabled = variables.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
    elsewhere = variables.get("OTEL_TRACES_EXPORTER", "otlp").strip().lower() not in {"", "otlp"}
    return not disabled and not elsewhere and any(variables.get(name) for name in COLLECTOR)


def record_spans(variables: Mapping[str, str], service: str, log: Log) -> None:
    """Record spans from now on, where `variables`, this process's own, want them; may be said more than once.

    service: what the part is called unless the variables say otherwise. log: is told where spans get lost, and if none
    can be recorded: that is no reason for anything else to fail.
    """
    if _recorder is not None or not spans_wanted(variables):
        return
    try:
        from model_repository.telemetry.open_telemetry import SdkRecorder  # noqa: PLC0415 - half a second, where it is wanted

        record_with(SdkRecorder(service, log))
    except Exception as error:  # noqa: BLE001 - whatever a library says of its settings
        log.error(f"no traces: {error}; see OTEL_* in docs/traces.md", code="misconfigured")


def record_with(recorder: SdkRecorder | None) -> None:
    """Record with that one from now on; None: not at all."""
    global _recorder  # noqa: PLW0603 - one for the process, like where its log goes
    _recorder = recorder


@contextlib.contextmanager
def span(name: str, kind: Kind = Kind.INTERNAL, *, parent: str = "", **attributes: Attribute | None) -> Iterator[None]:
    """Record what happens within as a span; an error that leaves it makes it a failed one.

    parent: a traceparent to go on from; empty: where this is. attributes: as `note` takes them.
    """
    if _recorder is None:
        yield
        return
    place = parse_traceparent(parent) or current_trace()
    opened = _recorder.begin(Beginning(name, place, kind, attributes_of(attributes)))
    token = _OPEN.set(opened)
    try:
        with within(replace(opened.trace, project=place.project if place else "")):
            yield
    except Exception as error:
        opened.fail(error.code if isinstance(error, DeliveryError) else type(error).__name__, str(error))
        raise
    finally:
        _OPEN.reset(token)
        opened.end()


def note(**attributes: Attribute | None) -> None:
    """Add to the span that this is within: index, environment, generation, build, outcome, reason, or a figure."""
    if opened := _OPEN.get():
        opened.note(attributes_of(attributes))


def note_failure(code: str, reason: str) -> None:
    """Note that what the span stands for failed, though no error leaves it."""
    if opened := _OPEN.get():
        opened.fail(code, reason)


def span_of_past(beginning: Beginning, finished: datetime, failure: tuple[str, str] | None = None) -> str:
    """Record what is over already. failure: code and reason. Returns its traceparent; empty: nothing is recorded."""
    if _recorder is None:
        return ""
    opened = _recorder.begin(beginning)
    if failure:
        opened.fail(*failure)
    opened.end(finished)
    return opened.trace.traceparent


def traceparent() -> str:
    """What goes on from here as one trace; empty where no spans are recorded."""
    found = current_trace() if _recorder is not None else None
    return found.traceparent if found else ""


def attributes_of(attributes: Mapping[str, Attribute | None]) -> dict[str, Attribute]:
    """The attributes under this project's names; those that are None are left out."""
    return {f"indexpush.{name}": value for name, value in attributes.items() if value is not None}


def flush_spans(seconds: float) -> None:
    """Have exported what ended, before this process may be frozen; waits so many seconds at most."""
    if _recorder is not None:
        _recorder.flush(seconds)


def close_spans(seconds: float) -> None:
    """Have exported what ended, before this process ends; waits so many seconds at most."""
    if _recorder is not None:
        _recorder.close(seconds)
        record_with(None)
