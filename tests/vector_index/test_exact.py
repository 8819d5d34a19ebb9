"""Exact search finds what comparing everything finds, and partitions that share a file see their own stretch alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from model_repository.documents.index_manifest import Engine, Partition
from tests import builds
from tests.vector_index.test_engines import DIMENSIONS, units
from vector_index import IndexFileUnsound, PartitionFiles, Visible
from vector_index.exact import ExactIndex, build_exact

SIZES = (1, 3, 1, 40, 2)


def partitions(**fields: object) -> list[Partition]:
    first, made = 0, []
    for items in SIZES:
        how = {"file": "small.exact", "engine": Engine.EXACT, "dimensions": DIMENSIONS, "first": first, **fields}
        made.append(builds.partition(0, f"of {items}", items, **how))
        first += items
    return made


def brute_force(vectors: NDArray[np.float32], query: NDArray[np.float32], shown: list[int]) -> list[float]:
    """The distances of those that may be found, nearest first, in double precision."""
    away = vectors[shown].astype(np.float64) - query / np.linalg.norm(query.astype(np.float64))
    return sorted(np.linalg.norm(away, axis=1).tolist())


@st.composite
def questions(draw: st.DrawFn) -> tuple[NDArray[np.float32], NDArray[np.float32], int, list[int]]:
    """Vectors of which some are twins, a query, how many are asked for, and which are hidden."""
    items, seed = draw(st.integers(1, 60)), draw(st.integers(0, 2**32 - 1))
    vectors = units(items, seed)[np.random.default_rng(seed).integers(0, items, items)]
    query = draw(st.sampled_from([*vectors, units(1, seed + 1)[0] * 7]))
    return vectors, query, draw(st.integers(1, items + 5)), draw(st.lists(st.integers(0, items - 1)))


@given(questions())
@settings(deadline=None)
def test_it_finds_what_comparing_all_of_them_finds(
    asked: tuple[NDArray[np.float32], NDArray[np.float32], int, list[int]],
) -> None:
    vectors, query, count, hidden = asked
    shown = [position for position in range(len(vectors)) if position not in hidden]
    for visible, among in (
        (None, list(range(len(vectors)))),
        (Visible.but_for(np.array(hidden, int), len(vectors)), shown),
    ):
        found = ExactIndex(vectors).nearest(query, count, 1, visible)
        assert found.distances == pytest.approx(brute_force(vectors, query, among)[:count], abs=1e-6)
        assert len(set(found.positions)) == len(found.positions) == min(count, len(among))
        assert set(found.positions) <= set(among)
        away = np.linalg.norm(vectors[found.positions] - query / np.linalg.norm(query), axis=1)
        assert found.distances == pytest.approx(away.tolist(), abs=1e-6)


def test_of_twins_the_first_comes_first() -> None:
    vectors = np.repeat(units(2), 3, axis=0)
    assert ExactIndex(vectors).nearest_to(4, 4, 1).positions[:3] == [3, 4, 5]
    assert ExactIndex(vectors).nearest_to(4, 4, 1).distances[:3] == [0, 0, 0]


def test_partitions_that_share_a_file_find_their_own_items_alone(tmp_path: Path) -> None:
    path, vectors, said = tmp_path / "small.exact", units(sum(SIZES)), partitions()
    build_exact(path, vectors)
    files = PartitionFiles(said)
    opened = [files.open(path, one) for one in said]
    for index, one in zip(opened, said, strict=True):
        own = vectors[one.first : one.first + one.items]
        assert len(index) == one.items
        assert sorted(index.nearest(units(1, 2)[0], 100, 1).positions) == list(range(one.items))
        assert [index.vector(position) for position in range(one.items)] == own.tolist()
        assert index.nearest_to(one.items - 1, 1, 1) == ([one.items - 1], [0.0])
    opened[0].close()  # the others keep the mapping
    assert len(opened[3].nearest_to(0, 40, 1).positions) == 40


def test_a_shared_file_with_more_or_fewer_vectors_than_its_partitions_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "small.exact"
    for count in (sum(SIZES) - 1, sum(SIZES) + 1):
        build_exact(path, units(count))
        with pytest.raises(IndexFileUnsound, match=f"small.exact: has {count} vectors of 24, index.json says 47 of 24"):
            PartitionFiles(partitions()).open(path, partitions()[0])


def test_bytes_after_the_vectors_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "small.exact"
    build_exact(path, units(sum(SIZES)))
    with path.open("ab") as file:
        file.write(b"\0" * 4 * DIMENSIONS)
    with pytest.raises(IndexFileUnsound, match="aren't 47 vectors of 24"):
        PartitionFiles(partitions()).open(path, partitions()[0])
