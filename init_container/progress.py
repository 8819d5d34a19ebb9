"""How far a pull is: what its processes did, and what that is of the whole."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Counts:
    """What was done so far.

    have: bytes of the build on the disk and verified. received: bytes that came over the network. retries: requests
    made again. opened: connections so far. connections: open now.
    """

    have: int = 0
    received: int = 0
    retries: int = 0
    opened: int = 0
    connections: int = 0

    def __add__(self, other: Counts) -> Counts:
        """Both together."""
        return Counts(*(getattr(self, name) + getattr(other, name) for name in Counts.__slots__))


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a pull is, or was in the end.

    total: bytes of the build. seconds: since the start of this run, which is all that `done` counts besides `have`.
    already: the build was there before, and nothing was fetched.
    """

    done: Counts
    total: int
    seconds: float
    already: bool = False

    @property
    def rate(self) -> float:
        """Bytes/s fetched by this run."""
        return self.done.received / max(self.seconds, 1e-9)

    @property
    def eta(self) -> float | None:
        """Seconds to go at this rate, or None if nothing came yet."""
        return (self.total - self.done.have) / self.rate if self.done.received else None
