"""One clock for all objects: it gives out resource versions, and wakes whoever waits for it to move on."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime


class Changes:
    """The clock. Versions begin at the time of day, so that those of an earlier cluster are never met again."""

    def __init__(self) -> None:
        self._version = int(time.time() * 1000)
        self._moved = asyncio.Event()

    def tick(self) -> str:
        """Something changed: its new resource version."""
        self._version += 1
        moved, self._moved = self._moved, asyncio.Event()
        moved.set()
        return str(self._version)

    async def until(self, wanted: Callable[[], bool], timeout: float) -> bool:  # noqa: ASYNC109 - part of the API
        """Return True as soon as `wanted` says so, looking after every change; False after `timeout` seconds."""
        try:
            async with asyncio.timeout(timeout):
                while not wanted():
                    await self._moved.wait()
        except TimeoutError:
            return False
        return True


def timestamp(moment: datetime | None = None) -> str:
    """RFC 3339 with seconds, as Kubernetes writes times."""
    return (moment or datetime.now(UTC)).strftime("%Y-%m-%dT%H:%M:%SZ")
