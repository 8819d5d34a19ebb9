"""Vectors to Annoy files, and what is then known of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from annoy import AnnoyIndex
from numpy.typing import NDArray

from embedding_batch.errors import IndexUnsound
from embedding_batch.steps.building import LOOKUP, Built, Vectors, build, group
from embedding_batch.steps.catalogue import Item
from embedding_batch.steps.checking import check, spread
from model_repository.documents.item_ids import ItemIds, encode_item_lookup

DIMENSIONS = 16


def ignore(_: object) -> None:
    pass


def unit(count: int, seed: int = 1) -> NDArray[np.float32]:
    vectors = np.random.default_rng(seed).normal(size=(count, DIMENSIONS)).astype(np.float32)
    units: NDArray[np.float32] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return units


def content(category: str, count: int, seed: int = 1) -> Vectors:
    return Vectors(category, tuple(f"{category}-{number:05}" for number in range(count)), unit(count, seed))


def built(folder: Path, *contents: Vectors, trees: int = 10, workers: int = 2) -> Built:
    return build(folder, contents, trees=trees, seed=1, workers=workers, listener=ignore)


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_items_are_grouped_by_category_in_the_order_of_their_names() -> None:
    vectors = unit(3)
    items = [Item(item, category, Path(item)) for item, category in (("c", "X"), ("a", "Y"), ("b", "X"))]
    contents = group(items, vectors)
    assert [(one.category, one.ids) for one in contents] == [("X", ("b", "c")), ("Y", ("a",))]
    assert np.array_equal(contents[0].vectors, vectors[[2, 0]])


def test_the_same_vectors_give_the_same_bytes_on_any_number_of_cores(tmp_path: Path) -> None:
    contents = [content("a", 500), content("b", 300, 2), content("c", 700, 3)]
    built(tmp_path / "one", *contents, workers=1)
    built(tmp_path / "four", *contents, workers=4)
    assert files(tmp_path / "one") == files(tmp_path / "four")


def test_a_build_names_exactly_the_files_it_wrote(tmp_path: Path) -> None:
    assert sorted(built(tmp_path, content("a", 20), content("b", 1)).contents) == sorted(files(tmp_path))


def test_categories_may_have_any_name(tmp_path: Path) -> None:
    names = ("Möbel & mehr", "möbel, mehr", "椅子", "../../etc", "x" * 100)
    made = built(tmp_path, *(content(name, 3) for name in names))
    assert [partition.content.category for partition in made.partitions] == list(names)
    assert all(part.isascii() and ".." not in part for part in made.contents)
    check(made, listener=ignore)


def test_positions_lead_to_the_item_whose_vector_was_put_there(tmp_path: Path) -> None:
    given = content("a", 200)
    partition = built(tmp_path, given).partitions[0].partition
    index = AnnoyIndex(DIMENSIONS, "angular")
    index.load(str(tmp_path / partition.file))
    ids = ItemIds((tmp_path / partition.ids).read_bytes(), "ids")
    for row in (0, 7, 199):
        (nearest,) = index.get_nns_by_vector(given.vectors[row], 1)
        assert ids[nearest] == given.ids[row]


def test_recall_is_1_where_annoy_sees_everything(tmp_path: Path) -> None:
    recall = check(built(tmp_path, content("a", 10), content("b", 1)), listener=ignore).recall
    assert (recall.at, recall.value, recall.queries) == (10, 1.0, 11)


def test_too_few_trees_show_as_recall_and_more_trees_raise_it(tmp_path: Path) -> None:
    given = content("a", 5000)
    few = check(built(tmp_path / "few", given, trees=1), listener=ignore).recall.value
    many = check(built(tmp_path / "many", given, trees=100), listener=ignore).recall.value
    assert few < 0.3
    assert many > 0.9


def test_recall_is_what_an_exact_search_says_it_is(tmp_path: Path) -> None:
    given = content("a", 900)
    recall = check(built(tmp_path, given, trees=2), listener=ignore).recall
    index = AnnoyIndex(DIMENSIONS, "angular")
    index.load(str(tmp_path / "partitions/0000-a.annoy"))
    hits = 0
    for row in range(900):
        by_similarity = np.argsort(-(given.vectors @ given.vectors[row])).tolist()
        exact = [other for other in by_similarity if other != row][:10]
        found = [other for other in index.get_nns_by_item(row, 11) if other != row][:10]
        hits += len(set(exact) & set(found))
    assert recall.queries == 900
    assert recall.value == pytest.approx(hits / 9000, abs=1e-3)


def test_the_weakest_category_is_named(tmp_path: Path) -> None:
    checked = check(built(tmp_path, content("easy", 10), content("hard", 3000), trees=1), listener=ignore)
    assert checked.weakest[0] == "hard"


def test_items_that_are_twins_do_not_lower_recall(tmp_path: Path) -> None:
    twins = Vectors("a", tuple(map(str, range(60))), np.tile(unit(2), (30, 1)))
    assert check(built(tmp_path, twins), listener=ignore).recall.value == 1


def test_golden_queries_are_what_the_saved_files_answer(tmp_path: Path) -> None:
    golden = check(built(tmp_path, content("a", 200), content("b", 1), content("c", 5)), listener=ignore).golden_queries
    assert {query.category for query in golden} == {"a", "b", "c"}
    assert [query.item for query in golden if query.category == "a"] == ["a-00000", "a-00100", "a-00199"]
    for query in golden:
        assert query.neighbors[0] == query.item
        assert query.distances[0] == pytest.approx(0, abs=1e-3)
        assert list(query.distances) == sorted(query.distances)
        assert len(query.neighbors) == len(query.distances) == min(10, {"a": 200, "b": 1, "c": 5}[query.category])


def test_many_categories_share_the_golden_queries(tmp_path: Path) -> None:
    golden = check(built(tmp_path, *(content(f"{n:03}", 2) for n in range(250))), listener=ignore).golden_queries
    assert len(golden) == 200
    assert {golden[0].category, golden[-1].category} == {"000", "249"}


def test_an_annoy_file_with_other_items_is_noticed(tmp_path: Path) -> None:
    made = built(tmp_path, content("a", 50), content("b", 49))
    one, other = (tmp_path / partition.partition.file for partition in made.partitions)
    one.write_bytes(other.read_bytes())
    with pytest.raises(IndexUnsound, match="has 49 items, 50 were put in"):
        check(made, listener=ignore)


def test_an_annoy_file_that_was_cut_is_noticed(tmp_path: Path) -> None:
    made = built(tmp_path, content("a", 50))
    path = tmp_path / made.partitions[0].partition.file
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(IndexUnsound, match="can't read"):
        check(made, listener=ignore)


def test_item_ids_that_are_not_those_of_the_catalogue_are_noticed(tmp_path: Path) -> None:
    made = built(tmp_path, content("a", 50), content("b", 50))
    one, other = (tmp_path / partition.partition.ids for partition in made.partitions)
    kept = one.read_bytes()
    one.write_bytes(other.read_bytes())
    with pytest.raises(IndexUnsound, match="other ids than were put in"):
        check(made, listener=ignore)
    one.write_bytes(kept)
    (tmp_path / LOOKUP).write_bytes(encode_item_lookup([partition.content.ids for partition in made.partitions[::-1]]))
    with pytest.raises(IndexUnsound, match="doesn't find item 'a-00000'"):
        check(made, listener=ignore)


def test_positions_are_spread_evenly_and_once() -> None:
    assert spread(10, 3) == [0, 4, 9]
    assert spread(2, 3) == [0, 1]
    assert spread(1, 1) == [0]
    assert spread(0, 3) == []
