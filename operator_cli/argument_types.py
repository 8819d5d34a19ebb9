"""What an option's text may be: each reads one, or says in a line what was expected."""

from __future__ import annotations

import argparse
import math
from datetime import UTC, datetime


def seconds(text: str) -> float:
    """A number above 0."""
    try:
        found = float(text)
    except ValueError:
        found = math.nan
    if not 0 < found < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is no number above 0; write for example 60")
    return found


def wait(text: str) -> float:
    """The same of an option that may stand without a number, and then takes what follows for one."""
    try:
        return seconds(text)
    except argparse.ArgumentTypeError as error:
        raise argparse.ArgumentTypeError(f"{error} (--wait alone goes last)") from None


def moment(text: str) -> datetime:
    """A time; in UTC, unless it says."""
    try:
        found = datetime.fromisoformat(text)
        return found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        example = "2026-11-24T14:05, which is UTC, or 2026-11-24T15:05+01:00"
        raise argparse.ArgumentTypeError(f"{text!r} is no time; write for example {example}") from None


def share(text: str) -> float:
    """From 0 to 1."""
    try:
        found = float(text)
    except ValueError:
        found = math.nan
    if not 0 <= found <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no share; it must be from 0 to 1")
    return found


def port(text: str) -> int:
    """A port; 0: any that is free."""
    if not (text.isascii() and text.isdigit()) or int(text[:6]) > 65535:  # noqa: PLR2004 - the last port
        raise argparse.ArgumentTypeError(f"{text!r} is no port")
    return int(text)


def count(text: str) -> int:
    """From 1 to 999,999."""
    if not (text.isascii() and text.isdigit()) or len(text) > 6 or int(text) < 1:  # noqa: PLR2004 - digits enough
        raise argparse.ArgumentTypeError(f"{text!r} is no count; it must be from 1 to 999999")
    return int(text)
