"""How many bytes a process holds for its clients at one time, all of them together."""

from __future__ import annotations


class ByteBudget:
    """Bytes of requests that are not answered yet, and of answers that were not taken yet. used: how many now."""

    def __init__(self, most: int) -> None:
        """At most `most` bytes."""
        self.most = most
        self.used = 0

    def fits(self, count: int) -> bool:
        """Whether there is room for so many more."""
        return self.used + count <= self.most
