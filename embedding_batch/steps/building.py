"""Vectors to files: one index file and one file of item ids for each partition."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embedding_batch.method import Method
from model_repository.documents.index_manifest import Engine
from model_repository.documents.item_ids import encode_item_ids
from vector_index import VectorIndex, build_index, open_index

_SLUG_LIMIT = 80
_SUFFIX = {Engine.ANNOY: "annoy", Engine.FAISS_HNSW: "hnsw"}


@dataclass(frozen=True, slots=True)
class Vectors:
    """The items of a partition, all of one category. ids[i] has row i of vectors: float32[N,D], of length 1."""

    category: str
    ids: tuple[str, ...]
    vectors: NDArray[np.float32]

    @property
    def dimensions(self) -> int:
        """D."""
        return int(self.vectors.shape[1])


@dataclass(frozen=True, slots=True)
class BuiltPartition:
    """A partition's files, by their names in the build, and what is in them."""

    file: str
    ids: str
    method: Method
    content: Vectors

    def open(self, folder: Path) -> VectorIndex:
        """Map the file as a server does; raises `IndexFileUnsound`."""
        how = {"dimensions": self.content.dimensions, "items": len(self.content.ids)}
        return open_index(folder / self.file, self.method.engine, self.method.storage, **how)


def build(folder: Path, number: int, content: Vectors, method: Method) -> BuiltPartition:
    """Write the files of one partition below `folder`: the same input gives the same bytes.

    number: of the partition in its index. Raises `IndexFileUnsound` when the engine doesn't do as asked.
    """
    stem = f"partitions/{number:04d}{_slug(content.category)}"
    built = BuiltPartition(f"{stem}.{_SUFFIX[method.engine]}", f"{stem}.ids", method, content)
    (folder / "partitions").mkdir(parents=True, exist_ok=True)
    how = {"trees": method.trees, "seed": method.seed}
    build_index(folder / built.file, content.vectors, method.engine, method.storage, **how)
    (folder / built.ids).write_bytes(encode_item_ids(content.ids))
    return built


def _slug(category: str) -> str:
    """What tells a person which file is which; the number before it is what makes the name unique."""
    slug = re.sub(r"[^a-z0-9]+", "-", category.lower()).strip("-")[:_SLUG_LIMIT]
    return f"-{slug}" if slug else ""
