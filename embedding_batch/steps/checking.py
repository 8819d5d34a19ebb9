"""What is known of a build before anybody sees it: that it is sound, what it finds, what a server must repeat.

Everything is asked of the files as they were saved and are mapped again, not of what was in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from embedding_batch.errors import IndexUnsound
from embedding_batch.events import Listener, Progress
from embedding_batch.steps.building import LOOKUP, Built, BuiltPartition
from embedding_batch.steps.tuning import RECALL_AT, Tuned, spread, tune
from model_repository.documents.index_manifest import Engine, GoldenQuery, Partition, mean_recall
from model_repository.documents.item_ids import ItemIds, ItemLookup
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
class Checked:
    """What the checks found. partitions: as index.json says them."""

    partitions: tuple[Partition, ...]
    golden_queries: tuple[GoldenQuery, ...]

    @property
    def weakest(self) -> Partition:
        """The one with the least recall."""
        return min(self.partitions, key=lambda partition: partition.recall.value)


def check(built: Built, model_of: Callable[[str], int | None], *, recall: float, listener: Listener) -> Checked:
    """Open every file again, count, measure and record; raises IndexUnsound.

    model_of: which of the build's models made the vectors of a category. recall: that is asked of each partition: how
    widely a server must look for it is found out.
    """
    lookup = ItemLookup((built.folder / LOOKUP).read_bytes(), LOOKUP)
    partitions: list[Partition] = []
    golden: list[GoldenQuery] = []
    listener(Progress("check", 0, len(built.partitions)))
    golden_each = max(1, min(GOLDEN_EACH, GOLDEN_QUERIES // len(built.partitions)))
    with_golden = set(spread(len(built.partitions), GOLDEN_QUERIES))
    for number, one in enumerate(built.partitions):
        _check_ids(built.folder, number, one, lookup)
        index = _open(built.folder, one)
        queries = max(LEAST_QUERIES, round(RECALL_QUERIES * len(one.content.ids) / built.items))
        narrowest, widest = _widths(one)
        how = {"queries": queries, "narrowest": narrowest, "widest": widest}
        tuned = tune(index, one.content.vectors, recall=recall, **how)
        partitions.append(_partition(one, tuned, model_of(one.content.category)))
        if number in with_golden:
            golden.extend(_golden_queries(index, one, partitions[-1], golden_each))
        index.close()
        listener(Progress("check", number + 1, len(built.partitions)))
    return Checked(tuple(partitions), tuple(golden))


def _widths(built: BuiltPartition) -> tuple[int, int]:
    """The first that is tried, Annoy's own choice or a little more than is asked for, and that of all items."""
    items = len(built.content.ids)
    if built.method.engine is Engine.ANNOY:
        return built.method.trees * RECALL_AT, built.method.trees * max(items, RECALL_AT)
    return RECALL_AT + RECALL_AT // 2, max(items, 2 * RECALL_AT)


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
    )


def _check_ids(folder: Path, number: int, built: BuiltPartition, lookup: ItemLookup) -> None:
    name = built.ids
    ids = ItemIds((folder / name).read_bytes(), name)
    if tuple(ids) != built.content.ids:
        raise IndexUnsound(f"{name}: has other ids than were put in")
    for position, item in enumerate(ids):
        if (number, position) not in lookup.find(item):
            raise IndexUnsound(f"{LOOKUP}: doesn't find item {item!r} of {name}")


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


def describe(checked: Checked) -> str:
    """Say in a few words what was found."""
    recall, weakest = mean_recall(checked.partitions), checked.weakest
    return (
        f"recall@{recall.at} {recall.value:.3f} over {recall.queries} queries "
        f"(least: {weakest.recall.value:.3f} in {weakest.category}), {len(checked.golden_queries)} golden queries"
    )
