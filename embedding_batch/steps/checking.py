"""What is known of a build before anybody sees it: that it is sound, what it finds, what a server must repeat.

Everything is asked of the files as they were saved and are mapped again, not of what was in memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from annoy import AnnoyIndex
from numpy.typing import NDArray

from embedding_batch.errors import IndexUnsound
from embedding_batch.events import Listener, Progress
from embedding_batch.steps.building import LOOKUP, METRIC, Built, BuiltPartition
from model_repository.documents.index_manifest import GoldenQuery, Recall
from model_repository.documents.item_ids import ItemIds, ItemLookup

RECALL_AT = 10
RECALL_QUERIES = 1000
"""Queries over the whole index; every category gets at least one."""

GOLDEN_QUERIES = 200
"""Most golden queries of a build. With more categories than that, evenly spread ones get one each."""

GOLDEN_EACH = 3
GOLDEN_NEIGHBORS = 10
_TIE = 1e-5
"""Two similarities closer than this are the same: which of two twins comes tenth is no matter of recall."""


@dataclass(frozen=True, slots=True)
class Checked:
    """What the checks found. weakest: the category with the least recall, and that recall."""

    recall: Recall
    weakest: tuple[str, float]
    golden_queries: tuple[GoldenQuery, ...]


def check(built: Built, *, listener: Listener) -> Checked:
    """Open every file again, count, measure and record; raises IndexUnsound."""
    lookup = ItemLookup((built.folder / LOOKUP).read_bytes(), LOOKUP)
    shares: list[NDArray[np.float64]] = []
    golden: list[GoldenQuery] = []
    listener(Progress("check", 0, len(built.partitions)))
    golden_each = max(1, min(GOLDEN_EACH, GOLDEN_QUERIES // len(built.partitions)))
    with_golden = set(spread(len(built.partitions), GOLDEN_QUERIES))
    for number, partition in enumerate(built.partitions):
        _check_ids(built.folder, number, partition, lookup)
        index = _open(built.folder, partition, built.dimensions)
        queries = max(1, round(RECALL_QUERIES * len(partition.content.ids) / built.items))
        shares.append(_recalls(index, partition.content.vectors, queries))
        if number in with_golden:
            golden.extend(_golden_queries(index, partition, golden_each))
        index.unload()
        listener(Progress("check", number + 1, len(built.partitions)))
    everything = np.concatenate(shares)
    means = [float(share.mean()) for share in shares]
    weakest = int(np.argmin(means))
    return Checked(
        Recall(RECALL_AT, float(everything.mean()), len(everything)),
        (built.partitions[weakest].content.category, means[weakest]),
        tuple(golden),
    )


def _check_ids(folder: Path, number: int, built: BuiltPartition, lookup: ItemLookup) -> None:
    name = built.partition.ids
    ids = ItemIds((folder / name).read_bytes(), name)
    if tuple(ids) != built.content.ids:
        raise IndexUnsound(f"{name}: has other ids than were put in")
    for position, item in enumerate(ids):
        if (number, position) not in lookup.find(item):
            raise IndexUnsound(f"{LOOKUP}: doesn't find item {item!r} of {name}")


def _open(folder: Path, built: BuiltPartition, dimensions: int) -> AnnoyIndex:
    path = folder / built.partition.file
    index = AnnoyIndex(dimensions, METRIC)
    try:
        index.load(str(path))
    except OSError as error:
        raise IndexUnsound(f"{path.name}: Annoy can't read what it wrote: {error}") from error
    if index.get_n_items() != built.partition.items:
        raise IndexUnsound(f"{path.name}: has {index.get_n_items()} items, {built.partition.items} were put in")
    return index


def _recalls(index: AnnoyIndex, vectors: NDArray[np.float32], queries: int) -> NDArray[np.float64]:
    """Return recall@RECALL_AT of some items, evenly spread: the share of the exact neighbors that Annoy finds too.

    An item is no neighbor of itself; where there are fewer than RECALL_AT others, all of them are the exact answer.
    """
    k = min(RECALL_AT, len(vectors) - 1)
    positions = np.array(spread(len(vectors), queries))
    if k == 0:
        return np.ones(len(positions))
    shares = []
    for chunk in _chunks(positions, 64):
        similarities = vectors[chunk] @ vectors.T
        similarities[np.arange(len(chunk)), chunk] = -np.inf
        least = np.partition(similarities, -k, axis=1)[:, -k]
        for row, position in enumerate(chunk):
            found = [other for other in index.get_nns_by_item(int(position), k + 1) if other != position][:k]
            shares.append(np.count_nonzero(similarities[row, found] >= least[row] - _TIE) / k)
    return np.array(shares)


def _golden_queries(index: AnnoyIndex, built: BuiltPartition, count: int) -> Iterator[GoldenQuery]:
    ids = built.content.ids
    for position in spread(len(ids), count):
        neighbors, distances = index.get_nns_by_item(position, GOLDEN_NEIGHBORS, include_distances=True)
        yield GoldenQuery(
            built.content.category,
            ids[position],
            tuple(ids[neighbor] for neighbor in neighbors),
            tuple(float(distance) for distance in distances),
        )


def spread(size: int, count: int) -> list[int]:
    """Return at most `count` different positions below `size`, evenly spread: the same each time, unlike a sample."""
    return [int(position) for position in np.unique(np.linspace(0, size - 1, min(size, count)).round())]


def _chunks(positions: NDArray[np.intp], size: int) -> Iterator[NDArray[np.intp]]:
    for start in range(0, len(positions), size):
        yield positions[start : start + size]


def describe(checked: Checked) -> str:
    """Say in a few words what was found."""
    recall, (category, least) = checked.recall, checked.weakest
    return (
        f"recall@{recall.at} {recall.value:.3f} over {recall.queries} queries (least: {least:.3f} in {category}), "
        f"{len(checked.golden_queries)} golden queries"
    )
