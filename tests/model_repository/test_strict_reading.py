"""Documents that anyone may have written: what isn't the contract ends in one clear error."""

from __future__ import annotations

import json
from typing import Any

import pytest

from model_repository.documents.commit import COMMIT_LIMIT, parse_commit
from model_repository.documents.index_manifest import INDEX_MANIFEST_LIMIT
from model_repository.documents.receipts.receipt import parse_receipt
from model_repository.errors import DocumentMalformed
from model_repository.fields import format_document, parse_document
from model_repository.names import IndexPrefix, Target

TARGET = Target("staging", "home")
PREFIX = IndexPrefix("home", "b1")


def commit(**changes: Any) -> bytes:
    return json.dumps({"index_prefix": "indexes/home/b1"} | changes).encode()


def receipt(**changes: Any) -> dict[str, Any]:
    return {
        "schema_version": 1,
        "environment": "staging",
        "index": "home",
        "generation": 5,
        "outcome": "served",
        "started": "2026-11-21T12:00:00Z",
        "finished": "2026-11-21T12:00:03.5+01:00",
    } | changes


def refused_commit(data: bytes) -> str:
    with pytest.raises(DocumentMalformed) as caught:
        parse_commit(data, TARGET)
    message = str(caught.value)
    assert message.startswith("commits/staging/home.json: ")
    assert len(message) < 400, "a person reads this"
    message.encode()  # and it can be written to a log
    return message


def test_a_commit_that_a_person_wrote_by_hand_is_enough() -> None:
    parsed = parse_commit(b'{"index_prefix": "indexes/home/b1"}', TARGET)
    assert parsed.index_prefix == PREFIX
    assert (parsed.by, parsed.reason, parsed.hold) == ("", "", False)


def test_a_typo_in_a_field_is_named_not_ignored() -> None:
    assert "unknown field 'index_prefx'" in refused_commit(commit(index_prefx="indexes/home/b2"))
    assert "field 'index_prefix' is missing" in refused_commit(b'{"index_prefx": "indexes/home/b1"}')


def test_a_field_that_stands_twice_is_refused() -> None:
    assert "stands twice" in refused_commit(b'{"index_prefix": "indexes/home/b1", "index_prefix": "indexes/home/b2"}')


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "not JSON"),
        (b"not json", "not JSON"),
        (b"{" * 10_000_000, "10000000 bytes, more than the 65536 allowed"),
        (b"{" * COMMIT_LIMIT, "not JSON"),
        (b'{"a":' * (COMMIT_LIMIT // 5), "nested too deeply"),
        (b"[" * COMMIT_LIMIT, "nested too deeply"),
        (b"\xef\xbb\xbf{}", "BOM"),
        (b"\xff\xfe{\x00}\x00", "not UTF-8 (byte 0)"),
        (b'{"index_prefix": "\xed\xa0\x80"}', "not UTF-8"),
        (b'{"hold": NaN}', "NaN is not JSON"),
        (b'{"hold": -Infinity}', "-Infinity is not JSON"),
        (b'{"hold": ' + b"9" * 5000 + b"}", "not JSON"),
        (b"[]", "expected an object, found a list"),
        (b'"indexes/home/b1"', "expected an object, found a string"),
        (b"null", "expected an object, found null"),
        (b'{"index_prefix": "indexes/home/b1"} {}', "not JSON"),
        (b"{'index_prefix': 'indexes/home/b1'}", "not JSON"),
        (b'{"index_prefix": "indexes/home/b1",}', "not JSON"),
    ],
)
def test_bytes_that_are_not_one_json_object_are_refused(data: bytes, says: str) -> None:
    assert says in refused_commit(data)


