"""Annoy: random projection trees, all vectors in float32.

See https://github.com/spotify/annoy. It loads a file that was cut without a word, with fewer vectors or none, or
crashes the process on it; so sizes are looked at before it is asked to, and the count after that.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np
from annoy import AnnoyIndex
from numpy.typing import NDArray

from vector_index.interface import IndexFileUnsound, Neighbours, Vector

_METRIC: Final = "angular"
_NODE_HEAD = 12
"""Bytes of a node of the angular metric before its vector: one int32 count, two int32 children."""

_Search = Callable[..., tuple[list[int], list[float]]]


class MappedAnnoy:
    """See `interface.VectorIndex`. width: Annoy's search_k."""

    def __init__(self, path: Path, dimensions: int, items: int) -> None:
        """Map the file; raises `IndexFileUnsound`."""
        size, node = path.stat().st_size, _NODE_HEAD + 4 * dimensions
        if size % node or size < node * items:
            raise IndexFileUnsound(f"{path.name}: {size} bytes can't hold {items} vectors of {dimensions}")
        self._annoy = AnnoyIndex(dimensions, _METRIC)
        try:
            self._annoy.load(str(path))
        except OSError as error:
            raise IndexFileUnsound(f"{path.name}: Annoy can't load it: {error}") from None
        self._items = int(self._annoy.get_n_items())
        if self._items != items:
            raise IndexFileUnsound(f"{path.name}: has {self._items} items, index.json says {items}")
        self._widest = items * self._annoy.get_n_trees() * 4

    def __len__(self) -> int:
        """See `interface.VectorIndex`."""
        return self._items

    def nearest(self, vector: Vector, count: int, width: int) -> Neighbours:
        """See `interface.VectorIndex`."""
        return self._search(self._annoy.get_nns_by_vector, vector, count, width)

    def nearest_to(self, position: int, count: int, width: int) -> Neighbours:
        """See `interface.VectorIndex`."""
        return self._search(self._annoy.get_nns_by_item, position, count, width)

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


def build_annoy(path: Path, vectors: NDArray[np.float32], *, trees: int, seed: int) -> None:
    """Write the index of float32[N,D] to `path`; the same vectors give the same bytes. Uses one core, not the GIL.

    Raises `IndexFileUnsound` if Annoy doesn't do as asked.
    """
    index = AnnoyIndex(vectors.shape[1], _METRIC)
    index.set_seed(seed)
    for position, vector in enumerate(vectors):
        index.add_item(position, vector.tolist())  # a list is read several times faster than an array
    # more than one job gives other bytes each time; the partitions are what is built side by side
    if not index.build(trees, n_jobs=1) or not index.save(str(path)):
        raise IndexFileUnsound(f"{path.name}: Annoy could not build it")
    index.unload()
