"""Where people are told, as an interface; and what may go wrong there."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol

from model_repository.errors import PermanentError, TransientError
from notify.decide import Step
from notify.subject import Subject


class SinkRefused(PermanentError, code="tell-refused"):
    """It will refuse every message until somebody mends what the message names."""


class SinkBusy(TransientError, code="tell-busy"):
    """It took nothing, and asks for time. seconds: how much."""

    def __init__(self, message: str, seconds: float) -> None:
        super().__init__(message)
        self.seconds = seconds


class SinkUnavailable(TransientError, code="tell-unavailable"):
    """It didn't answer: nobody knows whether it took the message."""


class SinkSilent(SinkUnavailable):
    """It didn't answer at all: nor will it answer about another subject just now."""


_PAUSE = 30.0
LONGEST_PAUSE = 3600.0


def asked_seconds(retry_after: str) -> float:
    """How long a sink asks to be left alone by its ``Retry-After``: an hour at most, 30 s where that says no number."""
    return min(float(retry_after), LONGEST_PAUSE) if retry_after.isdecimal() else _PAUSE


class Sink(Protocol):
    """A place where people are told."""

    @property
    def name(self) -> str:
        """Part of the names of its records in the bucket."""
        ...

    def tell(self, subject: Subject, step: Step, unsure_since: datetime | None) -> str:
        """Do one step; returns what the sink calls the message.

        unsure_since: the step may have been done already, since then: it must not be done twice.
        Raises `SinkRefused`, `SinkBusy` or `SinkUnavailable`.
        """
        ...


def step_key(subject: Subject, step: Step) -> str:
    """What makes a step known again where subjects share a place: the same for whoever does it."""
    return f"{subject.environment}/{subject.index} {step.id}"
