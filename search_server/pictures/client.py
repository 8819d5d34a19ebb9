"""What a worker asks at the door."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import pickle
import socket
import struct
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar

from http_limits.refusals import Overloaded
from search_server.errors import EmbeddingUnavailable, ImageUnreadable, NotReady, PictureLost
from search_server.http.requests import ClientGone
from search_server.pictures.messages import (
    ANSWER,
    AWAY,
    LEAVING,
    LOST,
    MISSED,
    OVERLOADED,
    PHOTO,
    QUESTION,
    REGION,
    REGIONS,
    TURN,
    UNREADABLE,
    VECTOR,
    Box,
    Detect,
    DetectorFile,
    Embed,
    ModelFile,
    Prove,
    Question,
)

if TYPE_CHECKING:
    from model_repository.documents.detector_manifest import GoldenDetection
    from search_server.build.detector import BuildDetector
    from search_server.build.model import Model

_REFUSALS: Final[dict[int, type[Exception]]] = {
    UNREADABLE: ImageUnreadable,
    OVERLOADED: Overloaded,
    LOST: PictureLost,
    LEAVING: NotReady,
    AWAY: EmbeddingUnavailable,
}
_PATIENCE_SECONDS = 0.05
_LOOK_SECONDS = 0.5
"""Between two looks whether anybody still waits for an answer."""
_LONG_BYTES = 1024 * 1024
"""Pictures above it are hashed by a thread: the event loop is others' too."""

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Region:
    """A part of a picture, and what the model of its category makes of it. score: 0 to 1."""

    box: Box
    category: str
    score: float
    vector: Sequence[float]


class PictureClient:
    """Has pictures embedded by the pod's processes. length: those of this worker that wait or are being embedded."""

    def __init__(self, door: socket.socket) -> None:
        """Ask at this door; see `PictureDoor`."""
        self._door = door
        self._connections: set[asyncio.StreamWriter] = set()
        self._closed = False
        self.length = 0

    async def embed(
        self,
        model: Model,
        picture: bytes,
        box: Box | None = None,
        *,
        remembered: bool = True,
        gone: Callable[[], bool] = lambda: False,
    ) -> list[float]:
        """Return what a model makes of an encoded picture, or of what is in a box of it.

        remembered: whether an answer of before will do. gone: whether nobody waits for it any more: then its place in
        the queue is free within a second, and `ClientGone` is raised.

        Raises `Overloaded`; `ImageUnreadable` where it costs too much, or isn't one; `PictureLost` and `NotReady` where
        another try may pass; RuntimeError, with its words, where the model doesn't work.
        """
        question = Embed(_model_file(model), box)
        _, answer = await self._answer(question, picture, VECTOR, remembered=remembered, gone=gone)
        return _numbers(answer)

    async def detect(
        self,
        detector: BuildDetector,
        models: Sequence[Model],
        picture: bytes,
        category: str | None = None,
        whole: Model | None = None,
        *,
        gone: Callable[[], bool] = lambda: False,
    ) -> tuple[list[Region], list[float] | None]:
        """Return what is in an encoded picture, best first; and where nothing is, what `whole` makes of all of it.

        models: of the build. category: of what is looked for; None: whatever the detector has a category of. gone, and
        what is raised: as `embed` has it.
        """
        wanted = [one for one in detector.models if category in (None, one)]
        question = Detect(
            _detector_file(detector),
            {name: its for name, its in detector.reference.categories.items() if its in wanted},
            detector.reference.least_score,
            {each: _model_file(models[detector.models[each]]) for each in wanted},
            _model_file(whole) if whole else None,
        )
        kind, answer = await self._answer(question, picture, VECTOR, REGIONS, gone=gone)
        return ([], _numbers(answer)) if kind == VECTOR else (list(_regions(answer, detector, models)), None)

    async def missed(self, detector: BuildDetector, golden: GoldenDetection, picture: bytes) -> str:
        """Return in words what of a golden image isn't found; raises as `embed` does."""
        question = Prove(_detector_file(detector), golden, detector.manifest.least_overlap)
        _, answer = await self._answer(question, picture, MISSED, remembered=False)
        return answer.decode(errors="replace")

    @staticmethod
    async def patiently(ask: Callable[[], Awaitable[_T]]) -> _T:
        """Ask again where that may pass."""
        while True:
            try:
                return await ask()
            except (Overloaded, PictureLost):
                await asyncio.sleep(_PATIENCE_SECONDS)

    def close(self) -> None:
        """Go away at once from wherever something is waited for; what comes later is refused."""
        self._closed = True
        for connection in self._connections:
            connection.transport.abort()

    async def _answer(
        self,
        question: Question,
        picture: bytes,
        *kinds: int,
        remembered: bool = True,
        gone: Callable[[], bool] = lambda: False,
    ) -> tuple[int, bytes]:
        """Return the answer if it is of one of these kinds; raises its words if it isn't."""
        self.length += 1
        try:
            photo = await _sha256(picture) if remembered else b""
            kind, answer = await self._ask(photo, pickle.dumps(question), picture, gone)
        finally:
            self.length -= 1
        if kind in kinds:
            return kind, answer
        raise _REFUSALS.get(kind, RuntimeError)(answer.decode(errors="replace"))

    async def _ask(self, photo: bytes, question: bytes, picture: bytes, gone: Callable[[], bool]) -> tuple[int, bytes]:
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
            writer.write(PHOTO.pack(bool(photo), photo) + QUESTION.pack(len(question), len(picture)) + question)
            kind, length = await _answered(reader, gone)
            if kind == TURN:
                writer.write(picture)
                kind, length = await _answered(reader, gone)
            return kind, await reader.readexactly(length)
        except (OSError, EOFError):
            if self._closed:
                return LEAVING, b"the server is leaving"
            return LOST, b"whoever embeds pictures was ended; try again"
        finally:
            self._connections.discard(writer)
            writer.close()


async def _answered(reader: asyncio.StreamReader, gone: Callable[[], bool]) -> tuple[int, int]:
    """Return what an answer is, and its length; raises `ClientGone` when nobody waits for it any more."""
    while not gone():
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LOOK_SECONDS):
                kind, length = ANSWER.unpack(await reader.readexactly(ANSWER.size))
                return kind, length
    raise ClientGone


async def _sha256(picture: bytes) -> bytes:
    if len(picture) > _LONG_BYTES:
        return (await asyncio.to_thread(hashlib.sha256, picture)).digest()
    return hashlib.sha256(picture).digest()


def _model_file(model: Model) -> ModelFile:
    return ModelFile(str(model.path), model.takes, model.normalised, model.digest, model.dimensions)


def _detector_file(detector: BuildDetector) -> DetectorFile:
    manifest = detector.manifest
    return DetectorFile(str(detector.path), manifest.input, manifest.classes, detector.reference.digest)


def _numbers(answer: bytes) -> list[float]:
    return list(struct.unpack(f"<{len(answer) // 4}f", answer))


def _regions(answer: bytes, detector: BuildDetector, models: Sequence[Model]) -> Iterator[Region]:
    at = 0
    while at < len(answer):
        number, score, *box = REGION.unpack_from(answer, at)
        at += REGION.size
        category = detector.reference.categories[detector.manifest.classes[number]]
        dimensions = models[detector.models[category]].manifest.dimensions
        vector = struct.unpack_from(f"<{dimensions}f", answer, at)
        at += 4 * dimensions
        yield Region((box[0], box[1], box[2], box[3]), category, score, vector)
