"""The list of items, before anything is known of their pictures."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedding_batch.errors import CatalogueMalformed
from embedding_batch.sources import CATALOGUE_SCHEMA, read_catalogue
from embedding_batch.state.items import SAID, gather_items
from model_repository.documents.index_manifest import GoldenQuery, format_index_manifest, parse_index_manifest
from model_repository.documents.items.item_ids import ItemIds, ItemLookup, encode_item_ids, encode_item_lookup
from tests import builds


def batches(*groups: list[tuple[str, str]]) -> Iterator[pa.RecordBatch]:
    """Batches of rows (id, category), as a source gives them."""
    for group in groups:
        rows = [{"id": item, "category": category, "picture": f"/{item}.jpg"} for item, category in group]
        yield pa.RecordBatch.from_pylist(rows, CATALOGUE_SCHEMA)


def gather(*groups: list[tuple[str, str]], most_categories: int = 9) -> pa.Table:
    return gather_items(batches(*groups), "shop", most_categories)


def test_items_come_in_the_order_of_their_ids_whatever_the_order_of_the_source() -> None:
    items = gather([("c", "Chairs"), ("a", "Lamps")], [("b", "Beds"), ("é", "Lamps"), ("Z", "Chairs")])
    assert items.schema.equals(SAID)
    assert items["id"].to_pylist() == ["Z", "a", "b", "c", "é"]
    assert items["category"].to_pylist() == ["Chairs", "Lamps", "Beds", "Chairs", "Lamps"]
    assert items["picture"].to_pylist() == ["/Z.jpg", "/a.jpg", "/b.jpg", "/c.jpg", "/é.jpg"]


def test_texts_that_are_more_than_2_gib_in_all_have_room() -> None:
    assert {name: SAID.field(name).type for name in ("picture", "version")} == dict.fromkeys(
        ("picture", "version"), pa.large_string()
    )


@pytest.mark.parametrize(
    "groups", [[[("a", "x"), ("b", "x"), ("a", "y")]], [[("a", "x")], [("b", "x")], [("a", "x")]]], ids=["one", "three"]
)
def test_an_id_that_stands_twice_is_named_also_where_it_comes_in_different_batches(
    groups: list[list[tuple[str, str]]],
) -> None:
    with pytest.raises(CatalogueMalformed, match="shop: the id 'a' stands twice"):
        gather(*groups)


def test_as_many_categories_as_an_index_may_have_are_taken_and_one_more_is_refused() -> None:
    nine = [(str(number), str(number)) for number in range(9)]
    assert gather(nine, nine[:0]).num_rows == 9
    with pytest.raises(CatalogueMalformed, match="shop: more than the 9 categories"):
        gather(nine, [("x", "x")])


def test_too_many_categories_are_refused_while_the_source_is_read_and_not_after_it() -> None:
    read = []

    def endless() -> Iterator[pa.RecordBatch]:
        for number in range(1000):
            read.append(number)
            yield from batches([(str(number), str(number))])

    with pytest.raises(CatalogueMalformed):
        gather_items(endless(), "shop", 9)
    assert len(read) == 10


def test_no_items_are_refused() -> None:
    with pytest.raises(CatalogueMalformed, match="shop: has no items"):
        gather()


@given(item=st.text(max_size=501), category=st.text(max_size=101))
def test_what_a_catalogue_may_say_every_document_can_hold(
    item: str, category: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("shop")
    line = json.dumps({"id": item, "category": category, "file": "a.jpg"})
    (folder / "catalogue.jsonl").write_text(line, encoding="utf-8")
    try:
        (read,) = gather_items(read_catalogue(str(folder)), str(folder), 9).to_pylist()
    except CatalogueMalformed:
        return
    golden = GoldenQuery(read["category"], read["id"], (read["id"],), (0.0,))
    partition = builds.partition(0, read["category"], 1)
    manifest = builds.index_manifest(partitions=(partition,), golden_queries=(golden,))
    assert parse_index_manifest(format_index_manifest(manifest), manifest.prefix) == manifest
    assert list(ItemIds(encode_item_ids([read["id"]]), "ids")) == [read["id"]]
    assert list(ItemLookup(encode_item_lookup([[read["id"]]]), "lookup").find(read["id"])) == [(0, 0)]
