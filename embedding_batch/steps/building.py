"""Vectors to files: one index file and one item-id file for each category, and one lookup for the whole index."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embedding_batch.events import Listener, Progress
from model_repository.documents.index_manifest import Engine, Storage
from model_repository.documents.item_ids import encode_item_ids, encode_item_lookup
from vector_index import VectorIndex, build_index, open_index

LOOKUP = "items.lookup"
_SLUG_LIMIT = 80
_SUFFIX = {Engine.ANNOY: "annoy", Engine.FAISS_HNSW: "hnsw"}


@dataclass(frozen=True, slots=True)
class Method:
    """How a category's vectors are indexed. trees, seed: Annoy's."""

    engine: Engine = Engine.ANNOY
    storage: Storage = Storage.FLOAT32
    trees: int = 20
    seed: int = 1


@dataclass(frozen=True, slots=True)
class Vectors:
    """The items of one category. ids[i] has the vector of row i; vectors: float32[N,D], of length 1."""

    category: str
    ids: tuple[str, ...]
    vectors: NDArray[np.float32]

    @property
    def dimensions(self) -> int:
        """D."""
        return int(self.vectors.shape[1])


@dataclass(frozen=True, slots=True)
class BuiltPartition:
    """A category's files, by their names in the build, and what is in them."""

    file: str
    ids: str
    method: Method
    content: Vectors

    def open(self, folder: Path) -> VectorIndex:
        """Map the file as a server does; raises `IndexFileUnsound`."""
        how = {"dimensions": self.content.dimensions, "items": len(self.content.ids)}
        return open_index(folder / self.file, self.method.engine, self.method.storage, **how)


@dataclass(frozen=True, slots=True)
class Built:
    """A build's files on disk, all but index.json."""

    folder: Path
    partitions: tuple[BuiltPartition, ...]

    @property
    def items(self) -> int:
        """How many items the whole index has."""
        return sum(len(built.content.ids) for built in self.partitions)

    @property
    def contents(self) -> dict[str, Path]:
        """The files by their names in the build."""
        names = [LOOKUP, *(name for built in self.partitions for name in (built.file, built.ids))]
        return {name: self.folder / name for name in names}


def group(ids: Sequence[str], categories: Sequence[str], vectors: NDArray[np.float32]) -> tuple[Vectors, ...]:
    """Return the items by category, both in order of their names. ids[i] is of categories[i] and has vectors[i]."""
    rows: dict[str, list[int]] = {}
    for row in sorted(range(len(ids)), key=ids.__getitem__):
        rows.setdefault(categories[row], []).append(row)
    return tuple(
        Vectors(category, tuple(ids[row] for row in rows[category]), vectors[rows[category]])
        for category in sorted(rows)
    )


def build(
    folder: Path,
    contents: Sequence[Vectors],
    method: Callable[[str], Method],
    *,
    workers: int,
    listener: Listener,
) -> Built:
    """Write the build's files below `folder`: the same input gives the same bytes. method: of a category.

    Raises `IndexFileUnsound` when an engine doesn't do as asked, ValueError when an item is in two categories.
    """
    partitions = [
        BuiltPartition(f"{stem}.{_SUFFIX[how.engine]}", f"{stem}.ids", how, content)
        for number, content in enumerate(contents)
        for stem, how in [(f"partitions/{number:04d}{_slug(content.category)}", method(content.category))]
    ]
    (folder / "partitions").mkdir(parents=True, exist_ok=True)
    listener(Progress("build", 0, len(partitions)))
    with ThreadPoolExecutor(workers) as pool:  # the engines release the GIL while they build
        # The largest first: the last one to end then is a small one.
        by_size = sorted(partitions, key=lambda built: -len(built.content.ids))
        for done, _ in enumerate(pool.map(lambda built: _write(folder, built), by_size), start=1):
            listener(Progress("build", done, len(partitions)))
    (folder / LOOKUP).write_bytes(encode_item_lookup([built.content.ids for built in partitions]))
    return Built(folder, tuple(partitions))


def _write(folder: Path, built: BuiltPartition) -> None:
    how = built.method
    path = folder / built.file
    build_index(path, built.content.vectors, how.engine, how.storage, trees=how.trees, seed=how.seed)
    (folder / built.ids).write_bytes(encode_item_ids(built.content.ids))


def _slug(category: str) -> str:
    """What tells a person which file is which; the number before it is what makes the name unique."""
    slug = re.sub(r"[^a-z0-9]+", "-", category.lower()).strip("-")[:_SLUG_LIMIT]
    return f"-{slug}" if slug else ""
