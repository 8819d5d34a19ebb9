"""Annoy: random projection trees, all vectors in float32.

See https://github.com/spotify/annoy. It loads a file that was cut without a word, with fewer vectors or none, or
crashes the process on it; so sizes are looked at before it is asked to, and the count after that.
"""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Final

import numpy as np
from annoy import AnnoyIndex
from numpy.typing import NDArray

from vector_index.interface import EngineUnfit, IndexFileUnsound, TakesLonger, Vector
from vector_index.neighbours import Neighbours
from vector_index.visible import Visible, nearest_of

_METRIC: Final = "angular"
_PROBES = 6
"""Vectors, one along each axis, that Annoy must find before it is trusted with more."""
_SPARE = 8
"""Neighbours that are asked for beyond what is likely to do."""
_AT_ONCE = 4096
"""Vectors that are compared at once."""
_CHUNK = 1024 * 1024
_LEAF_SPARE = 2
"""A leaf names as many vectors as its node has room for numbers: its two children, and a vector's."""

_Search = Callable[..., tuple[list[int], list[float]]]


def _node(dimensions: int) -> np.dtype[np.void]:
    """A node of the angular metric: the first of them, in a file as in memory, are the items, in their order.

    square: of the vector's length; where an inner node has its first child.
    """
    return np.dtype([("items", "<i4"), ("square", "<f4"), ("child", "<i4"), ("vector", "<f4", (dimensions,))])


@cache
def check_annoy() -> None:
    """See whether the Annoy that is installed finds anything; raises `EngineUnfit`.

    It is compiled where it is installed, and clang's -ffast-math, a flag of Annoy's own, makes one that doesn't.
    """
    index = AnnoyIndex(_PROBES, _METRIC)
    for position in range(_PROBES):
        index.add_item(position, [float(place == position) for place in range(_PROBES)])
    index.build(2, n_jobs=1)
    for position in range(_PROBES):
        found, distances = index.get_nns_by_item(position, _PROBES, include_distances=True)
        right = [0.0, *[2**0.5] * (_PROBES - 1)]
        if found[:1] != [position] or not np.allclose(sorted(distances), right, atol=1e-3):
            raise EngineUnfit(
                "annoy: as it was compiled here it finds nothing, or what is wrong; install it again without "
                "-ffast-math: ANNOY_COMPILER_ARGS as in base_image/Dockerfile"
            )


