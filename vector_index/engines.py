"""The engines by name, as index.json has them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model_repository.documents.index_manifest import Engine, Partition, Storage
from vector_index.annoy_index import MappedAnnoy, build_annoy
from vector_index.exact import ExactIndex, build_exact, map_exact
from vector_index.interface import VectorIndex


def open_index(path: Path, engine: Engine, storage: Storage, *, dimensions: int, items: int) -> VectorIndex:
    """Map a file of vectors, all of it; raises `IndexFileUnsound` unless it holds what is promised.

    Its bytes must have been verified before: an engine follows what it reads.
    """
    if engine is Engine.ANNOY:
        return MappedAnnoy(path, dimensions, items)
    if engine is Engine.EXACT:
        return map_exact(path, dimensions, items)
    from vector_index.faiss_hnsw import MappedHnsw  # noqa: PLC0415 - who has Annoy alone does without: docs/benchmarks/start-up.md

    return MappedHnsw(path, dimensions, items, storage)


class PartitionFiles:
    """Opens the partitions of a build: a file that several of them share is mapped once."""

    def __init__(self, partitions: Iterable[Partition]) -> None:
        """Of a build with these, all of them."""
        self._rows: Counter[str] = Counter()
        for partition in partitions:
            self._rows[partition.file] += partition.items
        self._mapped: dict[str, ExactIndex] = {}

    def rows(self, partition: Partition) -> int:
        """How many items its files have, those of the others that share them included."""
        return self._rows[partition.file]

    def open(self, path: Path, partition: Partition) -> VectorIndex:
        """The vectors of a partition, whose file is at `path`; raises `IndexFileUnsound`, as `open_index`."""
        dimensions, rows = partition.dimensions, self.rows(partition)
        if partition.engine is not Engine.EXACT:
            return open_index(path, partition.engine, partition.storage, dimensions=dimensions, items=rows)
        if partition.file not in self._mapped:
            self._mapped[partition.file] = map_exact(path, dimensions, rows)
        whole = self._mapped[partition.file]
        return whole.part(partition.first, partition.items)


def build_index(
    path: Path, vectors: NDArray[np.float32], engine: Engine, storage: Storage, *, trees: int, seed: int
) -> None:
    """Write the index of float32[N,D], rows of length 1. trees, seed: Annoy's. Raises `IndexFileUnsound`."""
    if engine is Engine.ANNOY:
        return build_annoy(path, vectors, trees=trees, seed=seed)
    if engine is Engine.EXACT:
        return build_exact(path, vectors)
    from vector_index.faiss_hnsw import build_hnsw  # noqa: PLC0415 - likewise

    return build_hnsw(path, vectors, storage=storage)
