"""What to tell, given what was told and what should be said. One pure function, one table of tests."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from model_repository.digests import sha256_digest
from notify.state import Stage, State, Told
from notify.statements import Statement

NEWS = timedelta(days=1)
"""What became true longer ago, and was never told, is no news but an older installation's past."""

_KEPT = 40
"""So many messages are remembered for each subject."""


class Kind(StrEnum):
    """What is done."""

    POST = "post"
    """A message of its own."""
    UPDATE = "update"
    """Other words for the message; nobody is called by it."""
    REPLY = "reply"
    """A line in the message's thread."""
    ALARM = "alarm"
    """A line in the thread that the channel sees too: the message became bad after it was posted."""


@dataclass(frozen=True, slots=True)
class Step:
    """One thing to tell. id: the same for whoever tells it. after: the message then; its name comes from the sink."""

    kind: Kind
    id: str
    text: str
    after: Told


def interval(repeats: int) -> timedelta:
    """How long what is bad is left alone after it was told `repeats` times again: 1, 4, 16, then 24 hours."""
    return min(timedelta(hours=4 ** min(repeats, 3)), timedelta(days=1))


def decide(state: State, said: Iterable[Statement], now: datetime) -> list[Step]:
    """What to tell, in order. A statement that was told already, and isn't due again, makes nothing."""
    steps: list[Step] = []
    unsaid = {told.key: told for told in state.told}
    for statement in said:
        steps += _of_statement(unsaid.pop(statement.key, None), statement, now)
    for told in unsaid.values():
        steps += _due(told, now)
    return steps


def remember(told: Iterable[Told]) -> tuple[Told, ...]:
    """The messages worth remembering: the newest, and all that are not done."""
    every = tuple(told)
    return tuple(each for each in every[:-_KEPT] if each.stage is Stage.BAD)[-_KEPT:] + every[-_KEPT:]


def _of_statement(told: Told | None, statement: Statement, now: datetime) -> Iterator[Step]:
    key, text, stage = statement.key, statement.text, statement.stage
    if told is None:
        if statement.first and now - statement.since < NEWS:
            yield Step(Kind.POST, key, text, Told(key, "", text, stage, statement.since, now, 0, now))
    elif told.stage is not stage:
        if told.stage is Stage.DONE:  # what is over stays so: this look is older than the one that told
            return
        changed = replace(told, stage=stage, since=statement.since, at=now, repeats=0, repeated=now)
        if (
            stage is Stage.BAD
        ):  # first, and with the old text: whoever is stopped between the two goes on with the other
            yield Step(Kind.ALARM, f"{key} {stage}", text, changed)
        yield _update(changed, text)
    elif told.text != text:
        if statement.repeats and statement.since < told.since:  # an older occurrence, heard of late or twice
            return
        if statement.repeats and statement.since > told.since:
            told = replace(told, since=statement.since, repeats=told.repeats + 1, repeated=now)
            yield Step(Kind.REPLY, f"{key} {stage} {told.repeats}", text, told)
        update = _update(told, text)
        yield update
        yield from _due(update.after, now)  # words that change with each look keep nobody from being told again
    else:
        yield from _due(told, now)


def _due(told: Told, now: datetime) -> Iterator[Step]:
    # of either sign: a clock that was ahead when it was told must not keep it from being told again
    if told.stage is Stage.BAD and abs(now - told.repeated) >= interval(told.repeats):
        text = f"Still so, since {told.at:%Y-%m-%d %H:%M} UTC:\n{told.text}"
        after = replace(told, repeats=told.repeats + 1, repeated=now)
        yield Step(Kind.REPLY, f"{told.key} {told.stage} {after.repeats}", text, after)


def _update(told: Told, text: str) -> Step:
    return Step(Kind.UPDATE, f"{told.key} {sha256_digest(text.encode())[-8:]}", text, replace(told, text=text))
