"""What was told: a record in the bucket for each subject and sink, written with a precondition."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Annotated

from model_repository.fields import format_document, parse_document
from model_repository.records import Bound, read, written

STATE_LIMIT = 1024 * 1024
"""Most bytes of a record: 40 messages, and what escapes add to them."""

TEXT_LIMIT = 3000
"""Most characters of a message: Slack shows so many in one piece."""

_SCHEMA = 1


class Stage(StrEnum):
    """How far the thing is that a message tells of."""

    OPEN = "open"
    """More is to come by itself."""
    BAD = "bad"
    """It needs a person; told again at growing intervals."""
    DONE = "done"
    """Nothing more is to come."""


@dataclass(frozen=True, slots=True)
class Told:
    """One message, as it stands there now.

    key: what it is about, for ever. message: what the sink calls it (Slack: channel and ts). since: when what it tells
    became true. at: when its stage was told. repeats: how often it was told again since then. repeated: when last.
    """

    key: str
    message: str
    text: Annotated[str, Bound(parse=str)]
    stage: Stage
    since: datetime
    at: datetime
    repeats: int
    repeated: datetime


@dataclass(frozen=True, slots=True)
class State:
    """What is known of a subject.

    told: oldest first. busy_until: before that nobody else may tell: an instance is at it, or the sink asked for time.
    unsure_since: an instance began then to tell something, and nobody knows yet whether that arrived.
    """

    told: Annotated[tuple[Told, ...], Bound(entries=100)]
    busy_until: datetime | None = None
    unsure_since: datetime | None = None

    def find(self, key: str) -> Told | None:
        """The message about something, if there is one."""
        return next((each for each in self.told if each.key == key), None)


def parse_state(data: bytes, name: str) -> State:
    """Read a record; raises `DocumentMalformed`."""
    fields = parse_document(data, name, limit=STATE_LIMIT)
    fields.schema_version(_SCHEMA)
    return read(State, fields)


def format_state(state: State) -> bytes:
    """Write a record: parse(format(x)) == x."""
    return format_document({"schema_version": _SCHEMA, **written(state)})
