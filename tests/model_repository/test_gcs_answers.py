"""What becomes of answers that a bucket of Google Cloud Storage, or something in its place, gives."""

from __future__ import annotations

import gzip
import threading
import urllib.request
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import urlsplit

import pytest
import requests
from google.auth.exceptions import RefreshError, TransportError

from model_repository.bucket.gcs_store import GcsStore
from model_repository.errors import (
    AccessDenied,
    BucketMissing,
    BucketRefused,
    BucketUnavailable,
    DocumentMalformed,
    GenerationConflict,
    Misconfigured,
)


@pytest.fixture
def far(monkeypatch: pytest.MonkeyPatch) -> GcsStore:
    """A bucket where nothing answers."""
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", "http://127.0.0.1:1")  # nothing listens on port 1
    return GcsStore("home", patience=0.1)


def answering(monkeypatch: pytest.MonkeyPatch, status: int, body: bytes = b"") -> None:
    """Whatever a bucket is asked, that is the answer."""

    def answer(_: requests.Session, method: str, __: str, **___: object) -> requests.Response:
        found = requests.Response()
        found.status_code, found.raw, found.request = (
            status,
            BytesIO(body),
            requests.Request(method, "http://h/").prepare(),
        )
        return found

    monkeypatch.setattr(requests.Session, "request", answer)


def said_to_be_compressed(bucket_server: str, bucket: str, data: bytes) -> GcsStore:
    """A bucket with c.json, of which it is said that it is gzip."""
    url = f"{bucket_server}/upload/storage/v1/b/{bucket}/o?uploadType=media&name=c.json&contentEncoding=gzip"
    with urllib.request.urlopen(urllib.request.Request(url, data, method="POST"), timeout=10):
        return GcsStore(bucket)