class MappedAnnoy:
    """See `interface.VectorIndex`. width: Annoy's search_k."""

    def __init__(self, path: Path, dimensions: int, items: int) -> None:
        """Map the file; raises `IndexFileUnsound`, `EngineUnfit`."""
        check_annoy()
        size, node = path.stat().st_size, _node(dimensions)
        if size % node.itemsize or size < node.itemsize * items:
            raise IndexFileUnsound(f"{path.name}: {size} bytes can't hold {items} vectors of {dimensions}")
        self._annoy = AnnoyIndex(dimensions, _METRIC)
        try:
            self._annoy.load(str(path))
        except OSError as error:
            raise IndexFileUnsound(f"{path.name}: Annoy can't load it: {error}") from None
        self._items = int(self._annoy.get_n_items())
        if self._items != items:
            raise IndexFileUnsound(f"{path.name}: has {self._items} items, index.json says {items}")
        self._vectors = np.memmap(path, node, "r", shape=items)["vector"]
        self._widest = items * self._annoy.get_n_trees() * 4

    def __len__(self) -> int:
        """See `interface.VectorIndex`."""
        return self._items

    def nearest(
        self, vector: Vector, count: int, width: int, visible: Visible | None = None, patience: float = math.inf
    ) -> Neighbours:
        """See `interface.VectorIndex`."""
        if visible is None:
            return self._search(self._annoy.get_nns_by_vector, vector, count, width)
        return self._search_visible(vector, count, width, visible, patience)

    def nearest_to(
        self, position: int, count: int, width: int, visible: Visible | None = None, patience: float = math.inf
    ) -> Neighbours:
        """See `interface.VectorIndex`."""
        if visible is None:
            return self._search(self._annoy.get_nns_by_item, position, count, width)
        return self._search_visible(position, count, width, visible, patience)

    def _search_visible(
        self, to: int | Vector, count: int, width: int, visible: Visible, patience: float
    ) -> Neighbours:
        """Annoy knows no filter: it is asked for more, and those that are hidden are left out."""
        count = min(count, visible.count)
        if count == 0:
            return Neighbours([], [])
        search = self._annoy.get_nns_by_item if isinstance(to, int) else self._annoy.get_nns_by_vector
        wider, more = int(width / visible.share), int(count / visible.share) + _SPARE
        while wider < visible.count:
            found = self._search(search, to, more, wider)
            kept = [(p, d) for p, d in zip(*found, strict=True) if p in visible][:count]
            if len(kept) == count:
                return Neighbours([position for position, _ in kept], [distance for _, distance in kept])
            more, wider = 2 * more, 2 * wider
            if min(wider, visible.count) > patience:
                raise TakesLonger
        query = self._annoy.get_item_vector(to) if isinstance(to, int) else to
        return self._compared(np.asarray(query, np.float32), count, visible)

    def _compared(self, query: NDArray[np.float32], count: int, visible: Visible) -> Neighbours:
        """Exactly, by comparing all that may be found."""
        best = Neighbours([], [])
        query = query / np.linalg.norm(query)
        shown = visible.positions
        for start in range(0, visible.count, _AT_ONCE):
            positions = shown[start : start + _AT_ONCE]
            vectors = self._vectors[positions]
            cosines = vectors @ query / np.linalg.norm(vectors, axis=1)
            best = nearest_of(best, positions, np.sqrt(np.maximum(2 - 2 * cosines, 0)), count)
        return best

    def _search(self, search: _Search, to: object, count: int, width: int) -> Neighbours:
        found = search(to, count, width, include_distances=True)
        # the trees may name the same items, and then Annoy answers fewer than there are
        while len(found[0]) < min(count, self._items) and width < self._widest:
            width *= 4
            found = search(to, count, width, include_distances=True)
        return Neighbours(*found)

    def vector(self, position: int) -> list[float]:
        """See `interface.VectorIndex`."""
        return list(self._annoy.get_item_vector(position))

    def close(self) -> None:
        """See `interface.VectorIndex`."""
        self._annoy.unload()
        del self._vectors


def build_annoy(path: Path, vectors: NDArray[np.float32], *, trees: int, seed: int) -> None:
    """Write the index of float32[N,D] to `path`; the same vectors give the same bytes. Uses one core, not the GIL.

    trees: at most; vectors that all fit into one leaf have one, whose search is exact. Raises `IndexFileUnsound` if
    Annoy doesn't do as asked, `EngineUnfit`, and OSError, as of a full disk.
    """
    check_annoy()
    if len(vectors) <= vectors.shape[1] + _LEAF_SPARE:
        trees = 1
    index = AnnoyIndex(vectors.shape[1], _METRIC)
    index.set_seed(seed)
    memory = os.memfd_create("annoy")  # not the file itself: on a full disk, who writes into a mapping of it is killed
    try:
        # so is who may not write files of that size: more than Annoy ever needs, of which nothing is taken yet
        os.ftruncate(memory, 3 * (trees + 1) * vectors.shape[0] * _node(vectors.shape[1]).itemsize)
        name = f"/proc/self/fd/{memory}"
        index.on_disk_build(name)
        _add_items(index, name, vectors)
        # more than one job gives other bytes each time; the partitions are what is built side by side
        if not index.build(trees, n_jobs=1):
            raise IndexFileUnsound(f"{path.name}: Annoy could not build it")
        index.unload()
        with Path(name).open("rb") as built, path.open("wb") as file:
            shutil.copyfileobj(built, file, _CHUNK)
    finally:
        os.close(memory)


def _add_items(index: AnnoyIndex, name: str, vectors: NDArray[np.float32]) -> None:
    """Write all into the file that the index is built in: Annoy's own `add_item` reads a number at a time."""
    items, dimensions = vectors.shape
    index.add_item(items - 1, [0.0] * dimensions)
    nodes = np.memmap(name, _node(dimensions), "r+", shape=items)
    nodes["items"], nodes["square"], nodes["vector"] = 1, np.vecdot(vectors, vectors), vectors
