"""A queue of pictures before processes that decode and embed them, which are ended where that costs too much."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pickle
import signal
import struct
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from http_limits.refusals import Overloaded
from model_repository.log import Log
from model_repository.pictures import PROCESSOR_SECONDS_LIMIT
from search_server.errors import ImageUnreadable, NotReady, PictureLost
from search_server.pictures.messages import ANSWER, QUESTION, UNREADABLE, VECTOR

if TYPE_CHECKING:
    from search_server.build.model import Model

_PROGRAM: Final = Path(__file__).with_name("child.py")

_ENVIRONMENT: Final = {
    "OPENBLAS_NUM_THREADS": "1",
    # what a large picture needed goes back to the kernel, and is not kept for the next
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": str(2**20),
    "MALLOC_TRIM_THRESHOLD_": str(2**20),
}

_LONGEST_ANSWER: Final = 2**20

_CRASHES: Final = {signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGFPE, signal.SIGILL}


class _Refusal(NamedTuple):
    """Why a picture has no vector."""

    kind: type[Exception]
    words: str


_LEAVING: Final = _Refusal(NotReady, "the server is leaving")


class _Process:
    """A process that embeds, one picture at a time. resting: what ends it if nobody asks it for long."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.resting: asyncio.TimerHandle | None = None

    @classmethod
    async def start(cls) -> _Process:
        return cls(
            await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", str(_PROGRAM)),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                start_new_session=True,  # Ctrl-C is for us
                env=_environment(),
            )
        )

    @property
    def alive(self) -> bool:
        return self._process.returncode is None

    @property
    def pid(self) -> int:
        return self._process.pid

    async def ask(self, question: bytes, picture: bytes) -> tuple[int, bytes]:
        """Return the kind of its answer, and that. Raises OSError or EOFError when it ends instead."""
        stdin, stdout = self._process.stdin, self._process.stdout
        if stdin is None or stdout is None:
            raise EOFError
        stdin.write(QUESTION.pack(len(question), len(picture)) + question)
        stdin.write(picture)
        await stdin.drain()
        kind, length = ANSWER.unpack(await stdout.readexactly(ANSWER.size))
        if length > _LONGEST_ANSWER:
            raise EOFError
        return kind, await stdout.readexactly(length)

    def end(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()

    async def ended(self) -> int:
        """Return how it ended."""
        return await self._process.wait()


def _environment() -> dict[str, str]:
    paths = os.pathsep.join(os.path.abspath(path) for path in sys.path)  # noqa: PTH100 - "" is the current folder
    return {**os.environ, "PYTHONPATH": paths, **_ENVIRONMENT}


class PictureProcesses:
    """Embeds pictures in processes of its own, and lets a few wait; whoever comes then is asked to come back.

    A process is started for the first picture and ends with this one. It has `picture_process_bytes` of memory and
    PROCESSOR_SECONDS_LIMIT of a processor for a picture. length: pictures that wait or are being embedded. ended:
    processes that were lost, or had to be ended.
    """

    def __init__(
        self,
        log: Log,
        *,
        processes: int = 1,
        queue: int = 8,
        deadline_seconds: float = 30.0,
        idle_seconds: float = 600.0,
    ) -> None:
        """Start nothing yet.

        processes: at most. queue: longest, those included that are being embedded. deadline_seconds: after which a
        picture's process is ended, however little of a processor it got. idle_seconds: after which one is ended that
        nobody asks.
        """
        self._log = log
        self._queue = queue
        self._deadline_seconds = deadline_seconds
        self._idle_seconds = idle_seconds
        self._turns = asyncio.Semaphore(processes)
        self._idle: list[_Process] = []
        self._busy: set[_Process] = set()
        self._closed = False
        self.length = 0
        self.ended = 0

    @property
    def pids(self) -> list[int]:
        """Of the processes that there are."""
        return [process.pid for process in (*self._idle, *self._busy)]

    async def embed(self, model: Model, picture: bytes) -> list[float]:
        """Return what a model makes of an encoded picture; whoever no longer waits for it keeps nobody waiting.

        Raises `Overloaded`; `ImageUnreadable` where it costs too much, or isn't one; `PictureLost` and `NotReady` where
        another try may pass; RuntimeError, with its words, where the model doesn't work.
        """
        if self.length >= self._queue:
            raise Overloaded(f"{self.length} pictures are waiting already; try again in a second")
        self.length += 1
        try:
            await self._turns.acquire()
            embedding = asyncio.ensure_future(self._embed(model, picture))
            embedding.add_done_callback(lambda _: self._turns.release())
            vector, refusal = await asyncio.shield(embedding)
        finally:
            self.length -= 1
        if refusal is not None:
            raise refusal.kind(refusal.words)
        return vector

    def close(self) -> None:
        """End all processes at once; pictures that wait, or come later, are refused."""
        self._closed = True
        for process in (*self._idle, *self._busy):
            if process.resting:
                process.resting.cancel()
            process.end()
        self._idle.clear()

    async def _embed(self, model: Model, picture: bytes) -> tuple[list[float], _Refusal | None]:
        """Return the vector, or why there is none: as a value, for an exception would hold the picture in a cycle."""
        if self._closed:
            return [], _LEAVING
        process = await self._take()
        self._busy.add(process)
        try:
            vector, refusal = await self._ask(process, model, picture)
        finally:
            self._busy.remove(process)
        if refusal is None or process.alive:
            self._rest(process)
        return vector, refusal

    async def _ask(self, process: _Process, model: Model, picture: bytes) -> tuple[list[float], _Refusal | None]:
        question = pickle.dumps((str(model.path), model.takes, model.normalised))
        try:
            async with asyncio.timeout(self._deadline_seconds):
                kind, answer = await process.ask(question, picture)
        except TimeoutError:
            words = f"the picture wasn't embedded within {self._deadline_seconds:g} s; try again"
            return [], await self._lose(process, _Refusal(PictureLost, words))
        except (OSError, EOFError):
            return [], _LEAVING if self._closed else await self._lose(process)
        except asyncio.CancelledError:  # the loop ends
            process.end()
            raise
        if kind == VECTOR:
            return list(struct.unpack(f"<{len(answer) // 4}f", answer)), None
        words = answer.decode(errors="replace")
        if kind == UNREADABLE:
            return [], _Refusal(ImageUnreadable, words)
        return [], await self._lose(process, _Refusal(RuntimeError, words))

    async def _lose(self, process: _Process, refusal: _Refusal | None = None) -> _Refusal:
        """End a process; return why, which how it ended says if it did so by itself."""
        process.end()
        status = await process.ended()
        refusal = refusal or _refusal(status)
        self.ended += 1
        self._log.warning(f"a process that embeds was lost: {refusal.words}", pid=process.pid)
        return refusal

    async def _take(self) -> _Process:
        while self._idle:
            process = self._idle.pop()
            if process.resting:
                process.resting.cancel()
            if process.alive:
                return process
        return await _Process.start()

    def _rest(self, process: _Process) -> None:
        if self._closed:
            process.end()
            return
        self._idle.append(process)
        process.resting = asyncio.get_running_loop().call_later(self._idle_seconds, self._end_idle, process)

    def _end_idle(self, process: _Process) -> None:
        self._idle.remove(process)
        process.end()


def _refusal(status: int) -> _Refusal:
    """Return what is said of a picture whose process ended with this status."""
    if status == -signal.SIGXCPU:
        limit = f"{PROCESSOR_SECONDS_LIMIT} s of a processor"
        return _Refusal(ImageUnreadable, f"the picture takes more than {limit} to be decoded; send a smaller one")
    how = signal.Signals(-status).name if status < 0 else f"exit status {status}"
    if -status in _CRASHES:
        return _Refusal(ImageUnreadable, f"the picture's decoder crashes ({how})")
    return _Refusal(PictureLost, f"the process that embedded the picture was ended ({how}); try again")
