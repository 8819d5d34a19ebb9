"""The filter's data: what is refused, and that a filter is written so that its reader finds it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from model_repository.digests import sha256_digest
from model_repository.documents.items.item_filter import decode_hidden, make_filter, parse_item_filter
from model_repository.documents.items.item_ids import hash_item
from model_repository.errors import DocumentMalformed, ObjectMissing
from model_repository.names import Target
from model_repository.repository import read_hidden, read_live_filter, write_filter
from tests.memory_store import MemoryStore

TARGET = Target("production", "home")
MAGIC = 8
HEAD = 16


def test_a_filter_and_its_data_are_written_and_found() -> None:
    store = MemoryStore()
    with pytest.raises(ObjectMissing):
        read_live_filter(store, TARGET)
    first = write_filter(store, TARGET, ["b", "a", "b"], by="stock", reason="hourly")
    assert read_live_filter(store, TARGET) == first
    assert list(read_hidden(store, first)) == sorted({hash_item("a"), hash_item("b")})
    again = write_filter(store, TARGET, ["a", "b"], by="stock", reason="hourly")
    assert (again.filter, again.data) == (first.filter, first.data)
    assert again.generation != first.generation


def test_everything_may_be_shown_again() -> None:
    store = MemoryStore()
    live = write_filter(store, TARGET, [])
    assert live.filter.hidden == 0
    assert list(read_hidden(store, live)) == []


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda data: data[:-1], "should be 32 bytes"),
        (lambda data: data + b"\0", "should be 32 bytes"),
        (lambda data: data[:-1] + bytes([data[-1] ^ 1]), "should be 32 bytes with sha256:"),
    ],
    ids=["cut", "longer", "flipped"],
)
def test_data_that_are_not_what_the_filter_says_are_refused(spoil: Callable[[bytes], bytes], words: str) -> None:
    item_filter, data = make_filter(["a", "b"])
    with pytest.raises(DocumentMalformed, match=words):
        decode_hidden(spoil(data), item_filter, "filters/production/home/x.hidden")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda data: b"IDXIDS1\n" + data[MAGIC:], "expected the magic"),
        (lambda data: data[:MAGIC] + (3).to_bytes(8, "little") + data[HEAD:], "expected the magic .* and 2 items"),
        (lambda data: data[:HEAD] + data[HEAD + 8 :] + data[HEAD : HEAD + 8], "must ascend"),
        (lambda data: data[: HEAD + 8] + data[HEAD : HEAD + 8], "must ascend"),
    ],
    ids=["another-format", "another-count", "descending", "twice"],
)
def test_data_that_are_named_and_make_no_sense_are_refused(spoil: Callable[[bytes], bytes], words: str) -> None:
    item_filter, data = make_filter(["a", "b"])
    spoilt = spoil(data)
    named = parse_item_filter(
        b'{"schema_version": 1, "hidden": 2, "sha256": "%s"}' % sha256_digest(spoilt).encode(), TARGET
    )
    with pytest.raises(DocumentMalformed, match=words):
        decode_hidden(spoilt, named, "filters/production/home/x.hidden")
    assert named.size == item_filter.size


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"[]",
        b'{"schema_version": 1, "hidden": 1}',
        b'{"schema_version": 2, "hidden": 0, "sha256": "sha256:%s"}' % (b"0" * 64),
        b'{"schema_version": 1, "hidden": -1, "sha256": "sha256:%s"}' % (b"0" * 64),
        b'{"schema_version": 1, "hidden": 100000001, "sha256": "sha256:%s"}' % (b"0" * 64),
        b'{"schema_version": 1, "hidden": 1, "sha256": "%s"}' % (b"0" * 64),
        b'{"schema_version": 1, "hidden": 1, "sha256": "sha256:%s", "shown": 1}' % (b"0" * 64),
    ],
)
def test_a_filter_object_that_is_none_is_refused_by_its_name(text: bytes) -> None:
    with pytest.raises(DocumentMalformed, match=r"filters/production/home\.json"):
        parse_item_filter(text, TARGET)
