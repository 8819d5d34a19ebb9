"""Work in processes of which each may die.

Each process has a socket of its own and shares no queue and no lock with the others, so whichever is killed, at
whatever point, it is known what it had, and nobody waits for it. (`ProcessPoolExecutor` fails every task of every
process then, a `multiprocessing.Pool` waits for ever, and pebble's workers share two locks that a killed one may hold.)
They are programs of their own, not forks or `multiprocessing`'s: those would import the caller's main module again.
"""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from pathlib import Path
from types import TracebackType
from typing import Generic, Protocol, Self, TypeVar

from embedding_batch.errors import WorkersDied

CHUNK = 8
"""Tasks that are handed over at once."""

CHUNK_BYTES = 2**20
"""A chunk ends with the task that passes this."""

IN_HAND = 2
"""Chunks that a worker has at most: one that it is at, and one that waits in it."""

TASKS_A_WORKER = 64
"""So many tasks are handed out before another worker is started: fewer are done sooner than a process has begun."""

DEATHS_IN_A_ROW = 10
"""Workers that may die with no result from any in between, and once as many as there are: all are killed at once, or
each picture of a chunk kills one."""

DEATHS = 100
"""Workers that may die altogether."""

_PROGRAM = Path(__file__).with_name("worker.py")

_ENVIRONMENT = {
    "OPENBLAS_NUM_THREADS": "1",
    # glibc would give the memory of each picture back to the kernel and ask for it anew: 650 page faults a photo, which
    # cost half as much as decoding it.
    "MALLOC_MMAP_THRESHOLD_": str(8 * 2**20),
    "MALLOC_TRIM_THRESHOLD_": str(16 * 2**20),
}

K = TypeVar("K")
P = TypeVar("P")
R = TypeVar("R")
P_contra = TypeVar("P_contra", contravariant=True)
R_co = TypeVar("R_co", covariant=True)


class Work(Protocol[P_contra, R_co]):
    """A value that travels to each worker, and becomes a function there."""

    def open(self) -> Callable[[P_contra], R_co]:
        """Make the function, in the worker."""


class _Worker(Generic[K, P]):
    """A process.

    in_hand: what it has not answered yet, oldest first. opened: whether it has got as far as that. gone: it takes no
    more; what it has answered may still be read.
    """

    def __init__(self, opening: bytes, descriptors: Sequence[int]) -> None:
        self.in_hand: deque[list[tuple[K, P]]] = deque()
        self.opened = self.gone = False
        self.connection, theirs = Pipe()
        paths = os.pathsep.join(os.path.abspath(path) for path in sys.path)  # noqa: PTH100 - "" is the current folder
        self.process = subprocess.Popen(
            [sys.executable, "-P", str(_PROGRAM), str(theirs.fileno())],
            pass_fds=(theirs.fileno(), *descriptors),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,  # ours is the command's answer
            start_new_session=True,  # Ctrl-C is for us
            env={**os.environ, "PYTHONPATH": paths, **_ENVIRONMENT},
        )
        theirs.close()
        self._send(opening)

    def give(self, chunk: list[tuple[K, P]]) -> None:
        self._send(pickle.dumps([task for _, task in chunk], pickle.HIGHEST_PROTOCOL))
        if not self.gone:
            self.in_hand.append(chunk)

    def _send(self, message: bytes) -> None:
        try:
            self.connection.send_bytes(message)
        except OSError:
            self.gone = True

    def end(self) -> int:
        """Kill it, if it lives; it holds nothing that could be lost. Return how it ended."""
        self.connection.close()
        self.process.kill()
        return self.process.wait()


