"""A queue of pictures before processes that decode and embed them, which are ended where that costs too much."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pickle
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from model_repository.resources.pictures import PROCESSOR_SECONDS_LIMIT
from model_repository.telemetry.log import Log
from search_server.pictures.messages import (
    ANSWER,
    FAILED,
    LEAVING,
    LOST,
    OVERLOADED,
    QUESTION,
    UNREADABLE,
    Answer,
    Question,
)

_PROGRAM: Final = Path(__file__).with_name("child.py")

_ENVIRONMENT: Final = {
    "OPENBLAS_NUM_THREADS": "1",
    # what a large picture needed goes back to the kernel, and is not kept for the next
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": str(2**20),
    "MALLOC_TRIM_THRESHOLD_": str(2**20),
}

_CRASHES: Final = {signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGFPE, signal.SIGILL}

_LEAVING: Final[Answer] = LEAVING, b"the server is leaving"


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

    async def ask(self, question: Question, picture: bytes) -> Answer:
        """Return its answer. Raises OSError or EOFError when it ends instead."""
        asked = pickle.dumps(question)
        stdin, stdout = self._process.stdin, self._process.stdout
        if stdin is None or stdout is None:
            raise EOFError
        stdin.write(QUESTION.pack(len(asked), len(picture)) + asked)
        stdin.write(picture)
        await stdin.drain()
        kind, length = ANSWER.unpack(await stdout.readexactly(ANSWER.size))
        if length > question.longest:
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

    async def embed(self, question: Question, picture: Callable[[], Awaitable[bytes]]) -> Answer:
        """Return the answer to a question about a picture, which is asked for when its turn comes.

        Cancelled while it waits it makes room; later the process goes on, and nobody hears of it. Raises what `picture`
        raises.
        """
        if self._closed:
            return _LEAVING
        if self.length >= self._queue:
            return OVERLOADED, f"{self.length} pictures are waiting already; try again in a second".encode()
        self.length += 1
        try:
            async with self._turns:
                if self._closed:
                    return _LEAVING
                try:
                    async with asyncio.timeout(self._deadline_seconds):
                        data = await picture()
                except TimeoutError:
                    return LOST, b"the picture didn't come"
                return await self._embed(question, data)
        finally:
            self.length -= 1

    def close(self) -> None:
        """End all processes at once; pictures that wait, or come later, are refused."""
        self._closed = True
        for process in (*self._idle, *self._busy):
            if process.resting:
                process.resting.cancel()
            process.end()
        self._idle.clear()

    async def _embed(self, question: Question, picture: bytes) -> Answer:
        try:
            process = await self._take()
        except OSError as error:  # memory, files or places for a process are used up
            words = f"no process to embed with can be started: {error}"
            self._log.warning(words)
            return LOST, f"{words}; try again".encode()
        self._busy.add(process)
        try:
            answer = await self._ask(process, question, picture)
        except BaseException:
            process.end()
            raise
        finally:
            self._busy.remove(process)
        if process.alive:
            self._rest(process)
        return answer

    async def _ask(self, process: _Process, question: Question, picture: bytes) -> Answer:
        try:
            async with asyncio.timeout(self._deadline_seconds):
                answer = await process.ask(question, picture)
        except TimeoutError:
            words = f"the picture wasn't embedded within {self._deadline_seconds:g} s; try again"
            return await self._lose(process, (LOST, words.encode()))
        except (OSError, EOFError):
            return _LEAVING if self._closed else await self._lose(process)
        return await self._lose(process, answer) if answer[0] == FAILED else answer

    async def _lose(self, process: _Process, answer: Answer | None = None) -> Answer:
        """End a process; return why, which how it ended says if it did so by itself."""
        process.end()
        status = await process.ended()
        kind, words = answer or _answer(status)
        self.ended += 1
        self._log.warning(f"a process that embeds was lost: {words.decode(errors='replace')}", pid=process.pid)
        return kind, words

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


def _answer(status: int) -> Answer:
    """Return what is said of a picture whose process ended with this status."""
    if status == -signal.SIGXCPU:
        limit = f"{PROCESSOR_SECONDS_LIMIT} s of a processor"
        return (
            UNREADABLE,
            f"the picture takes more than {limit} to be decoded and embedded; send a smaller one".encode(),
        )
    how = signal.Signals(-status).name if status < 0 else f"exit status {status}"
    if -status in _CRASHES:
        return UNREADABLE, f"the picture's decoder crashes ({how})".encode()
    return LOST, f"the process that embedded the picture was ended ({how}); try again".encode()
