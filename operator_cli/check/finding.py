"""What was found of one part of an installation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

Resource = Mapping[str, Any]
"""A resource as Google's REST APIs describe it; fields with their defaults are often left out."""


class Level(StrEnum):
    """How bad it is. HINT: it works, and is more or less than it should be. UNKNOWN: nobody could look."""

    OK = "ok"
    HINT = "hint"
    WRONG = "WRONG"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Finding:
    """subject: the object that it is about. mend: what to do; empty where all is well."""

    level: Level
    subject: str
    text: str
    mend: str = ""


def ok(subject: str, text: str) -> Finding:
    """Nothing is wrong with it."""
    return Finding(Level.OK, subject, text)


def hint(subject: str, text: str, mend: str) -> Finding:
    """It works, and should be mended all the same."""
    return Finding(Level.HINT, subject, text, mend)


def wrong(subject: str, text: str, mend: str) -> Finding:
    """It doesn't work, or reaches somebody it must not reach."""
    return Finding(Level.WRONG, subject, text, mend)


def unknown(subject: str, text: str, mend: str) -> Finding:
    """Nobody could look."""
    return Finding(Level.UNKNOWN, subject, text, mend)
