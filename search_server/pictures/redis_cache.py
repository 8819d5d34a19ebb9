"""What pods remember together, in Redis: it may be slow, away or wrong, and no photo is answered later for it.

Only who was answered in time is asked again. Once one is not, nobody asks until Redis was found well in the background.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Final
from urllib.parse import urlsplit

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ResponseError

from model_repository.telemetry.log import Log
from search_server.pictures.messages import LONGEST_ANSWER
from search_server.processes.pod import PodState

_PATIENCE_SECONDS: Final = 0.04
"""That a photo waits for Redis: a moment less than the 50 ms that it may ever cost."""
_LOOK_SECONDS: Final = 5.0
"""Until Redis is asked again how it is, off everybody's path."""
_CONNECTIONS: Final = 8
_WRITES: Final = 16
"""Most answers under way to Redis, each on a connection; what comes above that isn't kept."""
_KEPT_SECONDS: Final = 7 * 24 * 3600
_TROUBLE: Final = Exception
"""Besides RedisError, OSError and TimeoutError whatever redis-py raises where an answer makes no sense: it is read by
int(), and by recursion."""
_NOBODY: Final = "indexpush:nobody"
"""A name under which nothing is ever kept."""


class RedisCache:
    """Keeps values in Redis for a week, by names. Nothing is asked before `begin`."""

    def __init__(self, url: str, pod: PodState, log: Log, *, look_seconds: float = _LOOK_SECONDS) -> None:
        """url: as redis-py takes it. pod: where is counted."""
        self._where = urlsplit(url).hostname or urlsplit(url).path  # and no password
        self._pod = pod
        self._log = log
        self._look_seconds = look_seconds
        self._redis = Redis.from_url(
            url,
            max_connections=_CONNECTIONS + _WRITES + 1,
            retry=Retry(NoBackoff(), 0),
            socket_connect_timeout=1,
            socket_timeout=1,
        )
        self._asking = 0
        self._full = False
        self._writing: set[asyncio.Task[None]] = set()
        self._looking: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Find out how Redis is, on the running event loop; until then it counts as away."""
        self._looking = asyncio.ensure_future(self._look())

    async def close(self) -> None:
        """Leave at once."""
        for task in (*self._writing, self._looking):
            if task:
                task.cancel()
        with contextlib.suppress(_TROUBLE):
            await self._redis.aclose()

    async def get(self, name: bytes) -> bytes | None:
        """Return what is kept under a name; None if there is nothing, or Redis doesn't say so in time."""
        pod = self._pod
        if not pod.shared_well or self._asking >= _CONNECTIONS:
            return None
        self._asking += 1
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                kept = await self._redis.get(_key(name))
        except _TROUBLE as error:
            self._part(error)
            return None
        finally:
            self._asking -= 1
        if kept is None:
            pod.unknown_there += 1
            return None
        pod.remembered_there += 1
        return kept if isinstance(kept, bytes) else None

    def put(self, name: bytes, value: bytes) -> None:
        """Have it kept, behind the answer's back."""
        if self._pod.shared_well and len(self._writing) < _WRITES and len(value) <= LONGEST_ANSWER:
            writing = asyncio.ensure_future(self._put(name, value))
            self._writing.add(writing)
            writing.add_done_callback(self._writing.discard)

    async def _put(self, name: bytes, value: bytes) -> None:
        try:
            async with asyncio.timeout(1):
                await self._redis.set(_key(name), value, ex=_KEPT_SECONDS)
            self._full = False
        except ResponseError as error:  # it is full, or a replica: what it has is asked for all the same
            self._pod.shared_failures += 1
            if not self._full:
                self._log.warning(f"CACHE_URL: {self._where}: {error}; what is new isn't kept there until it takes it")
            self._full = True
        except _TROUBLE as error:
            self._part(error)

    def _part(self, error: Exception) -> None:
        """Ask no more until Redis is found well."""
        self._pod.shared_failures += 1
        if not self._pod.shared_well:
            return
        self._pod.shared_well = 0
        said = str(error) or f"no answer in {_PATIENCE_SECONDS * 1000:g} ms"
        self._log.warning(f"CACHE_URL: {self._where}: {said}; photos are embedded without it until it answers")
        self._looking = asyncio.ensure_future(self._look(after=self._look_seconds))

    async def _look(self, after: float = 0.0) -> None:
        told = bool(after)
        await asyncio.sleep(after)
        while True:
            try:
                async with asyncio.timeout(1):
                    await self._redis.get(_NOBODY)  # connects, which may take longer than an answer may
                async with asyncio.timeout(_PATIENCE_SECONDS):
                    await self._redis.get(_NOBODY)
            except _TROUBLE as error:
                if not told:
                    said = str(error) or "no answer in a second"
                    self._log.warning(f"CACHE_URL: {self._where}: {said}; photos are embedded without it")
                told = True
            else:
                self._pod.shared_well = 1
                self._log.info(f"CACHE_URL: {self._where} answers", look_seconds=self._look_seconds)
                return
            await asyncio.sleep(self._look_seconds)


def _key(name: bytes) -> str:
    return f"indexpush:photo:{name.hex()}"
