"""Which vectors of a partition may be found: one bit each."""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from vector_index.neighbours import Neighbours

_BYTE = 8


class Visible:
    """The positions that may be found, over bytes that may be mapped. Immutable, and safe to share by threads."""

    def __init__(self, bits: NDArray[np.uint8], size: int, count: int) -> None:
        """Read over `bits`: uint8[ceil(size / 8)], position p is bit p % 8, from the lowest, of byte p // 8.

        count: of bits that are set; those past `size` aren't.
        """
        if bits.shape != (-(-size // _BYTE),) or not 0 <= count <= size:
            raise ValueError(f"{bits.shape} bytes can't hold {size} bits, of which {count} are set")
        self.bits, self.size, self.count = bits, size, count

    @classmethod
    def but_for(cls, hidden: NDArray[np.integer], size: int) -> Visible:
        """All of `size` positions but these, each of which may stand there several times."""
        flags = np.ones(size, bool)
        flags[hidden] = False
        return cls(np.packbits(flags, bitorder="little"), size, int(np.count_nonzero(flags)))

    def __contains__(self, position: int) -> bool:
        return bool(self.bits[position >> 3] >> (position & 7) & 1)

    @property
    def share(self) -> float:
        """Of all positions."""
        return self.count / self.size

    @cached_property
    def positions(self) -> NDArray[np.int64]:
        """int64[count], ascending; 8 bytes each, so ask where there are few."""
        return np.flatnonzero(np.unpackbits(self.bits, count=self.size, bitorder="little"))


def nearest_of(
    best: Neighbours, positions: NDArray[np.int64], distances: NDArray[np.float32], count: int
) -> Neighbours:
    """The `count` nearest of the best so far and of these, int64[N] and float32[N], nearest first."""
    together = np.concatenate([best.positions, positions])
    far = np.concatenate([best.distances, distances])
    first = np.argpartition(far, count - 1)[:count] if count < len(far) else np.arange(len(far))
    first = first[np.argsort(far[first], kind="stable")]
    return Neighbours(together[first].astype(int).tolist(), far[first].tolist())
