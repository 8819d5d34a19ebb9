"""What a worker asks at the door."""

from __future__ import annotations

import asyncio
import pickle
import socket
import struct
from typing import TYPE_CHECKING, Final

from http_limits.refusals import Overloaded
from search_server.errors import ImageUnreadable, NotReady, PictureLost
from search_server.pictures.messages import (
    ANSWER,
    LEAVING,
    LOST,
    OVERLOADED,
    QUESTION,
    TURN,
    UNREADABLE,
    VECTOR,
)

if TYPE_CHECKING:
    from search_server.build.model import Model

_REFUSALS: Final[dict[int, type[Exception]]] = {
    UNREADABLE: ImageUnreadable,
    OVERLOADED: Overloaded,
    LOST: PictureLost,
    LEAVING: NotReady,
}
_PATIENCE_SECONDS = 0.05


class PictureClient:
    """Has pictures embedded by the pod's processes. length: those of this worker that wait or are being embedded."""

    def __init__(self, door: socket.socket) -> None:
        """Ask at this door; see `PictureDoor`."""
        self._door = door
        self._connections: set[asyncio.StreamWriter] = set()
        self._closed = False
        self.length = 0

    async def embed(self, model: Model, picture: bytes) -> list[float]:
        """Return what a model makes of an encoded picture.

        Raises `Overloaded`; `ImageUnreadable` where it costs too much, or isn't one; `PictureLost` and `NotReady` where
        another try may pass; RuntimeError, with its words, where the model doesn't work.
        """
        self.length += 1
        try:
            kind, answer = await self._ask(model, picture)
        finally:
            self.length -= 1
        if kind == VECTOR:
            return list(struct.unpack(f"<{len(answer) // 4}f", answer))
        raise _REFUSALS.get(kind, RuntimeError)(answer.decode(errors="replace"))

    async def embed_patiently(self, model: Model, picture: bytes) -> list[float]:
        """As `embed`, but try again where that may pass."""
        while True:
            try:
                return await self.embed(model, picture)
            except (Overloaded, PictureLost):
                await asyncio.sleep(_PATIENCE_SECONDS)

    def close(self) -> None:
        """Go away at once from wherever something is waited for; what comes later is refused."""
        self._closed = True
        for connection in self._connections:
            connection.transport.abort()

    async def _ask(self, model: Model, picture: bytes) -> tuple[int, bytes]:
        """Return the answer as a value: an exception would hold the picture in a cycle."""
        if self._closed:
            return LEAVING, b"the server is leaving"
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                socket.send_fds(self._door, [b"p"], [theirs.fileno()])
            except BlockingIOError:
                ours.close()
                return OVERLOADED, b"too many pictures come at once; try again in a second"
        reader, writer = await asyncio.open_unix_connection(sock=ours)
        self._connections.add(writer)
        try:
            question = pickle.dumps((str(model.path), model.takes, model.normalised))
            writer.write(QUESTION.pack(len(question), len(picture)) + question)
            kind, length = ANSWER.unpack(await reader.readexactly(ANSWER.size))
            if kind == TURN:
                writer.write(picture)
                kind, length = ANSWER.unpack(await reader.readexactly(ANSWER.size))
            return kind, await reader.readexactly(length)
        except (OSError, EOFError):
            if self._closed:
                return LEAVING, b"the server is leaving"
            return LOST, b"whoever embeds pictures was ended; try again"
        finally:
            self._connections.discard(writer)
            writer.close()
