"""HNSW, a navigable graph of near neighbours, as faiss has it; the vectors in float32, float16 or eight bits.

See https://arxiv.org/abs/1603.09320 and https://github.com/facebookresearch/faiss/wiki. The vectors have length 1, so
the Euclidean distance that the graph is searched by is the angular one, sqrt(2 - 2 cos).
"""

from __future__ import annotations

import hashlib
import math
from functools import lru_cache
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from vector_index.interface import IndexFileUnsound, TakesLonger, Vector
from vector_index.neighbours import Neighbours
from vector_index.visible import Visible, nearest_of

_LINKS = 16
"""M, of each vector in the upper layers, twice as many in the lowest: 32 find no more, and take twice as long."""
_CONSTRUCTION_WIDTH = 100
_WIDEST = 65536
_PER_WIDTH = 16
"""Vectors that a search compares for one of its width, about."""
_WIDER = 16
"""Times as wide as before a search is at most, where it found none that may be found."""
_AT_ONCE = 4096
"""Vectors that are compared at once."""
_DIGEST_BYTES = 16
_NEXT_TWINS = 8
"""Of a ring of them, that one is linked to: by one alone, a search that half are hidden from finds too few others."""

QUANTIZERS = {"fp16": faiss.ScalarQuantizer.QT_fp16, "int8": faiss.ScalarQuantizer.QT_8bit}
"""By storage; float32 has none."""


