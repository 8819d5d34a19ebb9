"""Vectors to files: one of vectors and one of item ids for a partition, or for several small ones together."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embedding_batch.method import Method
from model_repository.documents.index_manifest import Engine, Storage
from model_repository.documents.items.item_ids import encode_item_ids
from vector_index import ExactIndex, VectorIndex, build_index, open_index

_SLUG_LIMIT = 80
_SUFFIX = {Engine.ANNOY: "annoy", Engine.FAISS_HNSW: "hnsw", Engine.EXACT: "exact"}
_EXACTLY = Method(Engine.EXACT)


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
    """A partition's files, by their names in the build, and what is in them.

    first: row of both files at which its items begin. rows: of the files, if not just these.
    """

    file: str
    ids: str
    method: Method
    content: Vectors
    first: int = 0
    rows: int = 0

    def open(self, folder: Path) -> VectorIndex:
        """Map the file as a server does; raises `IndexFileUnsound`."""
        items = len(self.content.ids)
        how = {"dimensions": self.content.dimensions, "items": self.rows or items}
        whole = open_index(folder / self.file, self.method.engine, self.method.storage, **how)
        return whole.part(self.first, items) if isinstance(whole, ExactIndex) else whole


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


def build_shared(folder: Path, number: int, contents: Sequence[Vectors]) -> tuple[BuiltPartition, ...]:
    """Write the two files of several partitions, which are searched exactly; as `build`.

    number: of the part.
    """
    file, ids = (f"partitions/{number:04d}-small.{suffix}" for suffix in (_SUFFIX[Engine.EXACT], "ids"))
    (folder / "partitions").mkdir(parents=True, exist_ok=True)
    together = np.concatenate([content.vectors for content in contents])
    build_index(folder / file, together, Engine.EXACT, Storage.FLOAT32, trees=0, seed=0)
    (folder / ids).write_bytes(encode_item_ids([item for content in contents for item in content.ids]))
    begins = accumulate((len(content.ids) for content in contents), initial=0)
    return tuple(
        BuiltPartition(file, ids, _EXACTLY, content, first, len(together))
        for content, first in zip(contents, begins, strict=False)  # the last begin is the end
    )


def _slug(category: str) -> str:
    """What tells a person which file is which; the number before it is what makes the name unique."""
    slug = re.sub(r"[^a-z0-9]+", "-", category.lower()).strip("-")[:_SLUG_LIMIT]
    return f"-{slug}" if slug else ""
