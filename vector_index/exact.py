r"""Exact search: the vectors one after another, and all of them compared.

The file, all numbers little-endian:

    8 bytes   magic "IDXVEC1\n"
    8 bytes   count, uint64
    8 bytes   dimensions, uint64
    40 bytes  zero, so that the rows are aligned
    ...       the vectors, float32, count x dimensions

Several partitions may be stretches of rows of one file: an index of thousands of small categories is a few files.
"""

from __future__ import annotations

import math
import struct
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from vector_index.interface import IndexFileUnsound, Vector
from vector_index.neighbours import Neighbours
from vector_index.visible import Visible

_MAGIC: Final = b"IDXVEC1\n"
_HEAD: Final = struct.Struct("<8sQQ40x")


class ExactIndex:
    """See `interface.VectorIndex`. width: is of no account, all are compared."""

    def __init__(self, vectors: NDArray[np.float32]) -> None:
        """Search in float32[N,D], rows of length 1; use `map_exact`."""
        self._vectors = vectors

    def part(self, first: int, items: int) -> ExactIndex:
        """So many of these vectors, from position `first` on, as an index of their own over the same mapping."""
        if not 0 <= first < first + items <= len(self):
            raise IndexError(first + items)
        return ExactIndex(self._vectors[first : first + items])

    def __len__(self) -> int:
        """See `interface.VectorIndex`."""
        return len(self._vectors)

    def nearest(
        self, vector: Vector, count: int, width: int, visible: Visible | None = None, patience: float = math.inf
    ) -> Neighbours:
        """See `interface.VectorIndex`."""
        del width, patience
        query = np.asarray(vector, np.float32)
        return self._search(query / np.linalg.norm(query), count, visible)

    def nearest_to(
        self, position: int, count: int, width: int, visible: Visible | None = None, patience: float = math.inf
    ) -> Neighbours:
        """See `interface.VectorIndex`."""
        del width, patience
        return self._search(self._vectors[position], count, visible)

    def _search(self, query: NDArray[np.float32], count: int, visible: Visible | None) -> Neighbours:
        # not as a product of matrices: for that BLAS would start threads, beside the other workers' queries
        cosines = np.vecdot(self._vectors, query)
        shown = None if visible is None else visible.positions
        if shown is not None:
            cosines = cosines[shown]
        if count < len(cosines):
            least = np.partition(cosines, len(cosines) - count)[len(cosines) - count]
            near = np.flatnonzero(cosines > least)
            # of those at the same distance the first ones, in each build the same
            near = np.sort(np.concatenate([near, np.flatnonzero(cosines == least)[: count - len(near)]]))
        else:
            near = np.arange(len(cosines))
        if shown is not None:
            near = shown[near]
        away = self._vectors[near] - query  # of what is very near, a cosine has lost all digits
        distances = np.sqrt(np.vecdot(away, away))
        order = distances.argsort(kind="stable")
        return Neighbours(near[order].tolist(), distances[order].tolist())

    def vector(self, position: int) -> list[float]:
        """See `interface.VectorIndex`."""
        vector: list[float] = self._vectors[position].tolist()
        return vector

    def close(self) -> None:
        """See `interface.VectorIndex`; the mapping goes with the last part of it."""
        del self._vectors


def map_exact(path: Path, dimensions: int, items: int) -> ExactIndex:
    """Map the file; raises `IndexFileUnsound` unless it has so many vectors, and nothing else."""
    with path.open("rb") as file:
        head = file.read(_HEAD.size)
    if len(head) < _HEAD.size or not head.startswith(_MAGIC):
        raise IndexFileUnsound(f"{path.name}: isn't a file of vectors")
    _, count, wide = _HEAD.unpack(head)
    if (count, wide) != (items, dimensions):
        raise IndexFileUnsound(f"{path.name}: has {count} vectors of {wide}, index.json says {items} of {dimensions}")
    if (size := path.stat().st_size) != _HEAD.size + 4 * count * wide:
        raise IndexFileUnsound(f"{path.name}: {size} bytes aren't {count} vectors of {wide}")
    return ExactIndex(np.memmap(path, "<f4", "r", _HEAD.size, (count, wide)).view(np.ndarray))


def build_exact(path: Path, vectors: NDArray[np.float32]) -> None:
    """Write float32[N,D], rows of length 1, to `path`. Raises OSError, as of a full disk."""
    with path.open("wb") as file:
        file.write(_HEAD.pack(_MAGIC, *vectors.shape))
        file.write(np.ascontiguousarray(vectors, "<f4").data)
