"""Bytes in flight are bounded: whoever wants to hold some waits until there is room."""

from __future__ import annotations

import asyncio
from collections import deque


class Room:
    """So many bytes, given to those who wait in the order that they came. Of one event loop."""

    def __init__(self, total: int) -> None:
        self._free = total
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    async def share(self, size: int) -> Share:
        """Wait for `size` bytes of it; at most the total, or it waits for ever."""
        await self.take(size)
        return Share(self, size)

    async def take(self, size: int) -> None:
        """See `Share`, which remembers to give it back."""
        if not self._waiting and size <= self._free:
            self._free -= size
            return
        given: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((size, given))
        try:
            await given
        except asyncio.CancelledError:
            if given.cancelled():
                self.give(0)  # whoever stood behind may fit
            else:
                self.give(size)
            raise

    def give(self, size: int) -> None:
        """Give `size` bytes back."""
        self._free += size
        while self._waiting and (self._waiting[0][1].cancelled() or self._waiting[0][0] <= self._free):
            wanted, given = self._waiting.popleft()
            if not given.cancelled():
                self._free -= wanted
                given.set_result(None)


class Share:
    """Somebody's part of the room."""

    def __init__(self, room: Room, size: int) -> None:
        self._room = room
        self._size = size

    async def resize(self, size: int) -> None:
        """Make it that large: at once if that is smaller, else when there is room."""
        if size > self._size:
            await self._room.take(size - self._size)
        else:
            self._room.give(self._size - size)
        self._size = size

    def free(self) -> None:
        """Give it back; a second time changes nothing."""
        self._room.give(self._size)
        self._size = 0
