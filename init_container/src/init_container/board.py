"""What the processes of one pull share besides the folder: how much is given out, and what each has done so far."""

from __future__ import annotations

import fcntl
import mmap
import os
from collections.abc import Callable
from dataclasses import dataclass

_WORD = 8


@dataclass(frozen=True, slots=True)
class Counts:
    """What was done so far.

    have: bytes of the build on the disk and verified. received: bytes that came over the network. retries: requests
    made again. opened: connections so far. connections: open now.
    """

    have: int = 0
    received: int = 0
    retries: int = 0
    opened: int = 0
    connections: int = 0

    def __add__(self, other: Counts) -> Counts:
        """Both together."""
        return Counts(
            self.have + other.have,
            self.received + other.received,
            self.retries + other.retries,
            self.opened + other.opened,
            self.connections + other.connections,
        )


_ROW = len(Counts.__slots__)


class Board:
    """Memory that forked processes see: a `Cursor`, and a row of counts for each.

    Only one process advances the cursor at a time: it holds a record lock meanwhile, which the kernel takes from it if
    it dies.
    """

    def __init__(self, rows: int) -> None:
        """rows: for how many processes to count."""
        self._file = os.memfd_create("indexpush-pull")
        size = _WORD * (1 + rows * _ROW)
        os.ftruncate(self._file, size)
        self._memory = mmap.mmap(self._file, size)
        self._words = memoryview(self._memory).cast("Q")

    def close(self) -> None:
        """Let go of the memory."""
        self._words.release()
        self._memory.close()
        os.close(self._file)

    @property
    def position(self) -> int:
        """See `Cursor`."""
        return self._words[0]

    def advance(self, step: Callable[[int], int]) -> int:
        """See `Cursor`."""
        fcntl.lockf(self._file, fcntl.LOCK_EX)
        try:
            position = self._words[0]
            self._words[0] = position + step(position)
        finally:
            fcntl.lockf(self._file, fcntl.LOCK_UN)
        return position

    def count(self, row: int, counts: Counts) -> None:
        """Say what the process of a row has done so far."""
        at = 1 + row * _ROW
        for offset, name in enumerate(Counts.__slots__):
            self._words[at + offset] = getattr(counts, name)

    def counted(self, row: int) -> Counts:
        """What it said."""
        at = 1 + row * _ROW
        return Counts(*self._words[at : at + _ROW])
