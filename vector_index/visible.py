"""Which vectors of a partition may be found: one bit each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from vector_index.neighbours import Neighbours

_BYTE = 8
_AT_ONCE = 65_536
"""Positions that are looked at together: 20 microseconds."""


class Visible:
    """The positions that may be found, over bytes that may be mapped. Immutable, and safe to share by threads."""

    def __init__(self, bits: NDArray[np.uint8], size: int, count: int) -> None:
        """Read over `bits`: uint8[ceil(size / 8)], position p is bit p % 8, from the lowest, of byte p // 8.

        count: of bits that are set; those past `size` aren't.
        """
        if bits.shape != (-(-size // _BYTE),) or not 0 <= count <= size:
            raise ValueError(f"{bits.shape} bytes can't hold {size} bits, of which {count} are set")
        self.bits, self.size, self.count = bits, size, count
        self._positions: NDArray[np.int64] | None = None

    @classmethod
    def but_for(cls, hidden: NDArray[np.integer], size: int) -> Visible:
        """All of `size` positions but these, each of which may stand there several times."""
        flags = np.ones(size, bool)
        flags[hidden] = False
        return cls(np.packbits(flags, bitorder="little"), size, int(np.count_nonzero(flags)))

    @classmethod
    def joined(cls, parts: Sequence[tuple[Visible | None, int]]) -> Visible | None:
        """What may be found of several, with their sizes, one after another. None, of each or of all: everything."""
        if all(visible is None for visible, _ in parts):
            return None
        flags, end = np.ones(sum(size for _, size in parts), np.uint8), 0
        for visible, size in parts:
            if visible is not None:
                flags[end : end + size] = visible.flags()
            end += size
        return cls(np.packbits(flags, bitorder="little"), end, int(np.count_nonzero(flags)))

    def part(self, first: int, size: int) -> Visible | None:
        """What may be found of the `size` positions from `first` on; None: everything."""
        if (first, size) == (0, self.size):
            return self
        flags = self.flags(first, first + size)
        count = int(np.count_nonzero(flags))
        return None if count == size else Visible(np.packbits(flags, bitorder="little"), size, count)

    def flags(self, start: int = 0, end: int | None = None) -> NDArray[np.uint8]:
        """1 or 0, uint8[end - start], for each position from `start` to before `end`, or to the last."""
        end = self.size if end is None else end
        byte = start // _BYTE
        bits = self.bits[byte : -(-end // _BYTE)]
        return np.unpackbits(bits, count=end - byte * _BYTE, bitorder="little")[start - byte * _BYTE :]

    def after(self, start: int) -> Iterator[int]:
        """Those that may be found, ascending, from position `start` on."""
        for begin in range(start, self.size, _AT_ONCE):
            flags = self.flags(begin, min(begin + _AT_ONCE, self.size))
            yield from (np.flatnonzero(flags) + begin).tolist()

    def __contains__(self, position: int) -> bool:
        return bool(self.bits[position >> 3] >> (position & 7) & 1)

    def among(self, positions: NDArray[np.int64]) -> NDArray[np.bool_]:
        """bool[N]: which of these, int64[N], may be found; one below 0 is none."""
        shown: NDArray[np.bool_] = (self.bits[positions >> 3] >> (positions & 7) & 1).astype(bool) & (positions >= 0)
        return shown

    @property
    def share(self) -> float:
        """Of all positions."""
        return self.count / self.size

    @property
    def positions(self) -> NDArray[np.int64]:
        """int64[count], ascending. Kept where they take no more bytes than the bits do: masks may be many."""
        if self._positions is not None:
            return self._positions
        positions = np.flatnonzero(self.flags())
        if positions.nbytes <= self.bits.nbytes:
            self._positions = positions
        return positions


def nearest_of(
    best: Neighbours, positions: NDArray[np.int64], distances: NDArray[np.float32], count: int
) -> Neighbours:
    """The `count` nearest of the best so far and of these, int64[N] and float32[N], nearest first."""
    together = np.concatenate([best.positions, positions])
    far = np.concatenate([best.distances, distances])
    first = np.argpartition(far, count - 1)[:count] if count < len(far) else np.arange(len(far))
    first = first[np.argsort(far[first], kind="stable")]
    return Neighbours(together[first].astype(int).tolist(), far[first].tolist())
