"""Tags are mapped, not parsed: whoever has one is found, and what is cut or foreign is refused when it is opened."""

from __future__ import annotations

from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_repository.documents.items.item_tags import ItemTags, encode_item_tags, parse_tag, tag_name
from model_repository.errors import DocumentMalformed, NameRefused

names = st.from_regex(r"[a-z][a-z0-9_]{0,10}", fullmatch=True).filter(lambda name: name not in {"k", "box", "limit"})
values = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=10)
tagged = st.dictionaries(
    st.builds("{}={}".format, names, values), st.lists(st.integers(0, 99), unique=True).map(sorted), max_size=20
)


def encoded(places: dict[str, list[int]]) -> bytes:
    return encode_item_tags({tag: array("I", its).tobytes() for tag, its in places.items()})


@given(tagged)
def test_whoever_has_a_tag_is_found(places: dict[str, list[int]]) -> None:
    read = ItemTags(encoded(places), "items.tags", 100)
    assert {tag: list(read.places(tag)) for tag in places} == places
    assert read.names == tuple(sorted({tag_name(tag) for tag in places}))
    assert list(read.places("brand=nobody has this one")) == []


def test_a_file_that_is_cut_or_foreign_is_refused() -> None:
    data = encoded({"brand=acme": [0, 5], "brand=zeta": [1]})
    for length in range(len(data)):
        with pytest.raises(DocumentMalformed):
            ItemTags(data[:length], "items.tags", 6)
    for other in (b"IDXLKP1\n" + data[8:], data + b"x", data[:8] + b"\xff" * 8 + data[16:]):
        with pytest.raises(DocumentMalformed):
            ItemTags(other, "items.tags", 6)


def test_places_that_the_index_does_not_have_are_refused() -> None:
    read = ItemTags(encoded({"brand=acme": [0, 5]}), "items.tags", 5)
    with pytest.raises(DocumentMalformed, match="beyond the index's 5 items"):
        read.places("brand=acme")


@pytest.mark.parametrize(
    ("given_text", "expected"),
    [
        ("brand=acme", "brand=acme"),
        ("brand=a=b", "brand=a=b"),
        ("rouge à lèvres", "tag=rouge à lèvres"),
        ("price_band=10-20 €", "price_band=10-20 €"),
    ],
)
def test_a_tag_has_a_name_and_a_value(given_text: str, expected: str) -> None:
    assert parse_tag(given_text) == expected


@pytest.mark.parametrize(
    "wrong", ["", "=acme", "brand=", "Brand=acme", "category=shoes", "k=3", "bränd=x", "brand=a\nb", "tag=" + "x" * 100]
)
def test_what_is_no_tag_is_refused_by_name(wrong: str) -> None:
    with pytest.raises(NameRefused, match="tag "):
        parse_tag(wrong)
