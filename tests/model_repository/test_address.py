"""Where an index answers: what may be told of it, and that those who read receipts alone are not in its way."""

from __future__ import annotations

import pytest

from model_repository.documents.receipts.address import Address, parse_url, parse_url_of_indexes, url_of
from model_repository.errors import DocumentMalformed, NameRefused
from model_repository.names import Target
from model_repository.repository import list_receipts, read_address, write_address, write_receipt
from tests import builds
from tests.memory_store import MemoryStore

TARGET = Target("production", "home-store")


def test_an_address_stands_beside_the_receipt_and_is_no_receipt() -> None:
    store = MemoryStore()
    write_receipt(store, builds.receipt(7, target=TARGET))
    write_address(store, Address(TARGET, 7, "http://home-store.search.svc"))
    assert list_receipts(store, TARGET) == [7]
    assert read_address(store, TARGET, 7).inside == "http://home-store.search.svc"


def test_the_first_address_of_a_commit_stands() -> None:
    store = MemoryStore()
    for inside in ("http://one.svc", "http://other.svc"):
        write_address(store, Address(TARGET, 7, inside))
    assert read_address(store, TARGET, 7).inside == "http://one.svc"


def test_an_address_that_belongs_elsewhere_is_refused() -> None:
    store = MemoryStore()
    write_address(store, Address(TARGET, 7, "http://one.svc"))
    data = store.read(TARGET.address_name(7), limit=10_000).data
    store.write(TARGET.address_name(8), data, if_generation_match=0)
    with pytest.raises(DocumentMalformed, match="belongs elsewhere"):
        read_address(store, TARGET, 8)


@pytest.mark.parametrize(
    "text",
    [
        "http://home-store.search.svc",
        "http://127.0.0.1:8080/",
        "https://search.example/home-store?a=b",
        "https://[::1]:80/",
    ],
)
def test_urls_of_http_are_taken(text: str) -> None:
    assert parse_url(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "javascript:alert(1)",
        "data:text/html,x",
        "//search.example",
        "http://",
        "http://user:word@search.example",
        "http://search.example:x",
        "https://[::1",
        "https://search.example/ x",
        "https://search.example/<b>",
        "https://se\u00e4rch.example",
        "https://search.example/" + "x" * 500,
        "ftp://search.example",
    ],
)
def test_what_is_no_url_of_http_is_refused(text: str) -> None:
    with pytest.raises(NameRefused, match="expected a URL"):
        parse_url(text)


def test_a_url_of_all_indexes_says_once_where_the_name_stands() -> None:
    assert url_of(parse_url_of_indexes("https://{index}.search.example/"), "bags") == "https://bags.search.example/"
    for text in ("https://search.example/", "https://{index}.example/{index}", "{index}"):
        with pytest.raises(NameRefused):
            parse_url_of_indexes(text)
