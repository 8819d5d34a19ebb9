"""The bounds, and how many files a process may open for them."""

from __future__ import annotations

import resource
from dataclasses import dataclass

_MANY_FILES = 2**20
"""Stands for "no limit"."""
_SHARE = 4
"""Of the files that may be open, callers get a quarter: the listener may accept three bursts of `BACKLOG` before the
first of them is counted, and the rest is for files and connections of our own."""
BACKLOG = 32
"""Connections that may wait to be accepted where few files may be open; asyncio accepts as many at once."""


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """What one connection, and all of them together, may ask for.

    target_bytes, head_bytes: of a request's target and of its whole head. body_bytes: of its body.
    connections: at the same time; for one more, the longest idle goes.
    head_seconds, body_seconds: for a client to send them. idle_seconds: between two requests of a connection; longer
        than the 600 s for which Google's load balancers keep theirs, so that it is they who close.
    write_seconds: for a client to take an answer. linger_seconds: for a client to close after we did.
    """

    target_bytes: int = 4096
    head_bytes: int = 32 * 1024
    body_bytes: int = 10 * 1024 * 1024
    connections: int = 4096
    head_seconds: float = 10.0
    body_seconds: float = 30.0
    idle_seconds: float = 620.0
    write_seconds: float = 30.0
    linger_seconds: float = 2.0


def raise_open_files() -> int:
    """Let this process open as many files as it may, whatever it was started with; returns how many that is."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard if hard != resource.RLIM_INFINITY else _MANY_FILES


def affordable_connections(wanted: int, open_files: int) -> int:
    """How many connections of callers may be open at once, where so many files may be."""
    return max(1, min(wanted, open_files // _SHARE))
