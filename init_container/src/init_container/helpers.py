"""The processors besides the first: forked processes that fetch from the same plan, over connections of their own.

One process decrypts, sums and writes 6 to 9 Gbit/s; a node has more. What the processes share is a cursor, the folder
and its journal. A helper's error is the pull's. One that dies without a word costs time and nothing else: what it
didn't note is missing, and the first process fetches it.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import NoReturn, Self

from init_container.board import Board, Counts
from model_repository.errors import DeliveryError

_MOST = 4
"""Processes that fit into 48 MiB together."""
_BYTES_EACH = 64 * 1024 * 1024
_FILES_EACH = 500
"""What is worth a process: a fork and its connections cost as long as some MiB."""
_TICK_MS = 50
_ERROR_LIMIT = 64 * 1024
_STOPS = (signal.SIGTERM, signal.SIGINT)


def processors(limit: Path = Path("/sys/fs/cgroup/cpu.max")) -> int:
    """Processors that this process may use: those of its affinity, as far as its cgroup's limit goes.

    limit: the cgroup's file, version 2: microseconds of processor time and of the period in which they may be used.
    """
    available = len(os.sched_getaffinity(0))
    try:
        quota, period = limit.read_text().split()
        return max(1, min(available, int(quota) // int(period)))
    except (OSError, ValueError):  # no such file, or no limit: "max"
        return available


def processes_for(size: int, files: int, available: int) -> int:
    """How many processes are worth their while for so many bytes and files, on so many processors."""
    return max(1, min(available, _MOST, max(size // _BYTES_EACH, files // _FILES_EACH)))


Tell = Callable[[Counts], None]
"""Tells the first process how far a helper is."""


class Helpers:
    """Forked processes, each doing the same work; none is left when this is left."""

    def __init__(self, board: Board, count: int, work: Callable[[Tell], None]) -> None:
        """Nothing is forked yet. work: what each of `count` processes does; ``os._exit`` ends it after that."""
        self._board = board
        self._count = count
        self._work = work
        self._processes: dict[int, int] = {}
        self._poll = select.poll()

    def __enter__(self) -> Self:
        """Fork as many as the system lets us: a pull can do without."""
        with suppress(OSError):
            for row in range(self._count):
                self._fork(row)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End those that are still at work: what they noted is kept."""
        for pipe, process in self._processes.items():
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)
            os.close(pipe)
        self._processes.clear()

    @property
    def counts(self) -> Counts:
        """What all of them have done so far."""
        return sum((self._board.counted(row) for row in range(self._count)), Counts())

    def check(self, patience: int = 0) -> None:
        """Raise the error of one that met one. patience: milliseconds to wait for an end, of whatever kind."""
        for pipe, _ in self._poll.poll(patience):
            said = os.read(pipe, _ERROR_LIMIT)
            self._poll.unregister(pipe)
            os.close(pipe)
            os.waitpid(self._processes.pop(pipe), 0)
            if said:
                import pickle  # noqa: PLC0415 - only if there is something to say

                kind, arguments = pickle.loads(said)  # noqa: S301 - our own child wrote it
                raise kind.__new__(kind, *arguments)

    def wait(self, tick: Callable[[], None], deadline: float) -> None:
        """Return when all have ended, or at the deadline; raises as `check`. tick: called some times a second."""
        while self._processes and time.monotonic() < deadline:
            self.check(_TICK_MS)
            tick()

    def _fork(self, row: int) -> None:
        ours, its = os.pipe()
        parent = os.getpid()
        # A signal that came between the fork and the next line would unwind the parent's stack in the child.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _STOPS)
        try:
            process = os.fork()
            if not process:
                for number in _STOPS:
                    signal.signal(number, signal.SIG_DFL)
                signal.pthread_sigmask(signal.SIG_SETMASK, before)
                self._help(row, its, parent)
            self._processes[ours] = process
            self._poll.register(ours, select.POLLIN)
        except OSError:
            os.close(ours)
            raise
        finally:
            os.close(its)
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def _help(self, row: int, pipe: int, parent: int) -> NoReturn:
        def tell(counts: Counts) -> None:
            if os.getppid() != parent:
                os._exit(os.EX_TEMPFAIL)  # nobody is left who would publish
            self._board.count(row, counts)

        status = os.EX_SOFTWARE
        try:
            self._work(tell)
            status = os.EX_OK
        except DeliveryError as error:
            import pickle  # noqa: PLC0415

            os.write(pipe, pickle.dumps((type(error), error.args)))
        except BaseException:  # noqa: BLE001 - a defect: said, and got over by the first process
            sys.excepthook(*sys.exc_info())
        finally:
            sys.stderr.flush()
            os._exit(status)
