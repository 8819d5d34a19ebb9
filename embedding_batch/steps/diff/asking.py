"""What two builds of an index say of the same items: how they look, and what is like them.

A category of both is open at a time. Items that look different are remembered, for what they look like now may stand in
a category that comes later.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from model_repository.comparing.items import Place
from model_repository.comparing.ranking import overlap, rank_biased_overlap
from model_repository.documents.build_diff import Example
from model_repository.documents.index_manifest import Partition
from model_repository.documents.items.item_ids import ItemIds, ItemLookup
from model_repository.resources.processors import processors
from vector_index import VectorIndex

NEIGHBORS: Final = 10
_CHANGED: Final = 0.98
"""Cosine of an item's vectors in the two builds, below which it looks different. int8 against float32 has 0.999."""
_SAME: Final = 0.03
"""Angular distance of two vectors of one picture, however either is stored."""
_TOLD_APART: Final = 0.1
"""Angular distance from which on two items look different, however their vectors are stored."""
_LOOKED_FOR: Final = 2500
"""Items that look different are looked for so often, in all categories together: that is quick, of many, too."""

_Vector = NDArray[np.float32]
Sample = tuple[Place, Place]
"""Where an item stands in the old build, and in the new one."""


@dataclass(frozen=True, slots=True)
class Part:
    """A partition of a build, mapped."""

    partition: Partition
    index: VectorIndex
    ids: ItemIds


@dataclass(frozen=True, slots=True)
class Category:
    """The parts of a category, by their number in the build, whose lookup has all its items."""

    name: str
    parts: Mapping[int, Part]
    lookup: ItemLookup

    @property
    def dimensions(self) -> int:
        """Of its vectors."""
        return next(iter(self.parts.values())).partition.dimensions

    def id(self, place: Place) -> str:
        """The id of the item there."""
        return self.parts[place[0]].ids[place[1]]

    def holds(self, item: str) -> bool:
        """Whether the item is in this category of the build."""
        return any(place[0] in self.parts and self.id(place) == item for place in self.lookup.find(item))

    def vector(self, place: Place) -> _Vector:
        """The item's vector as it is stored, float32[D]."""
        return np.asarray(self.parts[place[0]].index.vector(place[1]), np.float32)

    def nearest(self, vector: _Vector, count: int) -> list[tuple[float, str, Place]]:
        """The nearest of all parts with their distances; none to a vector of another kind, or without direction."""
        if len(vector) != self.dimensions or not np.isfinite(vector).all() or not vector.any():
            return []
        found: list[tuple[float, str, Place]] = []
        for number, part in self.parts.items():
            near = part.index.nearest(vector.tolist(), count, part.partition.width_for(count))
            found += [
                (distance, part.ids[position], (number, position))
                for position, distance in zip(near.positions, near.distances, strict=True)
            ]
        return heapq.nsmallest(count, found)

    def near(self, item: str, vector: _Vector) -> list[tuple[float, str, Place]]:
        """The item with its distance, as `nearest` has it; none if it isn't in this category."""
        places = [place for place in self.lookup.find(item) if place[0] in self.parts and self.id(place) == item]
        return [((2 * max(0.0, 1 - _cosine(vector, self.vector(place)))) ** 0.5, item, place) for place in places]


@dataclass(frozen=True, slots=True)
class _Different:
    """An item that looks different: its vectors before and after."""

    item: str
    before: _Vector
    after: _Vector

    def is_swapped(self, old: Category, new: Category) -> bool:
        """Whether it looks as another item of the category did, or another one looks as it did."""
        return _took(self.item, self.after, old, new) or _took(self.item, self.before, new, old)


