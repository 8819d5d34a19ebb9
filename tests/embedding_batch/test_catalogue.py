"""Reading what should be found."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedding_batch.errors import CatalogueMalformed
from embedding_batch.steps.catalogue import list_pictures, read_catalogue
from model_repository.documents.index_manifest import GoldenQuery, format_index_manifest, parse_index_manifest
from model_repository.documents.item_ids import ItemIds, ItemLookup, encode_item_ids, encode_item_lookup
from tests import builds


def write(folder: Path, *lines: object) -> Path:
    texts = (line if isinstance(line, str) else json.dumps(line) for line in lines)
    (folder / "catalogue.jsonl").write_text("\n".join(texts), encoding="utf-8")
    return folder


def line(item: str, **changes: object) -> dict[str, object]:
    return {"id": item, "category": "Chairs", "file": f"{item}.jpg", **changes}


def test_items_come_in_the_order_of_their_ids(tmp_path: Path) -> None:
    items = read_catalogue(write(tmp_path, line("b", name="more fields are the shop's own"), "", line("a")))
    assert [(item.id, item.category, item.picture) for item in items] == [
        ("a", "Chairs", tmp_path / "a.jpg"),
        ("b", "Chairs", tmp_path / "b.jpg"),
    ]


@pytest.mark.parametrize(
    ("wrong", "what"),
    [
        ("{not json", "not JSON"),
        ("[]", "expected an object"),
        (line("a"), "stands twice"),
        (line("b", category=""), "'category'"),
        (line("b", category=7), "'category'"),
        (line("b", category="c" * 101), "'category'"),
        ({**line("b"), "id": "b\n"}, "'id'"),
        (line("b" * 501), "'id'"),
        (line("b", category="Chairs\u2028"), "'category'"),
        (line("b", category="Chairs\u00a0"), "'category'"),
        ({"id": "b", "category": "Chairs"}, "'file'"),
        (line("b", file=""), "'file'"),
        (line("b", file="../secret.jpg"), "within the catalogue"),
        (line("b", file="/etc/passwd"), "within the catalogue"),
    ],
)
def test_a_wrong_line_is_named(tmp_path: Path, wrong: object, what: str) -> None:
    with pytest.raises(CatalogueMalformed, match=rf"catalogue\.jsonl:2: .*{what}"):
        read_catalogue(write(tmp_path, line("a"), wrong))


@given(item=st.text(max_size=501), category=st.text(max_size=101))
def test_what_a_catalogue_may_say_every_document_can_hold(
    item: str, category: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = write(tmp_path_factory.mktemp("shop"), line(item, category=category, file="a.jpg"))
    try:
        (read,) = read_catalogue(folder)
    except CatalogueMalformed:
        return
    golden = GoldenQuery(read.category, read.id, (read.id,), (0.0,))
    manifest = builds.index_manifest(partitions=(builds.partition(0, read.category, 1),), golden_queries=(golden,))
    assert parse_index_manifest(format_index_manifest(manifest), manifest.prefix) == manifest
    assert list(ItemIds(encode_item_ids([read.id]), "ids")) == [read.id]
    assert list(ItemLookup(encode_item_lookup([[read.id]]), "lookup").find(read.id)) == [(0, 0)]


def test_separators_of_lines_that_json_allows_may_stand_in_the_shop_s_own_fields(tmp_path: Path) -> None:
    raw = json.dumps(line("a", name="one\u2028two\u2029three\x85four"), ensure_ascii=False)
    (tmp_path / "catalogue.jsonl").write_bytes(("\ufeff" + raw + "\r\n").encode())
    assert [item.id for item in read_catalogue(tmp_path)] == ["a"]


def test_more_categories_than_a_build_may_have_are_refused_before_any_work(tmp_path: Path) -> None:
    lines = [line(f"{number:05}", category=str(number)) for number in range(9_999)]
    assert len(read_catalogue(write(tmp_path, *lines))) == 9_999
    with pytest.raises(CatalogueMalformed, match="10000 categories, more than the 9999"):
        read_catalogue(write(tmp_path, *lines, line("x", category="x")))


def test_an_empty_catalogue_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CatalogueMalformed, match="no items"):
        read_catalogue(write(tmp_path, ""))


def test_a_folder_without_a_catalogue_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CatalogueMalformed, match="can't be read"):
        read_catalogue(tmp_path / "nowhere")


def test_pictures_are_known_by_their_bytes_and_missing_ones_are_broken(tmp_path: Path) -> None:
    impossible = line("d", file="nul\0.jpg"), line("e", file="\ud800.jpg"), line("f", file="x" * 500)
    items = read_catalogue(write(tmp_path, line("a"), line("b"), line("c"), *impossible))
    (tmp_path / "a.jpg").write_bytes(b"one")
    (tmp_path / "c.jpg").mkdir()
    listing = list_pictures(items)
    assert [(entry.item.id, entry.sha256) for entry in listing.listed] == [("a", hashlib.sha256(b"one").digest())]
    assert [broken.item.id for broken in listing.broken] == ["b", "c", "d", "e", "f"]
    assert listing.items == 6
