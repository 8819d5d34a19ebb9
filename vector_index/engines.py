"""The engines by name, as index.json has them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model_repository.documents.index_manifest import Engine, Storage
from vector_index.annoy_index import MappedAnnoy, build_annoy
from vector_index.interface import VectorIndex


def open_index(path: Path, engine: Engine, storage: Storage, *, dimensions: int, items: int) -> VectorIndex:
    """Map the file of a partition; raises `IndexFileUnsound` unless it holds what is promised.

    Its bytes must have been verified before: an engine follows what it reads.
    """
    if engine is Engine.ANNOY:
        return MappedAnnoy(path, dimensions, items)
    from vector_index.faiss_hnsw import MappedHnsw  # noqa: PLC0415 - who has Annoy alone does without: docs/benchmarks/start-up.md

    return MappedHnsw(path, dimensions, items, storage)


def build_index(
    path: Path, vectors: NDArray[np.float32], engine: Engine, storage: Storage, *, trees: int, seed: int
) -> None:
    """Write the index of float32[N,D], rows of length 1. trees, seed: Annoy's. Raises `IndexFileUnsound`."""
    if engine is Engine.ANNOY:
        return build_annoy(path, vectors, trees=trees, seed=seed)
    from vector_index.faiss_hnsw import build_hnsw  # noqa: PLC0415 - likewise

    return build_hnsw(path, vectors, storage=storage)
