"""Item ids are mapped, not parsed; what is cut or foreign is refused when it is opened."""

from __future__ import annotations

import contextlib
import mmap
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_repository.documents.items import item_ids
from model_repository.documents.items.item_ids import ItemIds, ItemLookup, encode_item_ids, encode_item_lookup
from model_repository.errors import DocumentMalformed

ids = st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=20), max_size=50, unique=True)


@given(ids)
def test_ids_come_back_by_position(given_ids: list[str]) -> None:
    read = ItemIds(encode_item_ids(given_ids), "chair.ids")
    assert len(read) == len(given_ids)
    assert list(read) == given_ids
    assert [read[position] for position in reversed(range(len(read)))] == given_ids[::-1]


@given(ids, st.integers(min_value=0, max_value=50))
def test_every_id_is_found_where_it_stands_and_no_other_is(given_ids: list[str], cut: int) -> None:
    partitions = [given_ids[:cut], given_ids[cut:]]
    lookup = ItemLookup(encode_item_lookup(partitions), "items.lookup")
    assert len(lookup) == len(given_ids)
    for number, partition in enumerate(partitions):
        for position, item in enumerate(partition):
            assert (number, position) in list(lookup.find(item))
    assert list(lookup.find("an id that nobody has, longer than twenty characters")) == []


@given(ids, st.integers(0, 50), st.integers(0, 50))
def test_a_part_of_the_ids_is_as_a_file_of_its_own(given_ids: list[str], first: int, items: int) -> None:
    read = ItemIds(encode_item_ids(given_ids), "small.ids")
    if first + items > len(given_ids):
        with pytest.raises(IndexError):
            read.part(first, items)
        return
    part = read.part(first, items)
    assert list(part) == given_ids[first : first + items]
    for position in (-1, items):
        with pytest.raises(IndexError):
            part[position]
    assert len(read) == len(given_ids)


def test_a_position_that_is_not_there_is_an_index_error() -> None:
    read = ItemIds(encode_item_ids(["a", "b"]), "chair.ids")
    for position in (-1, 2, 10**30):
        with pytest.raises(IndexError):
            read[position]


def test_ids_that_share_a_hash_are_all_offered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(item_ids, "hash_item", len)
    partitions = [["aa", "b"], ["cc", "ddd", "ee"]]
    lookup = ItemLookup(encode_item_lookup(partitions), "items.lookup")
    places = list(lookup.find("cc"))
    assert places == [(0, 0), (1, 0), (1, 2)]
    assert [place for place in places if partitions[place[0]][place[1]] == "cc"] == [(1, 0)]


def test_an_item_in_two_categories_is_refused_when_the_lookup_is_made() -> None:
    with pytest.raises(ValueError, match="'a' stands twice"):
        encode_item_lookup([["a", "b"], ["c", "a"]])


def test_an_id_that_no_file_can_hold_is_not_found() -> None:
    lookup = ItemLookup(encode_item_lookup([["a"]]), "items.lookup")
    assert list(lookup.find("\ud800")) == []


@pytest.mark.parametrize("whole", [encode_item_ids(["chair-1", "chair-2"]), encode_item_ids([])])
def test_ids_that_were_cut_short_are_refused(whole: bytes) -> None:
    for length in range(len(whole)):
        with pytest.raises(DocumentMalformed, match=r"chair\.ids"):
            ItemIds(whole[:length], "chair.ids")


def test_ids_with_something_behind_them_are_refused() -> None:
    with pytest.raises(DocumentMalformed):
        ItemIds(encode_item_ids(["a"]) + b"x", "chair.ids")


def test_a_lookup_that_was_cut_short_is_refused() -> None:
    whole = encode_item_lookup([["a", "b"], ["c"]])
    for length in range(len(whole)):
        with pytest.raises(DocumentMalformed, match=r"items\.lookup"):
            ItemLookup(whole[:length], "items.lookup")


def test_the_one_kind_of_file_is_not_taken_for_the_other() -> None:
    with pytest.raises(DocumentMalformed, match="magic"):
        ItemIds(encode_item_lookup([["a"]]), "chair.ids")
    with pytest.raises(DocumentMalformed, match="magic"):
        ItemLookup(encode_item_ids(["a"]), "items.lookup")


@given(st.binary(max_size=100), st.sampled_from([b"IDXIDS1\n", b"IDXLKP1\n", b""]))
def test_no_bytes_crash_the_opening(rest: bytes, magic: bytes) -> None:
    for kind in (ItemIds, ItemLookup):
        with contextlib.suppress(DocumentMalformed):
            kind(magic + rest, "x")


def test_a_hundred_thousand_ids_are_open_at_once_and_read_anywhere(tmp_path: Path) -> None:
    many = [f"sku-{number:06}" for number in range(100_000)]
    ids_path, lookup_path = tmp_path / "all.ids", tmp_path / "items.lookup"
    ids_path.write_bytes(encode_item_ids(many))
    lookup_path.write_bytes(encode_item_lookup([many[:1000], many[1000:]]))
    with ids_path.open("rb") as ids_file, lookup_path.open("rb") as lookup_file:
        tracemalloc.start()
        read = ItemIds(mmap.mmap(ids_file.fileno(), 0, prot=mmap.PROT_READ), "all.ids")
        lookup = ItemLookup(mmap.mmap(lookup_file.fileno(), 0, prot=mmap.PROT_READ), "items.lookup")
        assert (read[0], read[99_999], read[12_345]) == ("sku-000000", "sku-099999", "sku-012345")
        assert list(lookup.find("sku-000999")) == [(0, 999)]
        assert list(lookup.find("sku-001000")) == [(1, 0)]
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 100_000, "opening must not parse: a byte for each id would be more"
