"""Which bytes are still to be fetched, and who fetches which: a pure book-keeping, without a network or a disk."""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import accumulate

from init_container.processes.ledger import Ledger

_MIB = 1024 * 1024
SMALLEST = 2 * _MIB
"""A span isn't made smaller than this by cutting: a request costs about as long as a mebibyte."""
_LARGEST = 256 * _MIB
_FIRST = 32 * _MIB
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
    """The bytes that nobody fetches yet: what was given back, then what is missing, as the ledger gives it."""

    def __init__(self, missing: Iterable[Span], ledger: Ledger) -> None:
        """missing: the same for all that share the ledger."""
        self._missing = tuple(missing)
        self._ends = tuple(accumulate(span.left for span in self._missing))
        self._bytes = self._ends[-1] if self._ends else 0
        self._ledger = ledger
        self._returned: deque[Span] = deque()
        self._returned_bytes = 0

    @property
    def left(self) -> int:
        """Bytes that nobody fetches yet."""
        return self._returned_bytes + self._bytes - self._ledger.position

    @property
    def count(self) -> int:
        """Spans that nobody fetches yet, before cutting."""
        return len(self._returned) + len(self._missing) - bisect_right(self._ends, self._ledger.position)

    def take(self, size: int) -> Span | None:
        """The next span, cut to about `size` bytes; None if everything is being fetched."""
        if self._returned:
            span = self._returned.popleft()
            length = _cut(span.left, size)
            if length < span.left:
                self._returned.appendleft(Span(span.file, span.start + length, span.end))
                span = Span(span.file, span.start, span.start + length, span.attempts)
            self._returned_bytes -= length
            return span
        position = self._ledger.advance(lambda at: _cut(self._rest(at).left, size))
        rest = self._rest(position)
        rest.end = rest.start + _cut(rest.left, size)
        return rest if rest.left else None

    def peek(self) -> int:
        """Bytes of the next span before cutting; 0 if there is none."""
        return self._returned[0].left if self._returned else self._rest(self._ledger.position).left

    def _rest(self, position: int) -> Span:
        """From a position to the end of the missing span that it is in; an empty span at the very end."""
        if position == self._bytes:
            return Span(0, 0, 0)
        number = bisect_right(self._ends, position)
        span = self._missing[number]
        return Span(span.file, span.end - (self._ends[number] - position), span.end)

    def give_back(self, span: Span) -> None:
        """Take back what is left of a span whose connection failed; it is the next to be fetched, by this process."""
        if span.left:
            self._returned.appendleft(span)
            self._returned_bytes += span.left

    def add(self, span: Span) -> None:
        """Put a span behind what was given back, for a file that must be read once more."""
        self._returned.append(span)
        self._returned_bytes += span.left


def _cut(left: int, size: int) -> int:
    # A rest of less than half a request isn't worth one of its own.
    return size if left > size + size // 2 else left


def steal(span: Span) -> Span | None:
    """Cut the second half off a span that is being fetched too slowly, or None if it is too small for that."""
    middle = span.start + span.left // 2
    if span.end - middle < SMALLEST:
        return None
    taken = Span(span.file, middle, span.end)
    span.end = middle
    return taken
