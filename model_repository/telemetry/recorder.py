"""Who records spans, as an interface: `spans` speaks with it, and `open_telemetry` implements it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from model_repository.telemetry.log import Trace

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


class OpenSpan(Protocol):
    """A span that hasn't ended."""

    @property
    def trace(self) -> Trace:
        """Its own place in the trace."""

    def note(self, attributes: Mapping[str, Attribute]) -> None:
        """Add to it."""

    def fail(self, code: str, reason: str) -> None:
        """Note that what it stands for failed. code: as in docs/errors.md."""

    def end(self, finished: datetime | None = None) -> None:
        """End it, and have it exported. finished: None: now."""


class Recorder(Protocol):
    """Records spans, and exports them in the background."""

    def begin(self, beginning: Beginning) -> OpenSpan:
        """Begin a span."""
        ...

    def flush(self, seconds: float) -> None:
        """Wait until all that ended is exported, for so many seconds at most."""

    def close(self, seconds: float) -> None:
        """Likewise, for good."""
