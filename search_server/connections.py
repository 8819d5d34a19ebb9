"""All connections of a server, seen from outside."""

from __future__ import annotations

import time
from typing import Protocol


class Client(Protocol):
    """One connection."""

    @property
    def answering(self) -> bool:
        """Whether a request is being answered, or is on its way in."""

    def leave_unless_answering(self) -> None:
        """End our side now if nothing is going on."""

    def tick(self, now: float) -> None:
        """Give up on a client that has had its time; called every second or so. now: by `time.monotonic`."""


class Connections:
    """All connections of a server.

    common_headers: lines that every answer begins with. draining: every answer is the last one of its connection.
    now: the time of the last tick, by `time.monotonic`; exact enough for patience, and free.
    """

    def __init__(self) -> None:
        self._all: set[Client] = set()
        self.common_headers = b""
        self.now = time.monotonic()
        self.draining = False

    def add(self, connection: Client) -> None:
        """Take a new one."""
        self._all.add(connection)

    def discard(self, connection: Client) -> None:
        """Forget one that is gone."""
        self._all.discard(connection)

    def __len__(self) -> int:
        return len(self._all)

    @property
    def answering(self) -> int:
        """How many requests are being answered, or on their way in."""
        return sum(connection.answering for connection in self._all)

    def tick(self) -> None:
        """Look at every connection's time."""
        self.now = time.monotonic()
        for connection in tuple(self._all):
            connection.tick(self.now)

    def leave_unless_answering(self) -> None:
        """End our side of those on which nothing is happening."""
        for connection in tuple(self._all):
            connection.leave_unless_answering()
