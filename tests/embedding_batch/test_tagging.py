"""Tags from the catalogue to the build: each item that has one is found by it, where the build has the item."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest

from embedding_batch.errors import CatalogueMalformed, VectorsMalformed
from embedding_batch.steps.publish import tagging
from embedding_batch.steps.publish.tagging import check_tags, encode_tags
from embedding_batch.steps.vectors import spool_vectors
from model_repository.documents.items.item_ids import ItemIds
from model_repository.documents.items.item_tags import ItemTags
from tests.embedding_batch.test_vectors import nowhere, parquet

if TYPE_CHECKING:
    from pathlib import Path

    from tests.embedding_batch.conftest import Shop


def lists(*rows: list[str] | None) -> pa.ChunkedArray:
    return pa.chunked_array([list(rows)], pa.list_(pa.string()))


def test_places_are_counted_through_all_partitions() -> None:
    encoded = encode_tags([lists(["brand=acme"], None, ["red", "tag=red"]), lists([], ["brand=acme", "brand=zeta"])])
    assert encoded is not None
    reference, data = encoded
    assert reference.names == ("brand", "tag")
    tags = ItemTags(data, reference.file, 5)
    assert [list(tags.places(tag)) for tag in ("brand=acme", "brand=zeta", "tag=red")] == [[0, 4], [4], [2]]


def test_a_build_of_items_without_tags_has_no_file_of_them() -> None:
    assert encode_tags([lists(None, []), lists(None)]) is None


def tag(shop: Shop, tags: dict[str, list[str]]) -> None:
    path = shop.folder / "catalogue.jsonl"
    lines: list[dict[str, Any]] = [json.loads(line) for line in path.open()]
    for line in lines:
        line.pop("tags", None)
        if line["id"] in tags:
            line["tags"] = tags[line["id"]]
    path.write_text("\n".join(map(json.dumps, lines)))


def found(shop: Shop, build: str) -> dict[str, set[str]]:
    """The ids of the items of each tag that is asked for, as the build's files have them."""
    manifest = shop.manifest(build)
    assert manifest.tags is not None
    read = {file.name: shop.store.read(f"{manifest.prefix}/{file.name}", limit=2**30).data for file in manifest.files}
    ids = [item for one in manifest.partitions for item in ItemIds(read[one.ids], one.ids)]
    tags = ItemTags(read[manifest.tags.file], manifest.tags.file, manifest.items)
    return {tag: {ids[place] for place in tags.places(tag)} for tag in ("brand=acme", "tag=sale")}


def test_the_batch_writes_todays_tags_also_where_nothing_else_changed(shop: Shop) -> None:
    tag(shop, {"chair-1": ["brand=acme"], "lamp-2": ["brand=acme", "sale"]})
    shop.batch("b1")
    assert found(shop, "b1") == {"brand=acme": {"chair-1", "lamp-2"}, "tag=sale": {"lamp-2"}}
    tag(shop, {"chair-1": ["sale"], "bed-1": ["brand=acme"]})
    shop.batch("b2")
    assert found(shop, "b2") == {"brand=acme": {"bed-1"}, "tag=sale": {"chair-1"}}


def test_a_tag_that_can_be_none_is_named_with_its_row_before_anything_is_done(shop: Shop) -> None:
    tag(shop, {"chair-2": ["category=chairs"]})
    with pytest.raises(CatalogueMalformed, match=r"catalogue.jsonl:2: 'tags' of 'chair-2' has one that can't be one"):
        shop.batch("b1")
    assert not shop.store.listing("indexes/")


def test_more_tags_than_an_index_may_have_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tagging, "TAGS_LIMIT", 2)
    check_tags(lists(["a", "b"], ["b"]), "here")
    with pytest.raises(CatalogueMalformed, match="here: 3 different tags, an index may have 2"):
        check_tags(lists(["a", "b"], ["c"]), "here")


def test_somebodys_own_vectors_have_tags_too(tmp_path: Path) -> None:
    path = parquet(tmp_path / "v.parquet", tags=[["brand=acme"], None, ["sale"]])
    chairs, lamps = spool_vectors(str(path), "", nowhere, tmp_path)
    assert chairs.tags_of(0, 2).to_pylist() == [None, ["brand=acme"]]  # by id
    assert lamps.tags_of(0, 1).to_pylist() == [["sale"]]


def test_tags_of_vectors_that_are_no_lists_of_texts_are_refused(tmp_path: Path) -> None:
    path = parquet(tmp_path / "v.parquet", tags=[1, 2, 3])
    with pytest.raises(VectorsMalformed, match=r"v\.parquet"):
        spool_vectors(str(path), "", nowhere, tmp_path)
