"""Vectors to index files, and what is then known of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from embedding_batch.errors import IndexUnsound
from embedding_batch.method import Method
from embedding_batch.steps.build.building import BuiltPartition, Vectors, build
from embedding_batch.steps.build.checking import Checked, share
from embedding_batch.steps.build.checking import check as check_for
from embedding_batch.steps.build.tuning import spread, tune
from embedding_batch.steps.publish.publishing import _check_lookup
from model_repository.documents.index_manifest import Engine, Partition, Storage
from model_repository.documents.items.item_ids import ItemIds, encode_item_lookup
from vector_index import Neighbours, VectorIndex

DIMENSIONS = 16


def unit(count: int, seed: int = 1) -> NDArray[np.float32]:
    vectors = np.random.default_rng(seed).normal(size=(count, DIMENSIONS)).astype(np.float32)
    units: NDArray[np.float32] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return units


def content(category: str, count: int, seed: int = 1) -> Vectors:
    return Vectors(category, tuple(f"{category}-{number:05}" for number in range(count)), unit(count, seed))


HNSW = [Method(Engine.FAISS_HNSW, storage) for storage in Storage]
METHODS = [Method(), *HNSW]
every_method = pytest.mark.parametrize("method", METHODS, ids=lambda method: f"{method.engine}-{method.storage}")


@dataclass(frozen=True, slots=True)
class Built:
    """Partitions of one index, in a folder."""

    folder: Path
    partitions: tuple[BuiltPartition, ...]


def built(folder: Path, *contents: Vectors, method: Method = Method(trees=10)) -> Built:  # noqa: B008
    return Built(folder, tuple(build(folder, number, one, method) for number, one in enumerate(contents)))


def check(made: Built, recall: float = 0.95) -> list[Checked]:
    """What is known of each partition, as parts of one index."""
    sizes = [len(partition.content.ids) for partition in made.partitions]
    return [
        check_for(made.folder, partition, 0, recall=recall, its=share(number, len(sizes), size, sum(sizes)))
        for number, (partition, size) in enumerate(zip(made.partitions, sizes, strict=True))
    ]


def partitions(made: Built, recall: float = 0.95) -> list[Partition]:
    return [checked.partition for checked in check(made, recall)]


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


class Counted:
    """An index, and how widely it was searched."""

    def __init__(self, index: VectorIndex) -> None:
        self._index = index
        self.asked: list[int] = []

    def nearest(self, vector: NDArray[np.float32], k: int, width: int) -> Neighbours:
        self.asked.append(width)
        return self._index.nearest(vector, k, width)

    def nearest_to(self, position: int, k: int, width: int) -> Neighbours:
        self.asked.append(width)
        return self._index.nearest_to(position, k, width)

    def widths(self) -> list[int]:
        return sorted(set(self.asked))


@every_method
def test_the_same_vectors_give_the_same_bytes_whatever_is_built_beside_them(tmp_path: Path, method: Method) -> None:
    contents = [content("a", 500), content("b", 300, 2), content("c", 700, 3)]
    built(tmp_path / "one", *contents, method=method)
    for number in (2, 0, 1):
        build(tmp_path / "other", number, contents[number], method)
    assert files(tmp_path / "one") == files(tmp_path / "other")


def test_a_build_names_exactly_the_files_it_wrote(tmp_path: Path) -> None:
    made = built(tmp_path, content("a", 20), content("b", 1))
    named = [name for partition in made.partitions for name in (partition.file, partition.ids)]
    assert sorted(named) == sorted(files(tmp_path))


def test_categories_may_have_any_name(tmp_path: Path) -> None:
    names = ("Möbel & mehr", "möbel, mehr", "椅子", "../../etc", "x" * 100)
    made = built(tmp_path, *(content(name, 3) for name in names))
    assert [partition.content.category for partition in made.partitions] == list(names)
    assert all(name.isascii() and ".." not in name for name in files(tmp_path))
    check(made)


@every_method
def test_positions_lead_to_the_item_whose_vector_was_put_there(tmp_path: Path, method: Method) -> None:
    given = content("a", 200)
    partition = built(tmp_path, given, method=method).partitions[0]
    index = partition.open(tmp_path)
    ids = ItemIds((tmp_path / partition.ids).read_bytes(), "ids")
    for row in (0, 7, 199):
        (nearest,) = index.nearest(given.vectors[row], 1, 100).positions
        assert ids[nearest] == given.ids[row]


@every_method
def test_recall_is_1_where_everything_is_seen(tmp_path: Path, method: Method) -> None:
    found = partitions(built(tmp_path, content("a", 10), content("b", 1), method=method))
    assert [(one.recall.at, one.recall.value) for one in found] == [(10, 1.0), (10, 1.0)]


@every_method
@pytest.mark.parametrize("asked", [0.5, 0.95, 0.99])
def test_it_is_found_out_how_widely_to_look_for_the_recall_that_is_asked(
    tmp_path: Path, method: Method, asked: float
) -> None:
    (partition,) = partitions(built(tmp_path, content("a", 3000), method=method), asked)
    assert partition.recall.value >= min(asked, 0.97 if method.storage is Storage.INT8 else 1)
    assert partition.queries_per_second is not None
    assert partition.queries_per_second > 0


def test_more_recall_is_paid_for_by_looking_more_widely(tmp_path: Path) -> None:
    made = built(tmp_path, content("a", 5000), method=Method(trees=2))
    little, much = (partitions(made, asked)[0] for asked in (0.3, 0.95))
    assert little.width < much.width / 3
    assert little.recall.value < 0.6
    assert much.recall.value >= 0.95


def test_where_no_width_finds_what_is_asked_the_widest_is_taken_and_its_recall_told(tmp_path: Path) -> None:
    rough = Method(Engine.FAISS_HNSW, Storage.INT8)
    (partition,) = partitions(built(tmp_path, content("a", 3000), method=rough), 1.0)
    assert partition.width == 3000
    assert 0.9 < partition.recall.value < 1


@pytest.mark.parametrize("near", [1, 200, 10**6], ids=["too-narrow", "the-first", "too-wide"])
def test_a_guess_of_the_width_saves_trials_and_finds_the_same(tmp_path: Path, near: int) -> None:
    made = built(tmp_path, content("a", 5000), method=Method(trees=2))
    index, vectors = made.partitions[0].open(tmp_path), made.partitions[0].content.vectors
    asked = {"queries": 100, "recall": 0.9, "narrowest": 20, "widest": 10_000}
    searched = Counted(index)
    without = tune(searched, vectors, **asked)
    trials = searched.widths()
    assert len(trials) > 4
    assert tune(index, vectors, **asked, near=near).width == without.width
    searched.asked.clear()
    assert tune(searched, vectors, **asked, near=without.width).recall == without.recall
    assert searched.widths() == trials[-2:]
    searched.asked.clear()
    enough = asked | {"recall": without.recall.value - 0.005}
    assert tune(searched, vectors, **enough, near=without.width).recall == without.recall
    assert searched.widths() == [without.width]


def test_a_width_that_can_not_find_what_is_asked_any_more_is_given_up(tmp_path: Path) -> None:
    made = built(tmp_path, content("a", 3000), method=Method(trees=2))
    searched = Counted(made.partitions[0].open(tmp_path))
    found = tune(searched, made.partitions[0].content.vectors, queries=100, recall=0.9, narrowest=20, widest=6000)
    assert searched.asked.count(20) < found.recall.queries == searched.asked.count(found.width)


def test_recall_is_what_an_exact_search_says_it_is(tmp_path: Path) -> None:
    given = content("a", 900)
    made = built(tmp_path, given, method=Method(trees=2))
    (partition,) = partitions(made, 0.1)
    index = made.partitions[0].open(tmp_path)
    hits = 0
    for row in range(900):
        by_similarity = np.argsort(-(given.vectors @ given.vectors[row])).tolist()
        exact = [other for other in by_similarity if other != row][:10]
        found = [other for other in index.nearest_to(row, 11, partition.width).positions if other != row][:10]
        hits += len(set(exact) & set(found))
        between = given.vectors[row] + given.vectors[exact[9]]
        exact = np.argsort(-(given.vectors @ between)).tolist()[:10]
        hits += len(set(exact) & set(index.nearest(between, 10, partition.width).positions))
    assert partition.recall.queries == 1800
    assert partition.recall.value == pytest.approx(hits / 18000, abs=1e-3)


@every_method
def test_items_that_are_twins_do_not_lower_recall(tmp_path: Path, method: Method) -> None:
    twins = Vectors("a", tuple(map(str, range(60))), np.tile(unit(2), (30, 1)))
    assert partitions(built(tmp_path, twins, method=method))[0].recall.value == 1


@every_method
def test_two_items_that_are_opposites_have_nothing_between_them_and_are_found(tmp_path: Path, method: Method) -> None:
    opposites = Vectors("a", ("a", "b"), np.concatenate([unit(1), -unit(1)]))
    (partition,) = partitions(built(tmp_path, opposites, method=method))
    assert (partition.recall.value, partition.recall.queries) == (1, 2)


@every_method
def test_golden_queries_are_what_the_saved_files_answer(tmp_path: Path, method: Method) -> None:
    contents = content("a", 200), content("b", 1), content("c", 5)
    golden = [one for of in check(built(tmp_path, *contents, method=method)) for one in of.golden_queries]
    assert {query.category for query in golden} == {"a", "b", "c"}
    assert [query.item for query in golden if query.category == "a"] == ["a-00000", "a-00100", "a-00199"]
    for query in golden:
        assert query.neighbors[0] == query.item
        assert query.distances[0] == pytest.approx(0, abs=1e-3)
        assert list(query.distances) == sorted(query.distances)
        assert len(query.neighbors) == len(query.distances) == min(10, {"a": 200, "b": 1, "c": 5}[query.category])


def test_many_categories_share_the_golden_queries(tmp_path: Path) -> None:
    checked = check(built(tmp_path, *(content(f"{n:03}", 2) for n in range(250))))
    golden = [query for one in checked for query in one.golden_queries]
    assert len(golden) == 200
    assert {golden[0].category, golden[-1].category} == {"000", "249"}


def test_the_queries_of_an_index_are_shared_by_size_and_each_partition_has_some() -> None:
    shares = [share(number, 3, size, 100_000) for number, size in enumerate((89_990, 10_000, 10))]
    assert [one.queries for one in shares] == [900, 100, 20]
    assert [one.golden for one in shares] == [3, 3, 3]
    assert sum(share(number, 9_999, 1, 9_999).golden for number in range(9_999)) == 200


@every_method
def test_a_file_with_other_items_is_noticed(tmp_path: Path, method: Method) -> None:
    made = built(tmp_path, content("a", 50), content("b", 49), method=method)
    one, other = (tmp_path / partition.file for partition in made.partitions)
    one.write_bytes(other.read_bytes())
    with pytest.raises(IndexUnsound, match=r"has 49 (items|vectors of 16), index.json says 50"):
        check(made)


@every_method
def test_a_file_that_was_cut_is_noticed(tmp_path: Path, method: Method) -> None:
    made = built(tmp_path, content("a", 50), method=method)
    path = tmp_path / made.partitions[0].file
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(IndexUnsound, match="can't read"):
        check(made)


def test_item_ids_that_are_not_those_of_the_catalogue_are_noticed(tmp_path: Path) -> None:
    made = built(tmp_path, content("a", 50), content("b", 50))
    one, other = (tmp_path / partition.ids for partition in made.partitions)
    one.write_bytes(other.read_bytes())
    with pytest.raises(IndexUnsound, match="other ids than were put in"):
        check(made)


def test_a_lookup_that_leads_elsewhere_is_noticed() -> None:
    ids = [["a-0", "a-1"], ["b-0"]]
    _check_lookup(encode_item_lookup(ids), ids)
    with pytest.raises(IndexUnsound, match=r"items\.lookup: doesn't find item 'a-0'"):
        _check_lookup(encode_item_lookup(ids[::-1]), ids)


def test_positions_are_spread_evenly_and_once() -> None:
    assert spread(10, 3) == [0, 4, 9]
    assert spread(2, 3) == [0, 1]
    assert spread(1, 1) == [0]
    assert spread(0, 3) == []
