"""The processors besides the first: forked processes that fetch from the same plan, over connections of their own.

One process decrypts, sums and writes 5 to 10 Gbit/s; a node has more. What the processes share is a ledger (`ledger`),
the folder and its journal. A worker's error is the pull's. One that dies without a word costs time and nothing else:
what it didn't note is missing, and the first process fetches it.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import NoReturn, Self

from init_container.processes.ledger import Ledger
from init_container.progress import Counts
from model_repository.errors import DeliveryError

_MOST = 4
"""Processes that fit into 48 MiB together."""
_BYTES_EACH = 64 * 1024 * 1024
_FILES_EACH = 500
"""What is worth a process: a fork and its connections cost as long as some MiB."""
_TICK_MS = 50
_ERROR_LIMIT = 64 * 1024
_STOPS = (signal.SIGTERM, signal.SIGINT)
_PR_SET_PDEATHSIG = 1
"""See prctl(2)."""


def processes_for(size: int, files: int, available: int) -> int:
    """How many processes are worth their while for so many bytes and files, on so many processors."""
    return max(1, min(available, _MOST, max(size // _BYTES_EACH, files // _FILES_EACH)))


Tell = Callable[[Counts], None]
"""Tells the first process how far a worker is."""


class Workers:
    """Forked processes that do the same work each; when this is left, none of them is."""

    def __init__(self, ledger: Ledger, work: Callable[[Tell], None]) -> None:
        """Nothing is forked yet. work: what each process does; it ends after that."""
        self._ledger = ledger
        self._work = work
        self._rows = 0
        self._processes: dict[int, int] = {}
        self._poll = select.poll()

    def __enter__(self) -> Self:
        """Fork nothing yet: what is forked from here on is ended by `__exit__`."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End those that are still at work: what they noted is kept."""
        with _signals_held():
            for process in self._processes.values():
                with suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
            for pipe in list(self._processes):
                self._reap(pipe)

    def start(self, count: int) -> None:
        """Fork so many, or as many as the system lets us: a pull can do without."""
        with suppress(OSError):
            for row in range(count):
                with _signals_held():
                    self._fork(row)

    @property
    def counts(self) -> Counts:
        """What all of them have done so far."""
        return sum((self._ledger.counted(row) for row in range(self._rows)), Counts())

    def check(self, patience: int = 0) -> None:
        """Raise the error of one that met one. patience: milliseconds to wait for an end, of whatever kind."""
        for pipe, _ in self._poll.poll(patience):
            said = os.read(pipe, _ERROR_LIMIT)
            with _signals_held():
                self._reap(pipe)
            if said:
                import pickle  # noqa: PLC0415 - only if there is something to say

                kind, arguments = pickle.loads(said)  # noqa: S301 - our own child wrote it
                raise kind.__new__(kind, *arguments)

    def wait(self, tick: Callable[[], None], deadline: float) -> None:
        """Return when all have ended, or at the deadline; raises as `check`. tick: called some times a second."""
        while self._processes and time.monotonic() < deadline:
            self.check(_TICK_MS)
            tick()

    def _reap(self, pipe: int) -> None:
        process = self._processes.pop(pipe)
        self._poll.unregister(pipe)
        os.close(pipe)
        with suppress(ChildProcessError):  # whoever started us ignores the ends of children
            os.waitpid(process, 0)

    def _fork(self, row: int) -> None:
        ours, its = os.pipe()
        parent = os.getpid()
        try:
            process = os.fork()
        except OSError:
            os.close(ours)
            os.close(its)
            raise
        if not process:
            try:
                self._be(row, its, parent)
            finally:
                os._exit(os.EX_SOFTWARE)  # whatever happens, it doesn't go on as the parent
        self._processes[ours] = process
        self._poll.register(ours, select.POLLIN)
        self._rows = row + 1
        os.close(its)

    def _be(self, row: int, pipe: int, parent: int) -> NoReturn:
        _end_with(parent)
        for number in _STOPS:
            signal.signal(number, signal.SIG_DFL)
        try:
            self._work(lambda counts: self._ledger.count(row, counts))
        except DeliveryError as error:
            import pickle  # noqa: PLC0415

            os.write(pipe, pickle.dumps((type(error), error.args)))
        except BaseException:  # noqa: BLE001 - a defect: said, and got over by the first process
            sys.excepthook(*sys.exc_info())
            sys.stderr.flush()
        os._exit(os.EX_OK)


@contextmanager
def _signals_held() -> Iterator[None]:
    """Within this `Stopped` isn't raised: in a child it would unwind the parent's stack, in the parent lose a child.

    By handlers, not by a mask: a mask is one thread's, and what is sent to a process may reach another of its threads,
    whereupon Python calls the handler in this one all the same.
    """
    came: list[int] = []
    before = {number: signal.signal(number, lambda number, _: came.append(number)) for number in _STOPS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if came:
            signal.raise_signal(came[0])


def _end_with(parent: int) -> None:
    """Let the kernel end this process when its parent ends: nobody would be left who publishes."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it has ended already
        os._exit(os.EX_TEMPFAIL)