def lose_the_answer_to_the_first_write(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """It takes effect; gives the statuses of the answers that were lost."""
    send, lost = requests.Session.send, list[int]()

    def lossy(session: requests.Session, request: requests.PreparedRequest, **options: Any) -> requests.Response:
        answer = send(session, request, **options)
        if request.method == "POST" and not lost:
            lost.append(answer.status_code)
            raise requests.ConnectionError("the answer was lost", request=request)
        return answer

    monkeypatch.setattr(requests.Session, "send", lossy)
    return lost


@pytest.mark.parametrize("how", ["write", "upload"])
def test_a_write_whose_answer_was_lost_is_not_taken_for_somebody_elses(
    new_bucket: Callable[[], str], how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = GcsStore(new_bucket())
    lost = lose_the_answer_to_the_first_write(monkeypatch)
    (tmp_path / "f").write_bytes(b"mine")
    if how == "write":
        info = store.write("c.json", b"mine", if_generation_match=0)
    else:
        info = store.upload("c.json", tmp_path / "f", if_generation_match=0)
    assert lost == [200]
    assert info == store.stat("c.json")


def test_a_write_whose_answer_was_lost_is_lost_to_somebody_who_wrote_before(
    new_bucket: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = GcsStore(new_bucket())
    store.write("c.json", b"theirs", if_generation_match=0)
    lost = lose_the_answer_to_the_first_write(monkeypatch)
    with pytest.raises(GenerationConflict):
        store.write("c.json", b"mine", if_generation_match=0)
    assert lost == [412]


def test_the_bucket_is_asked_to_delete_the_generation_that_is_named_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", "http://127.0.0.1:1")
    asked = []

    def refuse(_: requests.Session, method: str, url: str, **__: object) -> requests.Response:
        asked.append((method, urlsplit(url).query))
        refused = requests.Response()
        refused.status_code, refused.raw, refused.request = 412, BytesIO(), requests.Request(method, url).prepare()
        return refused

    monkeypatch.setattr(requests.Session, "request", refuse)
    with pytest.raises(GenerationConflict, match=r"^c\.json: should still have generation 17"):
        GcsStore("home").delete("c.json", if_generation_match=17)
    [(method, query)] = asked
    assert method == "DELETE"
    assert "ifGenerationMatch=17" in query.split("&")


def test_a_bucket_that_is_not_there_is_named_when_it_is_listed_or_written_to(
    new_bucket: Callable[[], str], tmp_path: Path
) -> None:
    store = GcsStore(f"{new_bucket()}-gone")
    (tmp_path / "c.json").touch()
    for act in (
        lambda: store.listing("commits/"),
        lambda: store.folders("commits/"),
        lambda: store.write("c.json", b"", if_generation_match=0),
        lambda: store.upload("c.json", tmp_path / "c.json", if_generation_match=None),
    ):
        with pytest.raises(BucketMissing, match=f"gs://{store.bucket}: no such bucket"):
            act()


def test_a_write_asks_the_bucket_for_nothing_else(
    new_bucket: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    store, asked = GcsStore(new_bucket()), []
    request, before = requests.Session.request, set(threading.enumerate())

    def counted(self: requests.Session, method: str, url: str, **more: Any) -> requests.Response:
        asked.append(url)
        return request(self, method, url, **more)

    monkeypatch.setattr(requests.Session, "request", counted)
    store.write("c.json", b"", if_generation_match=0)
    for thread in set(threading.enumerate()) - before:
        thread.join()
    assert len(asked) == 1


@pytest.mark.parametrize("host", ["127.0.0.1:4443", "localhost:4443"])
def test_an_emulator_that_is_no_url_is_no_fault_that_may_pass(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", host)
    with pytest.raises(Misconfigured, match=f"must be a URL, such as http://{host}"):
        GcsStore("a-bucket")


def test_a_bucket_that_does_not_answer_may_answer_later(far: GcsStore) -> None:
    asked: list[tuple[str, Callable[[], object]]] = [
        ("c.json", lambda: far.read("c.json", limit=10)),
        ("commits/", lambda: far.listing("commits/")),
        ("c.json", lambda: far.write("c.json", b"", if_generation_match=0)),
    ]
    for name, act in asked:
        with pytest.raises(BucketUnavailable) as caught:
            act()
        assert str(caught.value) == f"{name}: no answer from 127.0.0.1:1 (Connection refused); it may pass"


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (("Compute Engine Metadata server unavailable",), BucketUnavailable),
        (("Status: 404", "no such service account"), AccessDenied),
    ],
)
def test_a_metadata_server_that_does_not_answer_may_answer_later_and_one_that_says_no_means_it(
    far: GcsStore, monkeypatch: pytest.MonkeyPatch, said: tuple[str, ...], expected: type[Exception]
) -> None:
    def no_token(*_: object, **__: object) -> NoReturn:  # as google.auth.compute_engine.credentials raises it
        raise RefreshError("no token") from TransportError(*said)

    monkeypatch.setattr(requests.Session, "request", no_token)
    for act in (lambda: far.read("c.json", limit=10), lambda: far.write("c.json", b"", if_generation_match=0)):
        with pytest.raises(expected, match=r"^c\.json: "):
            act()


def test_a_bucket_that_is_busy_says_so_whatever_it_is_asked(
    far: GcsStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    answering(monkeypatch, 503)
    (tmp_path / "c.json").touch()
    for act in (
        lambda: far.read("c.json", limit=10),
        lambda: far.stat("c.json"),
        lambda: far.listing("c.json"),
        lambda: far.write("c.json", b"", if_generation_match=0),
        lambda: far.upload("c.json", tmp_path / "c.json", if_generation_match=0),
        lambda: far.delete("c.json"),
    ):
        with pytest.raises(BucketUnavailable) as caught:
            act()
        assert str(caught.value) == "c.json: the bucket answered 503; it may pass"


def test_a_condition_that_nobody_made_is_no_conflict_but_a_fault_of_the_set_up(
    far: GcsStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A policy of the organisation, or a proxy, answers 412 too: a commit whose build is read then isn't refused."""
    answering(monkeypatch, 412)
    tries: list[Callable[[], object]] = [
        lambda: far.read("x", limit=10),
        lambda: far.download("x", tmp_path / "x"),
        lambda: far.stat("x"),
        lambda: far.listing("x/"),
        lambda: far.folders("x/"),
        lambda: far.write("x", b"1", if_generation_match=None),
        lambda: far.delete("x"),
    ]
    for attempt in tries:
        with pytest.raises(BucketRefused, match="the bucket answered 412"):
            attempt()
    with pytest.raises(GenerationConflict):
        far.write("x", b"1", if_generation_match=0)


def test_a_page_in_place_of_the_bucket_may_be_gone_later(
    far: GcsStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    answering(monkeypatch, 200, b"<html>")
    acts: tuple[Callable[[], object], ...] = (
        lambda: far.read("c.json", limit=10),
        lambda: far.download("c.json", tmp_path / "c.json"),
        lambda: far.read_range("c.json", 0, 3),
    )
    for act in acts:
        with pytest.raises(BucketUnavailable, match=r"c\.json: no answer from h \(.*a proxy"):
            act()


@pytest.mark.parametrize("data", [gzip.compress(b'{"a": 1}'), b'{"a": 1}'], ids=["is", "isn't"])
def test_an_object_that_says_it_is_compressed_is_read_unpacked_and_as_it_is_where_it_is_not(
    bucket_server: str, new_bucket: Callable[[], str], data: bytes
) -> None:
    store = said_to_be_compressed(bucket_server, new_bucket(), data)
    assert store.read("c.json", limit=100).data == b'{"a": 1}'


def test_what_unpacks_to_more_than_the_limit_is_refused_by_name(
    bucket_server: str, new_bucket: Callable[[], str]
) -> None:
    store = said_to_be_compressed(bucket_server, new_bucket(), gzip.compress(b"0" * 10_000_000))
    with pytest.raises(DocumentMalformed, match="more than the 20000 bytes allowed"):
        store.read("c.json", limit=20_000)
