"""Where a pod's workers ask its processes for what pictures are.

A worker sends one end of a pair of sockets through the door for each picture, and keeps the other. So there is nothing
that a worker which dies could leave half written, and whoever closes an end has gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import pickle
import socket

from search_server.pictures.messages import ANSWER, PHOTO, QUESTION, TURN
from search_server.pictures.remembered import RememberedPictures


class PictureDoor:
    """Lets pictures in. file: the descriptor that a worker inherits."""

    def __init__(self, pictures: RememberedPictures) -> None:
        self._pictures = pictures
        self._ours, self._theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._ours.setblocking(False)  # noqa: FBT003 - its only argument
        self._theirs.setblocking(False)  # noqa: FBT003
        self._answering: set[asyncio.Task[None]] = set()

    @property
    def file(self) -> int:
        """Open until this is closed."""
        return self._theirs.fileno()

    def open(self) -> None:
        """Let in who comes, on the running event loop."""
        asyncio.get_running_loop().add_reader(self._ours, self._admit)

    def close(self) -> None:
        """Let in nobody else, and leave those who wait."""
        asyncio.get_running_loop().remove_reader(self._ours)
        self._ours.close()
        self._theirs.close()

    def _admit(self) -> None:
        with contextlib.suppress(BlockingIOError):
            _, files, _, _ = socket.recv_fds(self._ours, 1, 1)
            for file in files:
                answering = asyncio.ensure_future(self._answer(socket.socket(fileno=file)))
                self._answering.add(answering)
                answering.add_done_callback(self._answering.discard)

    async def _answer(self, connection: socket.socket) -> None:
        reader, writer = await asyncio.open_unix_connection(sock=connection)
        try:
            remembered, photo = PHOTO.unpack(await reader.readexactly(PHOTO.size))
            question_size, picture_size = QUESTION.unpack(await reader.readexactly(QUESTION.size))
            question = pickle.loads(await reader.readexactly(question_size))  # noqa: S301 - from a worker
            gone = asyncio.ensure_future(reader.read(1))  # nothing is sent before it may be

            async def picture() -> bytes:
                gone.cancel()
                await asyncio.wait([gone])
                writer.write(ANSWER.pack(TURN, 0))
                return await reader.readexactly(picture_size)

            answering = self._pictures.answer(question, photo if remembered else b"", picture)
            embedding = asyncio.ensure_future(answering)
            await asyncio.wait({embedding, gone}, return_when=asyncio.FIRST_COMPLETED)
            if not embedding.done() and not gone.cancelled():
                embedding.cancel()
            kind, answer = await embedding
            writer.write(ANSWER.pack(kind, len(answer)) + answer)
            await writer.drain()
        except (OSError, EOFError, asyncio.CancelledError):
            pass  # whoever asked has gone
        finally:
            gone.cancel()
            writer.close()
