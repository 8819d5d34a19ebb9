"""Every engine finds only what is visible, as much of it as was asked for, and the true neighbours among it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from model_repository.documents.index_manifest import Engine, Storage
from tests.vector_index.test_engines import KINDS, OFF, made, units
from vector_index import VectorIndex, Visible
from vector_index.neighbours import Neighbours
from vector_index.visible import nearest_of

ITEMS, K = 3000, 10
WIDTH = {Engine.ANNOY: 1500, Engine.FAISS_HNSW: 40, Engine.EXACT: 1}

OPENED: dict[tuple[Engine, Storage], VectorIndex] = {}


@pytest.fixture(params=KINDS, ids="-".join)
def kind(request: pytest.FixtureRequest) -> tuple[Engine, Storage]:
    found: tuple[Engine, Storage] = request.param
    return found


@pytest.fixture
def index(kind: tuple[Engine, Storage], tmp_path_factory: pytest.TempPathFactory) -> VectorIndex:
    if kind not in OPENED:
        OPENED[kind] = made(tmp_path_factory.mktemp("index") / "a.index", kind, units(ITEMS))
    return OPENED[kind]


def hiding(share: float) -> tuple[Visible, NDArray[np.intp]]:
    """That share of the items hidden; what can be found, and the positions of it."""
    order = np.random.default_rng(5).permutation(ITEMS)
    hidden, shown = np.split(order, [int(share * ITEMS)])
    return Visible.but_for(hidden, ITEMS), np.sort(shown)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.99])
def test_the_neighbours_are_those_among_what_is_visible(
    index: VectorIndex, kind: tuple[Engine, Storage], share: float
) -> None:
    visible, shown = hiding(share)
    vectors, right = units(ITEMS), 0
    queries = units(50, seed=2)
    for query in queries:
        found = index.nearest(query, K, WIDTH[kind[0]], visible)
        assert len(found.positions) == K
        assert set(found.positions) <= set(shown.tolist())
        assert found.distances == sorted(found.distances)
        expected = np.sqrt(2 - 2 * vectors[found.positions] @ query)
        assert found.distances == pytest.approx(expected, abs=OFF[kind[1]])
        exact = shown[np.argsort(-(vectors[shown] @ query))[:K]]
        right += len(set(exact.tolist()) & set(found.positions))
    assert right / (K * len(queries)) >= (0.9 if kind[1] is Storage.INT8 else 0.95)


def test_where_fewer_are_left_than_asked_for_all_of_them_are_found(index: VectorIndex) -> None:
    visible, shown = hiding(1 - 4 / ITEMS)
    assert visible.count == 4
    assert sorted(index.nearest(units(1, seed=3)[0], K, 15, visible).positions) == shown.tolist()


def test_where_nothing_is_left_nothing_is_found(index: VectorIndex) -> None:
    visible, _ = hiding(1.0)
    assert index.nearest(units(1)[0], K, 15, visible) == ([], [])
    assert index.nearest_to(0, K, 15, visible) == ([], [])


@pytest.mark.parametrize("share", [0.5, 0.99])
def test_an_item_that_is_hidden_has_neighbours_and_is_none(
    index: VectorIndex, kind: tuple[Engine, Storage], share: float
) -> None:
    visible, shown = hiding(share)
    hidden = next(position for position in range(ITEMS) if position not in visible)
    assert hidden not in shown
    found = index.nearest_to(hidden, K, WIDTH[kind[0]], visible)
    assert len(found.positions) == K
    assert hidden not in found.positions
    seen = int(shown[0])
    assert index.nearest_to(seen, K, WIDTH[kind[0]], visible).positions[0] == seen


@given(st.integers(1, 70).flatmap(lambda size: st.tuples(st.just(size), st.lists(st.integers(0, size - 1)))))
def test_what_is_visible_is_what_is_not_hidden(given: tuple[int, list[int]]) -> None:
    size, hidden = given
    visible = Visible.but_for(np.array(hidden, np.int64), size)
    shown = [position for position in range(size) if position not in hidden]
    assert [position for position in range(size) if position in visible] == shown
    assert visible.positions.tolist() == shown
    assert visible.count == len(shown)
    assert visible.share == len(shown) / size
    assert len(visible.bits) == -(-size // 8)


HIDING = st.integers(1, 70).flatmap(lambda size: st.tuples(st.just(size), st.sets(st.integers(0, size - 1))))


@given(st.lists(HIDING, min_size=1, max_size=6), st.integers(0, 100), st.integers(1, 100))
def test_of_several_joined_a_part_says_what_they_said(given: list[tuple[int, set[int]]], first: int, size: int) -> None:
    parts = [(Visible.but_for(np.array(sorted(of), np.int64), size) if of else None, size) for size, of in given]
    flags = [place not in of for size, of in given for place in range(size)]
    joined = Visible.joined(parts)
    assert (joined is None) == all(flags)
    if joined is None:
        return
    assert [place in joined for place in range(joined.size)] == flags
    assert joined.count == sum(flags)
    first = min(first, joined.size - 1)
    size = min(size, joined.size - first)
    part = joined.part(first, size)
    shown = [place in part for place in range(size)] if part else [True] * size
    assert shown == flags[first : first + size]
    assert part is None or part.count == sum(shown)
    assert list(joined.after(first)) == [place for place, flag in enumerate(flags) if flag and place >= first]


def test_positions_are_kept_only_where_they_are_as_small_as_the_bits() -> None:
    few, many = (Visible.but_for(np.arange(64 * 100 - left), 64 * 100) for left in (100, 101))
    assert few.positions is few.positions
    assert many.positions is not many.positions
    assert many.positions.tolist() == [*range(64 * 100 - 101, 64 * 100)]


def test_bits_of_another_size_are_refused() -> None:
    with pytest.raises(ValueError, match="can't hold 9 bits"):
        Visible(np.zeros(1, np.uint8), 9, 0)


def test_the_nearest_of_two_batches_are_those_of_both() -> None:
    best = Neighbours([7, 3], [0.1, 0.4])
    found = nearest_of(best, np.array([9, 8]), np.array([0.2, 0.5], np.float32), 3)
    assert found.positions == [7, 9, 3]
    assert found.distances == pytest.approx([0.1, 0.2, 0.4])
    assert nearest_of(Neighbours([], []), np.array([1]), np.array([0.5], np.float32), 3) == ([1], [0.5])
