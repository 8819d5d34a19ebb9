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


class Holdings:
    """What one connection holds of a budget: of requests, until they are answered.

    head: of one that isn't whole yet. unsent: of answers that its client has not taken.
    """

    def __init__(self, budget: ByteBudget) -> None:
        """Hold nothing yet."""
        self._budget = budget
        self._requests: dict[object, int] = {}
        self.head = self.unsent = 0

    def __contains__(self, request: object) -> bool:
        return request in self._requests

    def add(self, request: object, count: int) -> None:
        """So many bytes more of a request."""
        self._budget.used += count
        self._requests[request] = self._requests.get(request, 0) + count

    def forget(self, request: object) -> None:
        """It is answered."""
        self._budget.used -= self._requests.pop(request, 0)

    def set_head(self, count: int) -> None:
        """So many bytes of a head have come."""
        self._budget.used += count - self.head
        self.head = count

    def set_unsent(self, count: int) -> None:
        """So many bytes of answers wait for the client."""
        self._budget.used += count - self.unsent
        self.unsent = count

    def clear(self) -> None:
        """Hold nothing any more."""
        self._budget.used -= sum(self._requests.values()) + self.head + self.unsent
        self._requests.clear()
        self.head = self.unsent = 0
