"""What two builds answer to a golden picture: what one of them merely doesn't find is no change."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from embedding_batch.steps.diff.asking import Asked, Category, Part
from model_repository.documents.index_manifest import Partition
from model_repository.documents.items.item_ids import ItemIds, ItemLookup, encode_item_ids, encode_item_lookup
from tests import builds
from vector_index import ExactIndex
from vector_index.interface import Neighbours, Vector
from vector_index.visible import Visible


class _FindsSome(ExactIndex):
    """An index that never finds some of its items, as approximate search may."""

    def __init__(self, vectors: NDArray[np.float32], missed: Sequence[int]) -> None:
        super().__init__(vectors)
        self._missed = set(missed)

    def nearest(self, vector: Vector, count: int, width: int, visible: Visible | None = None) -> Neighbours:
        found = super().nearest(vector, count + len(self._missed), width, visible)
        kept = [each for each in zip(*found, strict=True) if each[0] not in self._missed][:count]
        return Neighbours([position for position, _ in kept], [distance for _, distance in kept])


def category(vectors: NDArray[np.float32], missed: Sequence[int]) -> Category:
    ids = [f"item-{number}" for number in range(len(vectors))]
    partition: Partition = builds.partition("shoes", items=len(ids), dimensions=vectors.shape[1])
    part = Part(partition, _FindsSome(vectors, missed), ItemIds(encode_item_ids(ids), "ids"))
    return Category("shoes", {0: part}, ItemLookup(encode_item_lookup([ids]), "lookup"))


def some(seed: int) -> NDArray[np.float32]:
    vectors = np.random.default_rng(seed).standard_normal((200, 16)).astype(np.float32)
    unit: NDArray[np.float32] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit


def overlap_of(old: Category, new: Category) -> float:
    asked = Asked()
    asked.ask(old, new, [], {"a.jpg": some(1)[0]})
    ((overlap, _),) = asked.golden
    return overlap


def test_what_a_build_has_and_did_not_find_is_no_change() -> None:
    nearest = np.argsort(-(some(2) @ some(1)[0]))
    old, new = category(some(2), nearest[0:10:3].tolist()), category(some(2), nearest[1:10:3].tolist())
    assert overlap_of(old, new) == 1.0


def test_other_vectors_are_other_answers() -> None:
    assert overlap_of(category(some(2), []), category(some(3), [])) < 0.7


def test_what_a_build_no_longer_has_is_a_change() -> None:
    vectors = some(2)
    gone = vectors.copy()
    gone[np.argsort(-(vectors @ some(1)[0]))[:5]] *= -1
    assert overlap_of(category(vectors, []), category(gone, [])) == 0.5
