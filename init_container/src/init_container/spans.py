"""Which bytes are still to be fetched, and who fetches which: a pure book-keeping, without a network or a disk."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

_MIB = 1024 * 1024
SMALLEST = 2 * _MIB
"""A span isn't made smaller than this by cutting: a request costs about as long as a mebibyte."""
_LARGEST = 256 * _MIB
_FIRST = 8 * _MIB
"""While nobody knows how fast a connection is."""
_SECONDS = 2.0
"""A request should keep its connection busy for this long: 30 ms to the first byte are then 1.5 %."""


@dataclass(slots=True)
class Span:
    """Bytes ``[start, end)`` of the file with number `file`; `start` moves as they come."""

    file: int
    start: int
    end: int
    attempts: int = 0

    @property
    def left(self) -> int:
        """Bytes still to come."""
        return self.end - self.start


def span_bytes(rate: float, left: int, connections: int, fixed: int = 0) -> int:
    """How many bytes to ask a connection for.

    rate: bytes/s that it gave so far, 0 if unknown. left: bytes that nobody fetches yet. connections: that share them.
    fixed: the operator's own choice, or 0.

    As much as it brings in two seconds, but no more than half its fair share of what is left: so the requests shrink
    towards the end, and all connections finish together.
    """
    if fixed:
        return fixed
    wanted = min(int(rate * _SECONDS), _LARGEST) if rate else _FIRST
    return max(min(wanted, left // (2 * max(connections, 1))), SMALLEST)


class Spans:
    """The bytes that nobody fetches yet, in order."""

    def __init__(self, spans: Iterable[Span]) -> None:
        """Begin with what is missing."""
        self._waiting = deque(spans)
        self.left = sum(span.left for span in self._waiting)

    def take(self, size: int) -> Span | None:
        """The next span, cut to about `size` bytes; None if everything is being fetched."""
        if not self._waiting:
            return None
        span = self._waiting.popleft()
        # A rest of less than half a request isn't worth one of its own.
        if span.left > size + size // 2:
            self._waiting.appendleft(Span(span.file, span.start + size, span.end))
            span = Span(span.file, span.start, span.start + size, span.attempts)
        self.left -= span.left
        return span

    def peek(self) -> int:
        """Bytes of the next span before cutting; 0 if there is none."""
        return self._waiting[0].left if self._waiting else 0

    def give_back(self, span: Span) -> None:
        """Take back what is left of a span whose connection failed; it is the next to be fetched."""
        if span.left:
            self._waiting.appendleft(span)
            self.left += span.left

    def add(self, span: Span) -> None:
        """Put a span at the end, for a file that must be read once more."""
        self._waiting.append(span)
        self.left += span.left


def steal(span: Span) -> Span | None:
    """Cut the second half off a span that is being fetched too slowly, or None if it is too small for that."""
    middle = span.start + span.left // 2
    if span.end - middle < SMALLEST:
        return None
    taken = Span(span.file, middle, span.end)
    span.end = middle
    return taken
