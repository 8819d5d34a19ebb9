"""What waits to be asked of one host, and when it may be: values in time, without a clock of their own."""

from __future__ import annotations

import heapq
import itertools
import math
from collections import deque
from dataclasses import dataclass, field
from random import Random
from typing import Final

from yarl import URL

from embedding_batch.pictures.picture import Picture
from embedding_batch.pictures.politeness import Pace, Politeness, backoff
from embedding_batch.pictures.robots import Robots

FAILURES: Final = 20
"""So many requests that fail one after another, over all tries of one picture, and a host is given up for this time."""


@dataclass(slots=True)
class Origin:
    """A scheme, host and port, which have one robots.txt. robots: None until it has come. waiting: for it."""

    url: URL
    robots: Robots | None = None
    waiting: list[Request] = field(default_factory=list)


@dataclass(slots=True)
class Request:
    """A picture, or an origin's robots.txt, to be asked for at a URL.

    tries: requests for it that failed. hops: redirects that led here. begun: when it was first asked.
    """

    wanted: Picture | Origin
    url: URL
    tries: int = 0
    hops: int = 0
    begun: float = math.inf


class Host:
    """The requests that wait for a host, in the order of their coming; those that failed when they are due.

    given_up: why nobody asks it any more.
    """

    def __init__(self, name: str, politeness: Politeness, now: float, chance: Random) -> None:
        self.name = name
        self.pace = Pace(politeness.rate(name), now)
        self.given_up: str | None = None
        self._politeness = politeness
        self._chance = chance
        self._ready: deque[Request] = deque()
        self._later: list[tuple[float, int, Request]] = []
        self._numbers = itertools.count()
        self._closed_until = 0.0
        self._failures = 0
        self._last_good = -math.inf

    @property
    def waits(self) -> bool:
        """Whether there is anything to ask."""
        return bool(self._ready or self._later)

    def add(self, request: Request, *, first: bool = False) -> None:
        """To be asked when its turn comes; first: before all others."""
        if first:
            self._ready.appendleft(request)
        else:
            self._ready.append(request)

    def wait(self, now: float) -> float:
        """Seconds until the next request may be sent, as far as can be told; infinite where none waits."""
        if not self.waits:
            return math.inf
        due = now if self._ready else self._later[0][0]
        return max(due - now, self._closed_until - now, self.pace.wait(now))

    def take(self, now: float) -> Request:
        """The next request, which goes out now; only after wait() said 0."""
        is_due = bool(self._later) and self._later[0][0] <= now
        request = heapq.heappop(self._later)[2] if is_due else self._ready.popleft()
        request.begun = min(request.begun, now)
        self.pace.sent(now)
        return request

    def answers(self, now: float) -> None:
        """It gave an answer that was one, good or bad."""
        self._failures = 0
        self._last_good = now

    def fails(self, request: Request, now: float, wait: float | None) -> bool:
        """The request failed in a way that may pass: True if it is to be asked again, which is seen to.

        wait: seconds that the host asked for: nothing is sent to it for so long, or for the longest pause. Where many
        fail one after another the host gets pauses that grow, too.
        """
        self._failures += 1
        request.tries += 1
        longest = self._politeness.longest_pause
        pause = 0.0 if wait is None else min(wait, longest)
        rounds = self._failures // self._politeness.connections_a_host
        if rounds:
            pause = max(pause, backoff(rounds, longest, self._chance))
        self._closed_until = max(self._closed_until, now + pause)
        if request.tries >= self._politeness.tries or self.given_up is not None:
            return False
        due = now + max(backoff(request.tries, longest, self._chance), 0.0 if wait is None else min(wait, longest))
        heapq.heappush(self._later, (due, next(self._numbers), request))
        return True

    def is_hopeless(self, request: Request) -> bool:
        """Whether nothing at all worked while a request used up its tries, and many were sent."""
        return self._failures >= FAILURES and self._last_good < request.begun

    def give_up(self, reason: str) -> list[Request]:
        """Ask it nothing more, and return all that waited."""
        self.given_up = reason
        waiting = [*self._ready, *(request for _, _, request in self._later)]
        self._ready.clear()
        self._later.clear()
        return waiting
