"""What the processes of a pull share besides the folder: what is given out, what it is pinned to, what was done."""

from __future__ import annotations

import fcntl
import mmap
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from init_container.progress import Counts

_WORD = 8
_ROW = len(Counts.__slots__)


class Ledger:
    """What must be known to whoever asks for bytes, in memory that forked processes see, and what each of them did.

    Only one process changes it at a time: it holds a record lock meanwhile, which the kernel takes from it if it dies.

    workers: how many processes there may be besides the first.
    """

    def __init__(self, workers: int, files: int) -> None:
        """files: of the plan. Raises OSError."""
        self.workers = workers
        self._pins_at = 1 + workers * _ROW
        self._memory = mmap.mmap(-1, _WORD * (self._pins_at + files))
        # signed: a worker that finds inherited bytes wrong has fewer than none
        self._words = memoryview(self._memory).cast("q")
        self._lock = os.memfd_create("indexpush-pull") if workers else -1

    def close(self) -> None:
        """Let go of the memory."""
        self._words.release()
        self._memory.close()
        if self._lock >= 0:
            os.close(self._lock)

    @property
    def position(self) -> int:
        """How far the missing bytes, laid end to end, are given out."""
        return self._words[0]

    def advance(self, step: Callable[[int], int]) -> int:
        """Give out ``step(position)`` bytes more, while nobody else does; returns the position before."""
        with self._locked():
            position = self._words[0]
            self._words[0] = position + step(position)
        return position

    def rewind(self) -> None:
        """Give out from the beginning again; pins stay."""
        self._words[0] = 0

    def pinned(self, file: int) -> int | None:
        """The generation to ask for, or None if nobody knows it yet. file: its number in the plan."""
        return self._words[self._pins_at + file] or None

    def pin(self, file: int, generation: int) -> int:
        """Say which generation an answer brought; returns the one that was the first to be said."""
        with self._locked():
            first = self._words[self._pins_at + file] = self._words[self._pins_at + file] or generation
        return first

    @contextmanager
    def _locked(self) -> Iterator[None]:
        if self._lock < 0:  # nobody else is there
            yield
            return
        fcntl.lockf(self._lock, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.lockf(self._lock, fcntl.LOCK_UN)

    def count(self, worker: int, counts: Counts) -> None:
        """Say what a worker has done so far."""
        for offset, name in enumerate(Counts.__slots__):
            self._words[1 + worker * _ROW + offset] = getattr(counts, name)

    def counted(self, worker: int) -> Counts:
        """What it said."""
        at = 1 + worker * _ROW
        return Counts(*self._words[at : at + _ROW])
