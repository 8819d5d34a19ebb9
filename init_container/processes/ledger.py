"""What the processes of a pull share besides the folder: what is given out, what it is pinned to, what was done."""

from __future__ import annotations

import fcntl
import mmap
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

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


class Ledger(Protocol):
    """What must be known to whoever asks for bytes.

    position: how far the missing bytes, laid end to end, are given out.
    """

    @property
    def position(self) -> int: ...  # noqa: D102 - see above

    def advance(self, step: Callable[[int], int]) -> int:
        """Give out ``step(position)`` bytes more, while nobody else does; returns the position before."""
        ...

    def rewind(self) -> None:
        """Give out from the beginning again; pins stay."""
        ...

    def pinned(self, file: int) -> int | None:
        """The generation to ask for, or None if nobody knows it yet. file: its number in the plan."""
        ...

    def pin(self, file: int, generation: int) -> int:
        """Say which generation an answer brought; returns the one that was the first to be said."""
        ...


class OwnLedger:
    """The ledger of a process that shares with nobody."""

    def __init__(self) -> None:
        """Nothing is given out, and nothing pinned."""
        self.position = 0
        self._pins: dict[int, int] = {}

    def close(self) -> None:
        """Nothing to let go of."""

    def advance(self, step: Callable[[int], int]) -> int:
        """See `Ledger`."""
        position = self.position
        self.position += step(position)
        return position

    def rewind(self) -> None:
        """See `Ledger`."""
        self.position = 0

    def pinned(self, file: int) -> int | None:
        """See `Ledger`."""
        return self._pins.get(file)

    def pin(self, file: int, generation: int) -> int:
        """See `Ledger`."""
        return self._pins.setdefault(file, generation)


class SharedLedger:
    """A `Ledger` in memory that forked processes see, and a row of counts for each of them.

    Only one process changes the ledger at a time: it holds a record lock meanwhile, which the kernel takes from it if
    it dies.
    """

    def __init__(self, rows: int, files: int) -> None:
        """rows: for how many processes to count. files: of the plan. Raises OSError."""
        self._pins_at = 1 + rows * _ROW
        size = _WORD * (self._pins_at + files)
        self._file = os.memfd_create("indexpush-pull")
        try:
            os.ftruncate(self._file, size)
            self._memory = mmap.mmap(self._file, size)
        except OSError:
            os.close(self._file)
            raise
        # signed: a worker that finds inherited bytes wrong has fewer than none
        self._words = memoryview(self._memory).cast("q")

    def close(self) -> None:
        """Let go of the memory."""
        self._words.release()
        self._memory.close()
        os.close(self._file)

    @property
    def position(self) -> int:
        """See `Ledger`."""
        return self._words[0]

    def advance(self, step: Callable[[int], int]) -> int:
        """See `Ledger`."""
        with self._locked():
            position = self._words[0]
            self._words[0] = position + step(position)
        return position

    def rewind(self) -> None:
        """See `Ledger`."""
        self._words[0] = 0

    def pinned(self, file: int) -> int | None:
        """See `Ledger`."""
        return self._words[self._pins_at + file] or None

    def pin(self, file: int, generation: int) -> int:
        """See `Ledger`."""
        with self._locked():
            first = self._words[self._pins_at + file] = self._words[self._pins_at + file] or generation
        return first

    @contextmanager
    def _locked(self) -> Iterator[None]:
        fcntl.lockf(self._file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.lockf(self._file, fcntl.LOCK_UN)

    def count(self, row: int, counts: Counts) -> None:
        """Say what the process of a row has done so far."""
        for offset, name in enumerate(Counts.__slots__):
            self._words[1 + row * _ROW + offset] = getattr(counts, name)

    def counted(self, row: int) -> Counts:
        """What it said."""
        at = 1 + row * _ROW
        return Counts(*self._words[at : at + _ROW])
