"""How much one host is asked, as values: whoever uses them says what time it is."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from random import Random
from typing import Final

MIB: Final = 1024 * 1024
EXPECTED_BYTES: Final = MIB
"""Room that each connection has for the next picture before anybody knows its size."""

_SHORTEST_PAUSE = 0.5
_BURST_SECONDS = 0.1


@dataclass(frozen=True)
class Politeness:
    """What a host, and this machine, is asked for at most.

    A host is a name in lower case and its own letters, or an address, whatever the port. All of it is kept by one call
    of `fetch`: who has several at work at once gives each its part.

    requests_a_second: of one host, in any second, as the host sees it; below one: one in so many seconds. A fraction
    above one is cut (2.5 is 2). rates: other such numbers for some hosts: one's own take more.
    connections_a_host, connections: open at once, idle ones included. A NAT of Google Cloud gives a machine 64 ports by
    default, and some of those that were closed are still taken; the default stays below that. Raise both together.
    connect_seconds, whole_seconds: for one try: until it is connected, TLS included; until the last byte has come.
    most_bytes: of a picture. bytes_in_flight: of all pictures on their way, those that wait to be taken included; where
    that is less than 1 MiB a connection and one picture, so much.
    tries: requests for one picture that fail in a way that may pass. longest_pause: seconds; how long a host that asks
    for a pause is obeyed, and the most between two tries.
    longest_fetch: seconds that one call of `fetch` asks hosts: what they haven't given then counts as for another time,
    as of a host whose robots.txt asks for a minute between two of a thousand pictures.
    robots: obey robots.txt. user_agent: who asks; robots.txt knows its part before the slash.
    """

    requests_a_second: float = 10.0
    rates: Mapping[str, float] = field(default_factory=dict)
    connections_a_host: int = 4
    connections: int = 48
    connect_seconds: float = 10.0
    whole_seconds: float = 60.0
    most_bytes: int = 32 * MIB
    bytes_in_flight: int = 256 * MIB
    tries: int = 5
    longest_pause: float = 120.0
    longest_fetch: float = 1800.0
    robots: bool = True
    user_agent: str = "indexpush/0.1"

    @property
    def room(self) -> int:
        """Bytes in flight with which every connection goes on."""
        return max(self.bytes_in_flight, self.connections * EXPECTED_BYTES + self.most_bytes)

    def rate(self, host: str) -> float:
        """Requests a second of this host."""
        return self.rates.get(host, self.requests_a_second)

    @property
    def product(self) -> str:
        """What robots.txt may call this program."""
        return self.user_agent.split("/", maxsplit=1)[0].strip()


@dataclass(frozen=True, slots=True)
class TokenBucket:
    """Gives `rate` tokens a second and keeps at most `burst`. tokens: there were so many at `at`, in seconds."""

    rate: float
    burst: float
    tokens: float
    at: float

    def wait(self, now: float) -> float:
        """Seconds until there is a whole token."""
        return max(0.0, (1 - self._tokens(now)) / self.rate)

    def take(self, now: float) -> TokenBucket:
        """With one token less; only after wait() said 0."""
        return replace(self, tokens=self._tokens(now) - 1, at=now)

    def _tokens(self, now: float) -> float:
        grown = min(self.burst, self.tokens + (now - self.at) * self.rate)
        return 1.0 if math.isclose(grown, 1.0, abs_tol=1e-9) else grown  # else a wait of nothing could go on for ever


class Pace:
    """When the next request may be sent to a host, so that the host never sees more than `rate` in any second.

    A token bucket spaces the requests, with a burst of a tenth of a second's worth. It counts when they are sent; what
    the host sees is when they arrive, which connecting, a busy network or a busy machine defer by any time: ten
    requests sent in a second may arrive in the same moment, with the next ten. So each also counts as one of the last
    second until a second after its answer, before which it certainly arrived. The price: at a rate r and answers that
    take L seconds, r/(1+L) requests a second.
    """

    def __init__(self, rate: float, now: float) -> None:
        self._answers: deque[float] = deque()
        self._open = 0
        self._set(rate, now)

    def _set(self, rate: float, now: float) -> None:
        burst = max(1.0, rate * _BURST_SECONDS)
        self._bucket = TokenBucket(rate, burst, 1.0, now)
        self._limit = max(1, math.floor(rate))
        self._window = max(1.0, 1 / rate)

    def slow_down(self, rate: float, now: float) -> None:
        """Go no faster than this, requests a second, from now on."""
        if rate < self._bucket.rate:
            self._set(rate, now)
            self._bucket = self._bucket.take(now)  # what asked for it was an answer

    def wait(self, now: float) -> float:
        """Seconds until a request may be sent, as far as can be told; 0: now."""
        while self._answers and self._answers[0] < now - self._window:
            self._answers.popleft()
        return max(self._bucket.wait(now), self._wait_for_answers(now))

    def _wait_for_answers(self, now: float) -> float:
        too_many = self._open + len(self._answers) - self._limit + 1
        if too_many <= 0:
            return 0.0
        if too_many > len(self._answers):  # some answer must come first: not before now
            return self._window
        return max(self._answers[too_many - 1] + self._window - now, 1e-3)

    def sent(self, now: float) -> None:
        """A request goes out; only after wait() said 0."""
        self._bucket = self._bucket.take(now)
        self._open += 1

    def answered(self, now: float) -> None:
        """Its answer began to come, or never will."""
        self._open -= 1
        self._answers.append(now)


def backoff(tries: int, longest: float, chance: Random) -> float:
    """Seconds to wait after the `tries`-th failure: exponential, with full jitter.

    https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
    """
    return chance.uniform(0, min(longest, _SHORTEST_PAUSE * 2.0 ** min(tries, 30)))


def retry_after(value: str, now: datetime) -> float | None:
    """Seconds that a Retry-After header (RFC 9110, 10.2.3) asks for: seconds or a date; None if it makes no sense."""
    text = value.strip()
    if text.isascii() and text.isdecimal():
        return float(text[:12])
    try:
        when = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    if when.tzinfo is None:  # "-0000": UTC
        when = when.replace(tzinfo=UTC)
    return max(0.0, (when - now).total_seconds())
