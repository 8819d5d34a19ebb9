"""Who works when: short work in turns on the event loop, long work in a thread, and no more of it than a worker can do.

Engines let go of the interpreter while they search, so that a thread that searches leaves the event loop to others.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

from http_limits.refusals import Overloaded
from search_server.errors import ParameterRefused
from search_server.http.requests import ClientGone

_T = TypeVar("_T")

_TURN_SECONDS = 0.003
"""Work begins no later in an iteration of the event loop: so probes, and other clients' requests, come in between."""


class Turns:
    """Does short work on the event loop, in the order in which it was asked for, and so much in one iteration.

    What came in an iteration is done in the next, one after another: searches that answers come between find the
    processor's caches full of those, and take some 5 % longer.
    """

    def __init__(self, seconds: float = _TURN_SECONDS) -> None:
        """Begin nothing once an iteration has taken `seconds`."""
        self._seconds = seconds
        self._waiting: deque[tuple[Callable[[], Any], Callable[[], bool], asyncio.Future[Any]]] = deque()

    async def take(self, work: Callable[[], _T], gone: Callable[[], bool]) -> _T:
        """What `work` gives, when its turn comes. Raises `ClientGone` if by then nobody waits for it: `gone` tells."""
        loop = asyncio.get_running_loop()
        if not self._waiting:
            loop.call_soon(self._work)
        result: asyncio.Future[_T] = loop.create_future()
        self._waiting.append((work, gone, result))
        try:
            return await result
        finally:
            del result  # or its error, whose traceback has this frame, keeps itself until a collection, and `work`

    def _work(self) -> None:
        """Do an iteration's share."""
        end = time.perf_counter() + self._seconds
        while self._waiting:
            work, gone, result = self._waiting.popleft()
            if result.done():
                continue
            if gone():
                result.set_exception(ClientGone())
                continue
            try:
                result.set_result(work())
            except Exception as error:  # noqa: BLE001 - raised where the result is awaited
                result.set_exception(error.with_traceback(None))
            if time.perf_counter() >= end:
                break
        if self._waiting:
            asyncio.get_running_loop().call_soon(self._work)


class LongWork:
    """Does long work in a thread, a piece at a time, and admits no more while too much of it waits.

    Costs are in numbers compared, as `build.index.Partition.cost` has them: a core compares some 2.5 thousand million
    of them a second.
    """

    def __init__(self, most: float, waiting: float) -> None:
        """most: of one request. waiting: with so much under way, nothing new is begun."""
        self._most = most
        self._enough = waiting
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="search")
        self.cost = 0.0

    def check(self, cost: float) -> None:
        """Raise `ParameterRefused` if that is more than one request may cost."""
        if cost > self._most:
            times = cost / self._most
            raise ParameterRefused(
                f"this would compare {times:.1f} times as many vectors as one request may: ask for fewer neighbours, "
                "in fewer queries, or within a category"
            )

    @contextmanager
    def under_way(self, cost: float, *, begun: bool) -> Iterator[None]:
        """Within this, work of that cost is done. Raises `Overloaded`, unless its request has been `begun` with."""
        if self.cost >= self._enough and not begun:
            raise Overloaded("searches that take long are waiting already; try again in a second")
        self.cost += cost
        try:
            yield
        finally:
            self.cost -= cost

    async def do(self, piece: Callable[[], _T], gone: Callable[[], bool]) -> _T:
        """What `piece` gives, done in the thread. Raises `ClientGone` if nobody waits for it when its turn comes."""

        def unless_gone() -> _T:
            if gone():
                raise ClientGone
            return piece()

        return await asyncio.get_running_loop().run_in_executor(self._thread, unless_gone)
