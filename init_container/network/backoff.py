"""When to try again: exponential back-off with full jitter, one for all connections of a process. No clock, no I/O."""

from __future__ import annotations

from collections.abc import Callable

_FIRST = 0.2
_LONGEST = 8.0
_MOST_DOUBLINGS = 10
"""More make no difference, and 2 ** 1024 is no float."""


class Backoff:
    """Holds new requests back after trouble.

    One incident often fails many connections at once, so only the failure of a request that was sent after the last
    incident makes the next wait longer.
    """

    def __init__(self, random: Callable[[], float]) -> None:
        """random: gives numbers between 0 and 1."""
        self._random = random
        self._incidents = 0
        self._incident_at = float("-inf")
        self.retries = 0
        self.not_before = float("-inf")

    def failed(self, now: float, sent_at: float, wait: float | None) -> None:
        """Note that a request sent at `sent_at` failed. wait: what the server asked for, in seconds, or None."""
        self.retries += 1
        if sent_at >= self._incident_at:
            self._incidents = min(self._incidents + 1, _MOST_DOUBLINGS)
            self._incident_at = now
            delay = self._random() * min(_FIRST * 2 ** (self._incidents - 1), _LONGEST)
            self.not_before = max(self.not_before, now + delay)
        if wait is not None:
            # The jitter goes on top: a crowd that was told the same second should not come back in it.
            self.not_before = max(self.not_before, now + wait + self._random() * _FIRST)

    def succeeded(self) -> None:
        """Note that bytes came: the trouble is over."""
        self._incidents = 0