class Processes(Generic[K, P, R]):
    """Processes that do the same work on many tasks. Leaving the `with` block ends them all at once.

    workers: most processes. descriptors: files that they inherit.
    """

    def __init__(self, work: Work[P, R], workers: int, descriptors: Sequence[int] = ()) -> None:
        self._opening = pickle.dumps(work)
        self._limit = workers
        self._descriptors = descriptors
        self._workers: dict[Connection, _Worker[K, P]] = {}
        self._again: deque[list[tuple[K, P]]] = deque()
        self._given = 0
        self._deaths = self._deaths_in_a_row = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for worker in self._workers.values():
            worker.process.kill()  # all, before the first is waited for
        for worker in self._workers.values():
            worker.end()
        self._workers.clear()

    @property
    def idle(self) -> bool:
        """Whether there is nothing to wait for."""
        return not self._again and not any(worker.in_hand for worker in self._workers.values())

    @property
    def room(self) -> bool:
        """Whether another chunk may be given."""
        return not self._again and self._room

    def give(self, chunk: list[tuple[K, P]]) -> None:
        """Hand a chunk of keyed tasks out; there must be room."""
        self._given += len(chunk)
        self._hand_out(chunk)

    def take(self) -> list[tuple[K, R | Died]]:
        """Wait for results; raises WorkersDied, and RuntimeError for an error that the work raised."""
        results: list[tuple[K, R | Died]] = []
        while not results:
            for connection in wait(list(self._workers)):
                worker = self._workers[connection]  # type: ignore[index]
                try:
                    answer = worker.connection.recv()
                except (EOFError, OSError):
                    results += self._bury(worker)
                    continue
                if answer is None:
                    worker.opened = True
                    continue
                if isinstance(answer, str):
                    raise RuntimeError(f"a worker failed:\n{answer}")  # noqa: TRY004 - it failed, no type did
                self._deaths_in_a_row = 0
                chunk = worker.in_hand.popleft()
                results += [(key, result) for (key, _), result in zip(chunk, answer, strict=True)]
            while self._again and self._room:
                self._hand_out(self._again.popleft())
        return results

    @property
    def _room(self) -> bool:
        least = self._least()
        return least is None or len(least.in_hand) < IN_HAND or self._more()

    def _least(self) -> _Worker[K, P] | None:
        there = (worker for worker in self._workers.values() if not worker.gone)
        return min(there, key=lambda worker: len(worker.in_hand), default=None)

    def _more(self) -> bool:
        return len(self._workers) < min(self._limit, 1 + self._given // TASKS_A_WORKER)

    def _hand_out(self, chunk: list[tuple[K, P]]) -> None:
        worker = self._least()
        if worker is None or (worker.in_hand and self._more()):
            worker = _Worker(self._opening, self._descriptors)
            self._workers[worker.connection] = worker
        worker.give(chunk)
        if worker.gone:
            self._again.append(chunk)

    def _bury(self, worker: _Worker[K, P]) -> list[tuple[K, R | Died]]:
        """Have the chunk that a dead worker was at tried task by task; a task by itself is what it died of."""
        del self._workers[worker.connection]
        died = Died(worker.end())
        if not died.out_of_time:  # which is the task's fault, and never the machine's
            self._deaths += 1
            self._deaths_in_a_row += 1
        if self._deaths > DEATHS or self._deaths_in_a_row > DEATHS_IN_A_ROW + self._limit:
            raise WorkersDied(
                f"{self._deaths} worker processes died, the last {died}; give this machine or container more memory, "
                "or fewer --workers"
            )
        if not worker.opened or not worker.in_hand:
            self._again.extend(worker.in_hand)
            return []
        at, *waiting = worker.in_hand
        if len(at) == 1:
            self._again.extend(waiting)
            return [(at[0][0], died)]
        self._again.extend([task] for task in at)
        self._again.extend(waiting)
        return []


class Died:
    """A task's result where the worker dies of it; as text, how."""

    def __init__(self, status: int) -> None:
        self._status = status

    @property
    def out_of_time(self) -> bool:
        """Whether it had the most time of a processor that it was given for one task."""
        return self._status == -signal.SIGXCPU

    def __str__(self) -> str:
        if self._status >= 0:
            return f"with exit status {self._status}"
        return f"by signal {-self._status} ({signal.strsignal(-self._status)})"


def next_chunk(pictures: Iterator[tuple[K, bytes]], most: int = CHUNK) -> list[tuple[K, bytes]]:
    """Take a chunk of pictures; empty at the end."""
    chunk: list[tuple[K, bytes]] = []
    total = 0
    for key, data in islice(pictures, most):
        chunk.append((key, data))
        total += len(data)
        if total >= CHUNK_BYTES:
            break
    return chunk