@dataclass(slots=True)
class Asked:
    """What came of all questions.

    looks: by category, how many items' vectors were compared, and how many of those differ. differences: overlap and
    rank-biased overlap of the answers, by category.
    """

    looks: dict[str, tuple[int, int]] = field(default_factory=dict)
    differences: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    golden: list[tuple[float, float]] = field(default_factory=list)
    examples: list[Example] = field(default_factory=list)
    swapped: int = 0
    doubled: int = 0
    _different: list[_Different] = field(default_factory=list)
    _looked_for: int = 0

    def compare(self, old: Category, new: Category, samples: Sequence[Sample]) -> None:
        """Compare the vectors of items that both builds have in this category."""
        found = []
        for before, after in samples:
            vectors = old.vector(before), new.vector(after)
            if _cosine(*vectors) < _CHANGED:
                found.append(_Different(old.id(before), *vectors))
        self.looks[new.name] = len(samples), len(found)
        every = found + self._different  # those of this category first
        looked_for = every[: _LOOKED_FOR - self._looked_for]
        self._looked_for += len(looked_for)
        self._different = [each for each in looked_for if not each.is_swapped(old, new)]
        self.swapped += len(looked_for) - len(self._different)

    def ask(
        self, old: Category, new: Category, samples: Sequence[Sample], golden: Mapping[str, NDArray[np.float32]]
    ) -> None:
        """Ask both builds for what is like each of the items, and like each golden picture."""
        with ThreadPoolExecutor(processors()) as pool:  # engines search without the GIL
            answers = pool.map(lambda sample: _like_item(old, new, sample), samples)
            for (before, _), found in zip(samples, answers, strict=True):
                self.differences.setdefault(new.name, []).append(self._add(old.id(before), new.name, found))
                was, is_now = (near[0][0] if near else np.inf for near in found)
                self.doubled += is_now < _SAME and was > _TOLD_APART
        for name, vector in golden.items():
            if len(vector) == old.dimensions:
                self.golden.append(self._add(f"golden picture {name}", new.name, _completed(vector, old, new)))

    def _add(
        self, item: str, category: str, found: Sequence[Sequence[tuple[float, str, Place]]]
    ) -> tuple[float, float]:
        """Take in two answers to one question."""
        before, after = (tuple(each for _, each, _ in answer) for answer in found)
        shared = round(overlap(before, after, NEIGHBORS), 4)
        self.examples.append(Example(item, category, shared, before, after))
        return shared, round(rank_biased_overlap(before, after), 4)


def _like_item(old: Category, new: Category, sample: Sample) -> list[list[tuple[float, str, Place]]]:
    """What each build has nearest to an item that both have, but for itself."""
    item = old.id(sample[0])
    nearest = (side.nearest(side.vector(place), NEIGHBORS + 1) for side, place in zip((old, new), sample, strict=True))
    return [[each for each in answer if each[1] != item][:NEIGHBORS] for answer in nearest]


def _completed(vector: _Vector, *sides: Category) -> list[list[tuple[float, str, Place]]]:
    """What each build has nearest to a vector that is no item's, of what any of them finds.

    How widely to look was found out for items. A picture that is like none has many neighbours that are all as far, of
    which each build misses others: what one of them missed and has is no change.
    """
    found = [side.nearest(vector, NEIGHBORS) for side in sides]
    every = {item for answer in found for _, item, _ in answer}
    completed = []
    for side, answer in zip(sides, found, strict=True):
        missed = every - {item for _, item, _ in answer}
        more = [near for item in sorted(missed) for near in side.near(item, vector)]
        completed.append(heapq.nsmallest(NEIGHBORS, answer + more))
    return completed


def _cosine(one: _Vector, other: _Vector) -> float:
    """0 for vectors of two kinds, and for one without a direction."""
    length = float(np.linalg.norm(one) * np.linalg.norm(other)) if one.shape == other.shape else 0.0
    return float(one @ other) / length if length > 0 and np.isfinite(length) else 0.0


def _took(item: str, vector: _Vector, there: Category, here: Category) -> bool:
    """Whether the item's vector is `there` another one's, which is `here` as well and looks different in it.

    That one not: the two share a picture, as items do whose picture is to come. One that only one of the builds has:
    a picture may be used again.
    """
    for distance, other, place in there.nearest(vector, 1):
        if distance < _SAME and other != item and here.holds(other):
            near = here.nearest(there.vector(place), 5)
            return all(found != other for gap, found, _ in near if gap < _SAME)
    return False