@pytest.mark.parametrize(
    "prefix",
    [
        "",
        "home/b1",
        "indexes/home",
        "indexes/home/b1/",
        "/indexes/home/b1",
        "indexes/home/b1/index.json",
        "indexes/home/..",
        "indexes/../models/lite",
        "indexes//b1",
        "indexes/home/.b1",
        "indexes/home/b1\n",
        "indexes/home/b1\u0000",
        "indexes/Home/b1",
        "indexes/home/b%31",
        "indexes/h\u043eme/b1",  # a Cyrillic o
        "gs://bucket/indexes/home/b1",
        "models/home/b1",
        "indexes/home/" + "b" * 64,
        "indexes/home/\ud800",
    ],
)
def test_path_tricks_in_a_prefix_are_refused(prefix: str) -> None:
    assert "index_prefix" in refused_commit(commit(index_prefix=prefix))


def test_a_commit_of_another_index_says_where_it_belongs() -> None:
    assert "commits/staging/garden.json" in refused_commit(commit(index_prefix="indexes/garden/b1"))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"index_prefix": 5}, "index_prefix: expected a string, found a number"),
        ({"index_prefix": None}, "index_prefix: expected a string, found null"),
        ({"hold": "true"}, "hold: expected true or false, found a string"),
        ({"hold": 1}, "hold: expected true or false, found a number"),
        ({"by": ["me"]}, "by: expected a string, found a list"),
        ({"by": "x" * 201}, "by: expected 0 to 200 printable characters"),
        ({"by": "me\u001b[31m"}, "by: expected 0 to 200 printable characters"),
        ({"reason": "two\nlines"}, "reason: expected"),
        ({"reason": "\ud800"}, "reason: expected"),
        ({"\ud800": 1}, "unknown field"),
        ({"x" * 10_000: 1}, "unknown field"),
        ({f"field{number}": 1 for number in range(100)}, "unknown field"),
    ],
)
def test_a_field_of_the_wrong_kind_is_named(changes: dict[str, Any], says: str) -> None:
    assert says in refused_commit(commit(**changes))


def test_the_example_here_is_right_before_it_is_broken() -> None:
    parsed = parse_receipt(json.dumps(receipt()).encode(), TARGET, 5)
    assert parsed.finished.isoformat() == "2026-11-21T11:00:03.500000+00:00"


def test_every_field_of_a_receipt_is_needed_and_no_other_is_taken() -> None:
    for field in receipt():
        rest = {name: value for name, value in receipt().items() if name != field}
        with pytest.raises(DocumentMalformed, match=field):
            parse_receipt(json.dumps(rest).encode(), TARGET, 5)
    with pytest.raises(DocumentMalformed, match="unknown field 'extra'"):
        parse_receipt(json.dumps(receipt(extra=1)).encode(), TARGET, 5)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"outcome": "fine"}, "outcome: 'fine'; this release knows served"),
        ({"generation": 6}, "must stand where it says"),
        ({"environment": "production"}, "must stand where it says"),
        ({"index_prefix": "indexes/home"}, "index_prefix"),
    ],
)
def test_a_receipt_that_belongs_elsewhere_is_refused(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(DocumentMalformed) as caught:
        parse_receipt(json.dumps(receipt(**changes)).encode(), TARGET, 5)
    assert says in str(caught.value)


def test_the_largest_manifest_of_braces_ends_in_an_error_too() -> None:
    for data in (b'{"a":' * (INDEX_MANIFEST_LIMIT // 5), b"[" * INDEX_MANIFEST_LIMIT, b"{" * INDEX_MANIFEST_LIMIT):
        with pytest.raises(DocumentMalformed):
            parse_document(data, "x", limit=INDEX_MANIFEST_LIMIT)


def test_what_utf_8_can_not_hold_is_written_so_that_a_reader_refuses_it_by_its_field() -> None:
    data = format_document({"reason": "\udce9"})
    assert data == b'{\n  "reason": "\\udce9"\n}\n'
    with pytest.raises(DocumentMalformed, match="reason: expected"):
        parse_document(data, "c.json", limit=100).text("reason", longest=10)
