"""Which items two builds of an index share, by category: from their lookups alone, without a text of an id."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from model_repository.documents.build_diff import Alike, CategoryDiff, SideOfCategory, TagDiff
from model_repository.documents.index_manifest import IndexManifest, Partition, mean_recall
from model_repository.documents.items.item_ids import ItemLookup

_HALF = 2**32 - 1
Place = tuple[int, int]
"""A partition's number, and a position in it."""


@dataclass(slots=True)
class Shared:
    """Items by category. samples: of a category that both builds have, where such items stand in either."""

    gone: Counter[str] = field(default_factory=Counter)
    new: Counter[str] = field(default_factory=Counter)
    moved: Counter[str] = field(default_factory=Counter)
    samples: dict[str, list[tuple[Place, Place]]] = field(default_factory=dict)


def compare_items(
    before: tuple[IndexManifest, ItemLookup], after: tuple[IndexManifest, ItemLookup], quota: Mapping[str, int]
) -> Shared:
    """Count what is gone, new, and in another category, and take a sample of at most quota[category] items.

    The sample is of those whose hashes are least: as good as drawn by lot, and the same for the same two builds.
    """
    categories = tuple([partition.category for partition in manifest.partitions] for manifest, _ in (before, after))
    shared = Shared()
    for old, new in _pairs(before[1], after[1]):
        if new is None and old is not None:
            shared.gone[categories[0][old >> 32]] += 1
        elif new is not None:
            category = categories[1][new >> 32]
            if old is None:
                shared.new[category] += 1
            elif categories[0][old >> 32] != category:
                shared.moved[category] += 1
            elif len(samples := shared.samples.setdefault(category, [])) < quota.get(category, 0):
                samples.append(((old >> 32, old & _HALF), (new >> 32, new & _HALF)))
    return shared


def _pairs(before: ItemLookup, after: ItemLookup) -> Iterator[tuple[int | None, int | None]]:
    """Where each item of either stands in both, by its hash, which both lookups are sorted by; None: not there."""
    one = other = 0
    while one < len(before) and other < len(after):
        old, new = before.hashes[one], after.hashes[other]
        yield (before.places[one] if old <= new else None), (after.places[other] if new <= old else None)
        one, other = one + (old <= new), other + (new <= old)
    for place in before.places[one:]:
        yield place, None
    for place in after.places[other:]:
        yield None, place


def category_diffs(
    before: IndexManifest,
    after: IndexManifest,
    shared: Shared,
    alike: Mapping[str, Alike],
    looks: Mapping[str, tuple[int, int]],
) -> tuple[CategoryDiff, ...]:
    """What is said of each category, by name. looks: items whose vectors were compared, and those that changed."""
    sides = [_by_category(manifest) for manifest in (before, after)]
    return tuple(
        CategoryDiff(
            category,
            _side(sides[0].get(category, ())),
            _side(sides[1].get(category, ())),
            shared.gone[category],
            shared.new[category],
            shared.moved[category],
            alike.get(category, Alike(0, 1.0, 1.0)),
            *looks.get(category, (0, 0)),
        )
        for category in sorted({*sides[0], *sides[1]})
    )


def tag_diffs(before: Mapping[str, int], after: Mapping[str, int]) -> tuple[TagDiff, ...]:
    """What is said of the tags of each name, by how many items have one, in order of the names."""
    return tuple(TagDiff(name, before.get(name, 0), after.get(name, 0)) for name in sorted({*before, *after}))


def _by_category(manifest: IndexManifest) -> dict[str, list[Partition]]:
    found: dict[str, list[Partition]] = {}
    for partition in manifest.partitions:
        found.setdefault(partition.category, []).append(partition)
    return found


def _side(partitions: Sequence[Partition]) -> SideOfCategory:
    if not partitions:
        return SideOfCategory(0)
    speeds = [one.queries_per_second for one in partitions if one.queries_per_second]
    # a search asks all parts of a category, one after another
    together = 1 / sum(1 / speed for speed in speeds) if len(speeds) == len(partitions) else None
    return SideOfCategory(sum(one.items for one in partitions), mean_recall(partitions).value, together)
