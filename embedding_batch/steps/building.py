"""Vectors to files: one Annoy file and one item-id file for each category, and one lookup for the whole index."""

from __future__ import annotations

import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from annoy import AnnoyIndex
from numpy.typing import NDArray

from embedding_batch.errors import IndexUnsound
from embedding_batch.events import Listener, Progress
from embedding_batch.steps.catalogue import Item
from model_repository.documents.index_manifest import Partition
from model_repository.documents.item_ids import encode_item_ids, encode_item_lookup

METRIC: Final = "angular"
LOOKUP = "items.lookup"
_SLUG_LIMIT = 80


@dataclass(frozen=True, slots=True)
class Vectors:
    """The items of one category. ids[i] has the vector of row i; vectors: float32[N,D], of length 1."""

    category: str
    ids: tuple[str, ...]
    vectors: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class BuiltPartition:
    """A category's files, below the folder of the build, and what is in them."""

    partition: Partition
    content: Vectors


@dataclass(frozen=True, slots=True)
class Built:
    """A build's files on disk, all but index.json."""

    folder: Path
    partitions: tuple[BuiltPartition, ...]
    dimensions: int
    trees: int

    @property
    def items(self) -> int:
        """How many items the whole index has."""
        return sum(len(built.content.ids) for built in self.partitions)

    @property
    def contents(self) -> dict[str, Path]:
        """The files by their names in the build."""
        names = [LOOKUP, *(name for built in self.partitions for name in (built.partition.file, built.partition.ids))]
        return {name: self.folder / name for name in names}


def group(items: Sequence[Item], vectors: NDArray[np.float32]) -> tuple[Vectors, ...]:
    """Return the items by category, both in order of their names. items[i] has the vector of row i."""
    rows: dict[str, list[int]] = {}
    for row in sorted(range(len(items)), key=lambda row: items[row].id):
        rows.setdefault(items[row].category, []).append(row)
    return tuple(
        Vectors(category, tuple(items[row].id for row in rows[category]), vectors[rows[category]])
        for category in sorted(rows)
    )


def build(
    folder: Path, contents: Sequence[Vectors], *, trees: int, seed: int, workers: int, listener: Listener
) -> Built:
    """Write the build's files below `folder`: the same input gives the same bytes.

    Raises IndexUnsound when Annoy doesn't do as asked, ValueError when an item is in two categories.
    """
    partitions = [
        BuiltPartition(Partition(content.category, f"{stem}.annoy", f"{stem}.ids", len(content.ids)), content)
        for number, content in enumerate(contents)
        for stem in [f"partitions/{number:04d}{_slug(content.category)}"]
    ]
    (folder / "partitions").mkdir(parents=True, exist_ok=True)
    listener(Progress("build", 0, len(partitions)))
    with ThreadPoolExecutor(workers) as pool:  # Annoy releases the GIL while it builds
        # The largest first: the last one to end then is a small one.
        by_size = sorted(partitions, key=lambda built: -len(built.content.ids))
        for done, _ in enumerate(pool.map(lambda built: _write(folder, built, trees, seed), by_size), start=1):
            listener(Progress("build", done, len(partitions)))
    (folder / LOOKUP).write_bytes(encode_item_lookup([built.content.ids for built in partitions]))
    dimensions = contents[0].vectors.shape[1]
    return Built(folder, tuple(partitions), dimensions, trees)


def _write(folder: Path, built: BuiltPartition, trees: int, seed: int) -> None:
    content = built.content
    index = AnnoyIndex(content.vectors.shape[1], METRIC)
    index.set_seed(seed)
    for position, vector in enumerate(content.vectors):
        index.add_item(position, vector.tolist())  # a list is read several times faster than an array
    # More than one job gives other bytes each time; the categories are what runs side by side.
    if not index.build(trees, n_jobs=1) or not index.save(str(folder / built.partition.file)):
        raise IndexUnsound(f"{built.partition.file}: Annoy could not build it")
    index.unload()
    (folder / built.partition.ids).write_bytes(encode_item_ids(content.ids))


def _slug(category: str) -> str:
    """What tells a person which file is which; the number before it is what makes the name unique."""
    slug = re.sub(r"[^a-z0-9]+", "-", category.lower()).strip("-")[:_SLUG_LIMIT]
    return f"-{slug}" if slug else ""
