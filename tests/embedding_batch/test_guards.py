"""The rules that keep a bad build from being committed."""

from __future__ import annotations

import pytest

from embedding_batch.errors import ItemsDropped, RecallTooLow, TooManyBroken
from embedding_batch.steps.guards import Broken, Limits, guard_broken, guard_items, guard_recall
from model_repository.documents.index_manifest import Recall
from tests import builds

LIMITS = Limits(most_broken=0.1, most_dropped=0.2, least_recall=0.9)


def broken(count: int) -> list[Broken]:
    return [Broken(f"item-{n}", "p.jpg", "it is torn") for n in range(count)]


def test_as_many_broken_photos_as_stated_are_allowed() -> None:
    guard_broken(broken(2), 20, LIMITS)


def test_one_more_is_not_and_the_first_is_named() -> None:
    with pytest.raises(TooManyBroken, match=r"3 of 20 .* 'item-0' \(it is torn\)"):
        guard_broken(broken(3), 20, LIMITS)


def test_nothing_but_broken_photos_is_never_allowed() -> None:
    with pytest.raises(TooManyBroken):
        guard_broken(broken(2), 2, Limits(most_broken=1))


def test_a_first_build_may_have_any_size() -> None:
    guard_items(1, None, LIMITS)


@pytest.mark.parametrize("items", [80, 100, 1000])
def test_a_build_may_shrink_by_the_stated_share_and_grow_at_will(items: int) -> None:
    guard_items(items, 100, LIMITS)


def test_a_build_that_shrank_by_more_is_refused() -> None:
    with pytest.raises(ItemsDropped, match="79 items, the committed one 100"):
        guard_items(79, 100, LIMITS)


def test_recall_at_the_threshold_is_enough() -> None:
    guard_recall(builds.partition(recall=Recall(10, 0.9, 100)), LIMITS)


def test_recall_below_it_is_not() -> None:
    with pytest.raises(RecallTooLow, match=r"recall@10 of 'chairs' is 0\.899"):
        guard_recall(builds.partition(recall=Recall(10, 0.899, 100)), LIMITS)
