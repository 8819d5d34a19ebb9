"""The items of a build, category by category, and how they are searched: few stretches of many files' rows at a time.

A build may have thousands of categories of a few items, which share files. Whoever asks for one of them searches its
rows; whoever asks for all of them searches all rows of a file at once, a `Block`, and not one category after another.
"""

from __future__ import annotations

import math
import mmap
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from heapq import merge
from itertools import islice
from typing import NamedTuple

import numpy as np

from model_repository.documents.index_manifest import Engine
from model_repository.documents.index_manifest import Partition as Promise
from model_repository.documents.items.item_ids import ItemIds
from vector_index import Vector, VectorIndex, Visible

_PER_WIDTH = {Engine.ANNOY: 1.0, Engine.FAISS_HNSW: 16.0}
"""Vectors compared for one of an engine's width: Annoy's search_k counts vectors, HNSW's ef what leads on."""
_WIDEST = 4
"""Times the items: a wider search looks at the same ones again."""
_OVERHEAD = 40_000.0
"""Cost of asking a partition at all, as numbers compared: 15 microseconds."""
_PER_NEIGHBOR = 5_000.0
"""Cost of a neighbour that is found, as numbers compared: 2 microseconds."""


class Neighbors(NamedTuple):
    """An answer in columns, nearest first.

    distances: angular, sqrt(2 - 2 cos), from 0 to 2. ids: in UTF-8, as they stand in the mapped file.
    """

    distances: list[float]
    ids: list[bytes]
    categories: list[str]

    def part(self, start: int, end: int) -> Neighbors:
        """Those from place `start` to before `end`."""
        return Neighbors(self.distances[start:end], self.ids[start:end], self.categories[start:end])


class MappedIds(ItemIds):
    """The ids of a partition, many at a time: one slice of the mapping each, which is half of what `[]` costs."""

    def __init__(self, buffer: mmap.mmap, name: str) -> None:
        """Read over `buffer`, the mapped file at `name`; raises `DocumentMalformed` if it can't be that."""
        super().__init__(buffer, name)
        self._buffer = buffer
        self._start = len(buffer) - len(self._text)

    def at(self, positions: Iterable[int]) -> list[bytes]:
        """The ids, in UTF-8, at `positions`, which must be positions of the partition."""
        offsets, buffer, start = self._offsets, self._buffer, self._start
        return [buffer[start + offsets[p] : start + offsets[p + 1]] for p in positions]


@dataclass(slots=True, eq=False)
class Partition:
    """Items of one category, mapped. number: its place in the manifest. promise: what that says of it.

    visible: which of them may be found now; None: all. block, row: where it begins among `MappedIndex.blocks`, of which
    it may be one itself.
    """

    number: int
    promise: Promise
    vectors: VectorIndex
    ids: MappedIds
    visible: Visible | None = None
    block: int = 0
    row: int = 0

    @property
    def category(self) -> str:
        """Of all its items."""
        return self.promise.category

    def categories_of(self, positions: Sequence[int]) -> list[str]:
        """Of the items at these."""
        return [self.category] * len(positions)

    def position_of(self, home: Partition, position: int) -> int | None:
        """Where the item at a position of `home` stands in this; None: it doesn't."""
        here = home.row + position - self.row
        return here if self.block == home.block and 0 <= here < self.promise.items else None

    @property
    def space(self) -> tuple[int | None, int]:
        """Model and dimensions of its vectors: only within one space do distances mean anything."""
        return self.promise.model, self.promise.dimensions

    def cost(self, k: int) -> float:
        """What a search for `k` takes, as numbers that are compared: 2.5 thousand million a second, more or less."""
        promise = self.promise
        share = 1.0 if self.visible is None else self.visible.share or 1.0
        if promise.engine is Engine.EXACT:
            compared: float = promise.items
        else:
            compared = min(promise.width_for(k) / share, _WIDEST * promise.items) * _PER_WIDTH[promise.engine]
            if self.visible is not None:  # of little, an engine compares all
                compared = min(compared, self.visible.count)
        return _OVERHEAD + compared * promise.dimensions + min(k, promise.items) * _PER_NEIGHBOR

    def nearest(self, to: int | Vector, k: int, patience: float = math.inf) -> Neighbors:
        """The `k` nearest to the item at a position, without itself, or to a vector; fewer only if there are fewer.

        Only those that may be found; the item itself need not be. patience: what it may cost where more are hidden near
        by than elsewhere; above it `TakesLonger` is raised.
        """
        width, visible, patience = self.promise.width_for(k), self.visible, patience / self.promise.dimensions
        if isinstance(to, int):
            positions, distances = self.vectors.nearest_to(to, k + 1, width, visible, patience)
            if to in positions:
                own = positions.index(to)
                del positions[own], distances[own]
        else:
            positions, distances = self.vectors.nearest(to, k, width, visible, patience)
        positions = positions[:k]
        return Neighbors(distances[:k], self.ids.at(positions), self.categories_of(positions))


@dataclass(slots=True, eq=False)
class Block(Partition):
    """Partitions that follow each other in one file, as one that is searched exactly. promise: its category is empty.

    parts: they, in their order. begins: their rows.
    """

    parts: Sequence[Partition] = ()
    begins: Sequence[int] = ()

    def categories_of(self, positions: Sequence[int]) -> list[str]:
        """See `Partition.categories_of`."""
        return [self.parts[bisect_right(self.begins, position) - 1].category for position in positions]

    def gather_visible(self) -> None:
        """May be found: what may be found of its parts."""
        self.visible = Visible.joined([(part.visible, part.promise.items) for part in self.parts])


def parts_of(block: Partition) -> Sequence[Partition]:
    """The partitions that it is."""
    return block.parts if isinstance(block, Block) else (block,)


To = Callable[[Partition], int | Vector]
"""What is searched for in a partition; see `Partition.nearest`."""


def to_vector(vector: Sequence[float], partitions: Sequence[Partition]) -> To:
    """What is near a vector: of their dimensions, finite, not all 0."""
    query = _shared(vector, partitions)
    return lambda _: query


def to_item(home: Partition, position: int, partitions: Sequence[Partition]) -> To:
    """What is near the item at a position of `home`, but for the item itself."""
    query = cache(lambda: _shared(home.vectors.vector(position), partitions))

    def to(each: Partition) -> int | Vector:
        here = each.position_of(home, position)
        return query() if here is None else here

    return to


def _shared(vector: Sequence[float], partitions: Sequence[Partition]) -> Vector:
    """The same, as many partitions take it: not each of them should make an array of it anew."""
    return np.asarray(vector, np.float32) if len(partitions) > 1 else vector


def search(
    partitions: Sequence[Partition],
    to: To,
    k: int,
    patience: float = math.inf,
    best: Neighbors = Neighbors([], [], []),  # noqa: B008 - nobody changes it
) -> Neighbors:
    """The `k` nearest of those in `partitions` and of the `best` of others. patience: see `Partition.nearest`."""
    return merged([best, *(each.nearest(to(each), k, patience) for each in partitions)], k)


def merged(found: Sequence[Neighbors], k: int) -> Neighbors:
    """The `k` nearest of what was found in several partitions."""
    found = [each for each in found if each.ids]
    if len(found) == 1:
        return found[0]
    rows = list(islice(merge(*(zip(*each, strict=True) for each in found)), k))
    return Neighbors([row[0] for row in rows], [row[1] for row in rows], [row[2] for row in rows])
