"""What is known of a partition before anybody sees it: that it is sound, what it finds, what a server must repeat.

Everything is asked of the files as they were saved and are mapped again, not of what was in memory.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from embedding_batch.errors import IndexUnsound
from embedding_batch.steps.build.building import BuiltPartition
from embedding_batch.steps.build.tuning import RECALL_AT, Tuned, spread, tune
from model_repository.documents.index_manifest import Engine, GoldenQuery, Partition
from model_repository.documents.items.item_ids import ItemIds
from vector_index import IndexFileUnsound, VectorIndex

METRIC: Final = "angular"
RECALL_QUERIES = 1000
"""Items that are asked about, over the whole index."""

LEAST_QUERIES = 20
"""Of each category, if it has so many."""

GOLDEN_QUERIES = 200
"""Most golden queries of a build. With more categories than that, evenly spread ones get one each."""

GOLDEN_EACH = 3
GOLDEN_NEIGHBORS = 10


@dataclass(frozen=True, slots=True)
class Share:
    """What of the whole index's checks falls to a partition. queries: that are asked. golden: that are recorded.

    width_before: that the category needed in the build that serves, or 0.
    """

    queries: int
    golden: int
    width_before: int = 0


def share(number: int, partitions: int, items: int, of_items: int, width_before: int = 0) -> Share:
    """The share of partition `number` of so many, with `items` of the index's `of_items`."""
    golden = max(1, min(GOLDEN_EACH, GOLDEN_QUERIES // partitions))
    has_golden = number in spread(partitions, GOLDEN_QUERIES)
    return Share(
        max(LEAST_QUERIES, round(RECALL_QUERIES * items / of_items)), golden if has_golden else 0, width_before
    )


@dataclass(frozen=True, slots=True)
class Checked:
    """What the checks of a partition found, as index.json says it."""

    partition: Partition
    golden_queries: tuple[GoldenQuery, ...]


def check(folder: Path, built: BuiltPartition, model: int | None, *, recall: float, its: Share) -> Checked:
    """Open the files again, count, measure and record; raises IndexUnsound.

    model: which of the build's models made the vectors. recall: that is asked: how widely a server must look for it is
    found out.
    """
    with (folder / built.ids).open("rb") as file:  # mapped: thousands of partitions may share it
        ids = ItemIds(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), built.ids)
    if tuple(ids.part(built.first, len(built.content.ids))) != built.content.ids:
        raise IndexUnsound(f"{built.ids}: has other ids than were put in")
    index = _open(folder, built)
    narrowest, widest = _widths(built)
    how = {"queries": its.queries, "narrowest": narrowest, "widest": widest, "near": its.width_before}
    tuned = tune(index, built.content.vectors, recall=recall, **how)
    partition = _partition(built, tuned, model)
    golden = tuple(_golden_queries(index, built, partition, its.golden))
    index.close()
    return Checked(partition, golden)


def _widths(built: BuiltPartition) -> tuple[int, int]:
    """The first that is tried, Annoy's own choice or HNSW's least, and that of all items."""
    items = len(built.content.ids)
    if built.method.engine is Engine.EXACT:
        return 1, 1
    if built.method.engine is Engine.ANNOY:
        return built.method.trees * RECALL_AT, built.method.trees * max(items, RECALL_AT)
    return RECALL_AT, max(items, RECALL_AT)


def _partition(built: BuiltPartition, tuned: Tuned, model: int | None) -> Partition:
    return Partition(
        category=built.content.category,
        file=built.file,
        ids=built.ids,
        items=len(built.content.ids),
        engine=built.method.engine,
        storage=built.method.storage,
        dimensions=built.content.dimensions,
        metric=METRIC,
        model=model,
        width=tuned.width,
        recall=tuned.recall,
        queries_per_second=tuned.queries_per_second,
        first=built.first,
    )


def _open(folder: Path, built: BuiltPartition) -> VectorIndex:
    try:
        return built.open(folder)
    except IndexFileUnsound as error:
        raise IndexUnsound(f"{built.file}: its engine can't read what it wrote: {error}") from error


def _golden_queries(
    index: VectorIndex, built: BuiltPartition, partition: Partition, count: int
) -> Iterator[GoldenQuery]:
    ids = built.content.ids
    width = partition.width_for(GOLDEN_NEIGHBORS)
    for position in spread(len(ids), count):
        found = index.nearest_to(position, GOLDEN_NEIGHBORS, width)
        neighbors = tuple(ids[neighbor] for neighbor in found.positions)
        yield GoldenQuery(partition.category, ids[position], neighbors, tuple(found.distances))