class MappedHnsw:
    """See `interface.VectorIndex`. width: HNSW's ef."""

    def __init__(self, path: Path, dimensions: int, items: int, storage: str) -> None:
        """Map the file; raises `IndexFileUnsound`."""
        _one_thread()
        try:
            self._index: Any = faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC)
        except RuntimeError as error:  # faiss has no other
            reason = str(error).splitlines()[-1]
            raise IndexFileUnsound(f"{path.name}: faiss can't read it: {reason}") from None
        found = _storage_of(self._index)
        if found != storage:
            raise IndexFileUnsound(f"{path.name}: is {found or 'no HNSW'}, index.json says HNSW of {storage}")
        if (self._index.d, self._index.ntotal) != (dimensions, items):
            has = f"has {self._index.ntotal} vectors of {self._index.d}"
            raise IndexFileUnsound(f"{path.name}: {has}, index.json says {items} of {dimensions}")

    def __len__(self) -> int:
        """See `interface.VectorIndex`."""
        return int(self._index.ntotal)

    def nearest(
        self, vector: Vector, count: int, width: int, visible: Visible | None = None, patience: float = math.inf
    ) -> Neighbours:
        """See `interface.VectorIndex`."""
        query = np.asarray(vector, np.float32)
        return self._search(query / query.dot(query) ** 0.5, count, width, visible, patience)

    def nearest_to(
        self, position: int, count: int, width: int, visible: Visible | None = None, patience: float = math.inf
    ) -> Neighbours:
        """See `interface.VectorIndex`."""
        return self._search(self._index.reconstruct(position), count, width, visible, patience)

    def _search(
        self, query: NDArray[np.float32], count: int, width: int, visible: Visible | None, patience: float
    ) -> Neighbours:
        _one_thread()
        if visible is not None:
            return self._search_visible(query, count, width, visible, patience)
        count = min(count, len(self))
        while True:
            positions, distances = self._found(query, count, max(width, count))
            if positions[-1] >= 0:
                return Neighbours(positions.tolist(), np.sqrt(distances).tolist())
            if width >= min(_WIDEST, len(self)):  # the graph leads to no more
                if len(self) > patience:
                    raise TakesLonger
                return self._compared(query, count, Visible.but_for(np.empty(0, np.int64), len(self)))
            width *= 4

    def _search_visible(
        self, query: NDArray[np.float32], count: int, width: int, visible: Visible, patience: float
    ) -> Neighbours:
        """Of the nearest those that may be found, and of more where those are too few.

        faiss with a selector goes on no longer for those that it leaves out: among many that are hidden it gives up,
        and what it gives is whatever it came by.
        """
        count = min(count, visible.count)
        if count == 0:
            return Neighbours([], [])
        width = max(width, count)
        wide = int(width / visible.share)
        while visible.count > wide * _PER_WIDTH:
            positions, distances = self._found(query, wide, wide)
            shown = np.flatnonzero(visible.among(positions))
            if len(shown) >= count:
                shown = shown[:count]
                return Neighbours(positions[shown].tolist(), np.sqrt(distances[shown]).tolist())
            wide = min(_WIDER * wide, max(2 * wide, wide * width // max(1, len(shown))))
            if min(visible.count, wide * _PER_WIDTH) > patience:
                raise TakesLonger
        return self._compared(query, count, visible)

    def _found(
        self, query: NDArray[np.float32], count: int, width: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Positions, -1 where there are no more, and squared distances of the nearest."""
        distances, positions = self._index.search(query.reshape(1, -1), count, params=_parameters(width))
        return positions[0], distances[0]

    def _compared(self, query: NDArray[np.float32], count: int, visible: Visible) -> Neighbours:
        """Exactly, by comparing all that may be found."""
        best = Neighbours([], [])
        shown = visible.positions
        for start in range(0, visible.count, _AT_ONCE):
            positions = shown[start : start + _AT_ONCE]
            away = self._index.reconstruct_batch(positions) - query
            best = nearest_of(best, positions, np.sqrt(np.einsum("ij,ij->i", away, away)), count)
        return best

    def vector(self, position: int) -> list[float]:
        """See `interface.VectorIndex`."""
        vector: list[float] = self._index.reconstruct(position).tolist()
        return vector

    def close(self) -> None:
        """See `interface.VectorIndex`."""
        del self._index


def build_hnsw(path: Path, vectors: NDArray[np.float32], *, storage: str) -> None:
    """Write the index of float32[N,D], rows of length 1, to `path`; the same vectors give the same bytes.

    Uses one core, not the GIL: with more, the graph follows who came first. Raises OSError, as of a full disk.
    """
    _one_thread()
    dimensions = vectors.shape[1]
    if storage in QUANTIZERS:
        index = faiss.IndexHNSWSQ(dimensions, QUANTIZERS[storage], _LINKS, faiss.METRIC_L2)
    else:
        index = faiss.IndexHNSWFlat(dimensions, _LINKS, faiss.METRIC_L2)
    index.hnsw.efConstruction = _CONSTRUCTION_WIDTH
    index.train(vectors)
    firsts, others, twins = _twins(index.storage, vectors)
    if len(others) == 0:
        index.add(vectors)
    else:
        index.add(vectors[firsts])
        index.storage.add(vectors[others])
        index.ntotal = len(vectors)
        _link_twins(index.hnsw, twins)
        index.permute_entries(np.argsort(np.concatenate([firsts, others])))
    try:
        faiss.write_index(index, str(path))
    except RuntimeError as error:  # faiss has no other
        raise OSError(f"{path}: can't be written ({error})") from error


def _twins(
    storage: Any,  # noqa: ANN401 - faiss has no types
    vectors: NDArray[np.float32],
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Where a vector stands that no earlier one is kept as: int64[D]; where others do; and which of the D each is as.

    The last two are int64[N - D].
    """
    numbers: dict[bytes, int] = {}
    firsts, others, twins = list[int](), list[int](), list[int]()
    for start in range(0, len(vectors), _AT_ONCE):
        for position, code in enumerate(storage.sa_encode(vectors[start : start + _AT_ONCE]), start):
            digest, number = hashlib.blake2b(code, digest_size=_DIGEST_BYTES).digest(), len(firsts)
            if (twin := numbers.setdefault(digest, number)) == number:
                firsts.append(position)
            else:
                others.append(position)
                twins.append(twin)
    return np.array(firsts), np.array(others, np.int64), np.array(twins, np.int64)


def _link_twins(hnsw: Any, twins: NDArray[np.int64]) -> None:  # noqa: ANN401 - faiss has no types
    """Add to a graph of D different vectors others that are the same as some: D + i is the same as twins[i].

    Twins stand in a ring, each linked to those that follow, and with the links of the first: which of these make room
    differs. They are found in their order, in each build the same ones. Added as the others are, many would be linked
    to each other alone, and a search that came among them found no way out.
    """
    links, offsets, levels = (faiss.vector_to_array(of) for of in (hnsw.neighbors, hnsw.offsets, hnsw.levels))
    count, wide = len(levels), hnsw.nb_neighbors(0)
    added = np.full((len(twins), wide), -1, links.dtype)
    order = np.argsort(twins, kind="stable")
    for same in np.split(order, np.flatnonzero(np.diff(twins[order])) + 1):
        start = int(offsets[twins[same[0]]])
        its = links[start : start + wide]
        others, near = its[its >= 0], min(_NEXT_TWINS, len(same))
        ring = np.concatenate([twins[same[:1]], count + same])
        following = ring[(np.arange(len(ring))[:, np.newaxis] + np.arange(1, near + 1)) % len(ring)]
        first, last = others[: wide - near], others[near - wide :]
        its[:] = -1
        its[:near], its[near : near + len(first)] = following[0], first
        added[same, :near], added[same, near : near + len(last)] = following[1:], last
    ends = offsets[-1] + wide * np.arange(1, len(twins) + 1, dtype=offsets.dtype)
    faiss.copy_array_to_vector(np.concatenate([levels, np.ones(len(twins), levels.dtype)]), hnsw.levels)
    faiss.copy_array_to_vector(np.concatenate([offsets, ends]), hnsw.offsets)
    faiss.copy_array_to_vector(np.concatenate([links, added.ravel()]), hnsw.neighbors)


def _storage_of(index: Any) -> str | None:  # noqa: ANN401 - faiss has no types
    if isinstance(index, faiss.IndexHNSWFlat):
        return "float32"
    if not isinstance(index, faiss.IndexHNSWSQ):
        return None
    kind = faiss.downcast_index(index.storage).sq.qtype
    return next((storage for storage, quantizer in QUANTIZERS.items() if quantizer == kind), None)


@lru_cache(maxsize=1024)  # they are only read, and making them takes a twentieth of a search
def _parameters(width: int) -> Any:  # noqa: ANN401 - faiss has no types
    return faiss.SearchParametersHNSW(efSearch=width)


def _one_thread() -> None:
    """Let faiss use the calling thread alone: OpenMP keeps that setting for each thread."""
    faiss.omp_set_num_threads(1)
