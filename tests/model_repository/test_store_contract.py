"""One contract, two buckets: the one in memory must behave as the real server does."""

from __future__ import annotations

import gzip
import threading
import urllib.request
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import urlsplit

import google_crc32c
import pytest
import requests
from google.auth.exceptions import RefreshError, TransportError

from model_repository.bucket.gcs_store import GcsStore
from model_repository.bucket.store import Store
from model_repository.digests import format_crc32c, parse_crc32c
from model_repository.errors import (
    AccessDenied,
    BucketMissing,
    BucketRefused,
    BucketUnavailable,
    DocumentMalformed,
    GenerationConflict,
    Misconfigured,
    NameRefused,
    ObjectMissing,
)
from model_repository.names import parse_bucket_url
from tests.memory_store import MemoryStore


@pytest.fixture(params=["memory", "gcs"])
def store(request: pytest.FixtureRequest) -> Store:
    if request.param == "memory":
        return MemoryStore("a-bucket")
    new_bucket: Callable[[], str] = request.getfixturevalue("new_bucket")
    return GcsStore(new_bucket())


def test_what_was_written_is_read_back_with_its_generation(store: Store) -> None:
    written = store.write("commits/staging/home.json", b"{}", if_generation_match=0)
    read = store.read("commits/staging/home.json", limit=100)
    assert (read.name, read.data, read.generation) == ("commits/staging/home.json", b"{}", written.generation)


def test_a_write_tells_size_crc32c_and_time(store: Store) -> None:
    before = datetime.now(UTC) - timedelta(seconds=5)
    info = store.write("a/b.bin", b"hello", if_generation_match=None)
    assert (info.name, info.size) == ("a/b.bin", 5)
    assert info.crc32c == format_crc32c(google_crc32c.value(b"hello"))
    assert before < info.updated < datetime.now(UTC) + timedelta(seconds=5)
    assert info.updated.tzinfo is not None


def test_stat_and_listing_say_what_the_write_said(store: Store) -> None:
    written = store.write("a/b.bin", b"hello", if_generation_match=None)
    assert store.stat("a/b.bin") == written
    assert store.listing("a/") == [written]


def test_an_empty_object_is_an_object(store: Store) -> None:
    written = store.write("a/empty", b"", if_generation_match=0)
    assert written.size == 0
    assert parse_crc32c(written.crc32c) == 0
    assert store.read("a/empty", limit=0).data == b""


def test_every_write_of_a_name_has_a_generation_of_its_own_even_with_the_same_bytes(store: Store) -> None:
    generations = [store.write("c.json", b"{}", if_generation_match=None).generation for _ in range(5)]
    assert len(set(generations)) == 5
    assert min(generations) > 0
    assert store.read("c.json", limit=10).generation == generations[-1]


def test_a_write_that_expects_nothing_is_refused_when_something_is_there(store: Store) -> None:
    store.write("receipt.json", b"first", if_generation_match=0)
    with pytest.raises(GenerationConflict, match=r"receipt\.json"):
        store.write("receipt.json", b"second", if_generation_match=0)
    assert store.read("receipt.json", limit=100).data == b"first"


def test_a_write_replaces_the_generation_it_names_and_no_other(store: Store) -> None:
    first = store.write("c.json", b"1", if_generation_match=0)
    second = store.write("c.json", b"2", if_generation_match=first.generation)
    assert second.generation != first.generation
    with pytest.raises(GenerationConflict):
        store.write("c.json", b"3", if_generation_match=first.generation)
    assert store.read("c.json", limit=10).data == b"2"


def test_a_write_that_expects_a_generation_is_refused_when_nothing_is_there(store: Store) -> None:
    with pytest.raises(GenerationConflict):
        store.write("c.json", b"1", if_generation_match=12345)


def test_a_file_is_uploaded_as_a_write_would(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "vectors.annoy"
    path.write_bytes(bytes(range(256)) * 1000)
    info = store.upload("indexes/home/b1/vectors.annoy", path, if_generation_match=0)
    assert info.size == 256_000
    assert info.crc32c == format_crc32c(google_crc32c.value(path.read_bytes()))
    assert store.read(info.name, limit=256_000).data == path.read_bytes()
    with pytest.raises(GenerationConflict):
        store.upload(info.name, path, if_generation_match=0)


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


def test_an_object_is_downloaded_into_a_file(store: Store, tmp_path: Path) -> None:
    data = bytes(range(256)) * 5000
    store.write("features/key/part", data, if_generation_match=0)
    store.download("features/key/part", tmp_path / "part")
    assert (tmp_path / "part").read_bytes() == data
    with pytest.raises(ObjectMissing, match="features/key/nothing"):
        store.download("features/key/nothing", tmp_path / "nothing")


def test_a_stretch_of_an_object_is_read_as_far_as_there_is_one(store: Store) -> None:
    data = bytes(range(256)) * 5000
    store.write("features/key/part", data, if_generation_match=0)
    for start, size in (
        (0, 1),
        (1000, 300_000),
        (0, len(data)),
        (len(data) - 3, 3),
        (len(data) - 3, 9),
        (len(data), 1),
    ):
        assert store.read_range("features/key/part", start, size) == data[start : start + size]
    with pytest.raises(ObjectMissing, match="features/key/nothing"):
        store.read_range("features/key/nothing", 0, 1)


def test_a_deleted_object_is_gone_and_may_be_deleted_again(store: Store) -> None:
    store.write("features/key/part", b"1", if_generation_match=0)
    for _ in range(2):
        store.delete("features/key/part")
        assert store.stat("features/key/part") is None


def test_of_an_object_only_the_generation_that_is_named_is_deleted() -> None:
    store = MemoryStore("a-bucket")  # the bucket server of the tests deletes whatever is there
    first = store.write("c.json", b"1", if_generation_match=0)
    second = store.write("c.json", b"2", if_generation_match=first.generation)
    with pytest.raises(GenerationConflict, match=r"^c\.json: "):
        store.delete("c.json", if_generation_match=first.generation)
    assert store.stat("c.json") == second
    for _ in range(2):
        store.delete("c.json", if_generation_match=second.generation)
        assert store.stat("c.json") is None


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


def test_reading_what_is_not_there_names_it(store: Store) -> None:
    with pytest.raises(ObjectMissing, match=r"commits/staging/nothing\.json"):
        store.read("commits/staging/nothing.json", limit=10)
    assert store.stat("commits/staging/nothing.json") is None
    assert store.listing("commits/") == []
    assert store.folders("commits/") == []


def test_an_object_over_the_limit_is_refused_by_name(store: Store) -> None:
    store.write("big.json", b"x" * 1001, if_generation_match=0)
    assert len(store.read("big.json", limit=1001).data) == 1001
    with pytest.raises(DocumentMalformed, match=r"big\.json.*1000"):
        store.read("big.json", limit=1000)
    with pytest.raises(DocumentMalformed) as refused:
        store.read("big.json", limit=10)
    assert refused.value.generation == store.read("big.json", limit=1001).generation


def test_a_listing_is_by_name_and_of_the_prefix_alone(store: Store) -> None:
    for name in ("indexes/home/b2/x", "indexes/home/b10/x", "indexes/home/b2/a/y", "models/m/1/x"):
        store.write(name, b"1", if_generation_match=0)
    assert [info.name for info in store.listing("indexes/home/b2/")] == ["indexes/home/b2/a/y", "indexes/home/b2/x"]
    assert [info.name for info in store.listing("indexes/")] == [
        "indexes/home/b10/x",
        "indexes/home/b2/a/y",
        "indexes/home/b2/x",
    ]


def test_a_listing_may_leave_out_what_is_in_folders_below(store: Store) -> None:
    for name in ("filters/test/home.json", "filters/test/home/1.json", "filters/test/toys.json"):
        store.write(name, b"1", if_generation_match=0)
    found = store.listing("filters/test/", deep=False)
    assert [info.name for info in found] == ["filters/test/home.json", "filters/test/toys.json"]
    assert found[0] == store.stat("filters/test/home.json")


def test_folders_are_the_next_parts_of_names(store: Store) -> None:
    for name in ("indexes/home/b1/x", "indexes/home/b2/x", "indexes/home/b2/y", "indexes/home/readme"):
        store.write(name, b"1", if_generation_match=0)
    assert store.folders("indexes/home/") == ["indexes/home/b1/", "indexes/home/b2/"]
    assert store.folders("indexes/") == ["indexes/home/"]


def test_a_listing_of_many_objects_is_whole(store: Store) -> None:
    names = [f"indexes/home/b1/part-{number:03}" for number in range(30)]
    for name in names:
        store.write(name, b"", if_generation_match=0)
    assert [info.name for info in store.listing("indexes/home/b1/")] == names


def test_a_bucket_is_named_by_a_url_without_a_path() -> None:
    for url in ("home", "gs://", "gs://home/indexes", "https://home", "s3://home"):
        with pytest.raises(NameRefused, match="gs://<bucket>"):
            parse_bucket_url(url)


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


def test_a_bucket_that_does_not_answer_may_answer_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", "http://127.0.0.1:1")  # nothing listens on port 1
    store = GcsStore("home", patience=0.1)
    asked: list[tuple[str, Callable[[], object]]] = [
        ("c.json", lambda: store.read("c.json", limit=10)),
        ("commits/", lambda: store.listing("commits/")),
        ("c.json", lambda: store.write("c.json", b"", if_generation_match=0)),
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
    monkeypatch: pytest.MonkeyPatch, said: tuple[str, ...], expected: type[Exception]
) -> None:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", "http://127.0.0.1:1")
    store = GcsStore("home", patience=0.1)

    def no_token(*_: object, **__: object) -> NoReturn:  # as google.auth.compute_engine.credentials raises it
        raise RefreshError("no token") from TransportError(*said)

    monkeypatch.setattr(requests.Session, "request", no_token)
    for act in (lambda: store.read("c.json", limit=10), lambda: store.write("c.json", b"", if_generation_match=0)):
        with pytest.raises(expected, match=r"^c\.json: "):
            act()


def test_a_bucket_that_is_busy_says_so_whatever_it_is_asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", "http://127.0.0.1:1")
    store = GcsStore("home", patience=0.1)
    busy = requests.Response()
    busy.status_code, busy.raw, busy.request = 503, BytesIO(), requests.Request("GET", "http://h/").prepare()
    assert busy.content == b""  # read once, so that it can be answered again
    monkeypatch.setattr(requests.Session, "request", lambda *_, **__: busy)
    (tmp_path / "c.json").touch()
    for act in (
        lambda: store.read("c.json", limit=10),
        lambda: store.stat("c.json"),
        lambda: store.listing("c.json"),
        lambda: store.write("c.json", b"", if_generation_match=0),
        lambda: store.upload("c.json", tmp_path / "c.json", if_generation_match=0),
        lambda: store.delete("c.json"),
    ):
        with pytest.raises(BucketUnavailable) as caught:
            act()
        assert str(caught.value) == "c.json: the bucket answered 503; it may pass"


def test_a_condition_that_nobody_made_is_no_conflict_but_a_fault_of_the_set_up(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A policy of the organisation, or a proxy, answers 412 too: a commit whose build is read then isn't refused."""
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", "http://127.0.0.1:1")
    store = GcsStore("home", patience=0.1)
    refused = requests.Response()
    refused.status_code, refused.raw, refused.request = 412, BytesIO(), requests.Request("GET", "http://h/").prepare()
    assert refused.content == b""  # read once, so that it can be answered again
    monkeypatch.setattr(requests.Session, "request", lambda *_, **__: refused)
    tries: list[Callable[[], object]] = [
        lambda: store.read("x", limit=10),
        lambda: store.download("x", tmp_path / "x"),
        lambda: store.stat("x"),
        lambda: store.listing("x/"),
        lambda: store.folders("x/"),
        lambda: store.write("x", b"1", if_generation_match=None),
        lambda: store.delete("x"),
    ]
    for attempt in tries:
        with pytest.raises(BucketRefused, match="the bucket answered 412"):
            attempt()
    with pytest.raises(GenerationConflict):
        store.write("x", b"1", if_generation_match=0)


def test_a_page_in_place_of_the_bucket_may_be_gone_later(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", "http://127.0.0.1:1")
    store = GcsStore("home", patience=0.1)
    page = requests.Response()
    page.status_code, page.raw, page.request = 200, BytesIO(b"<html>"), requests.Request("GET", "http://h/").prepare()
    monkeypatch.setattr(requests.Session, "request", lambda *_, **__: page)
    acts: tuple[Callable[[], object], ...] = (
        lambda: store.read("c.json", limit=10),
        lambda: store.download("c.json", tmp_path / "c.json"),
        lambda: store.read_range("c.json", 0, 3),
    )
    for act in acts:
        with pytest.raises(BucketUnavailable, match=r"c\.json: no answer from h \(.*a proxy"):
            act()


def test_an_object_that_was_uploaded_compressed_is_read_unpacked(
    bucket_server: str, new_bucket: Callable[[], str]
) -> None:
    bucket = new_bucket()
    url = f"{bucket_server}/upload/storage/v1/b/{bucket}/o?uploadType=media&name=c.json&contentEncoding=gzip"
    with urllib.request.urlopen(urllib.request.Request(url, gzip.compress(b'{"a": 1}'), method="POST"), timeout=10):
        assert GcsStore(bucket).read("c.json", limit=100).data == b'{"a": 1}'


def test_an_object_that_says_it_is_compressed_and_is_not_is_read_as_it_is(
    bucket_server: str, new_bucket: Callable[[], str]
) -> None:
    bucket = new_bucket()
    url = f"{bucket_server}/upload/storage/v1/b/{bucket}/o?uploadType=media&name=c.json&contentEncoding=gzip"
    with urllib.request.urlopen(urllib.request.Request(url, b'{"a": 1}', method="POST"), timeout=10):
        assert GcsStore(bucket).read("c.json", limit=100).data == b'{"a": 1}'


def test_what_unpacks_to_more_than_the_limit_is_refused_by_name(
    bucket_server: str, new_bucket: Callable[[], str]
) -> None:
    bucket = new_bucket()
    url = f"{bucket_server}/upload/storage/v1/b/{bucket}/o?uploadType=media&name=c.json&contentEncoding=gzip"
    bomb = gzip.compress(b"0" * 10_000_000)
    with urllib.request.urlopen(urllib.request.Request(url, bomb, method="POST"), timeout=10):
        store = GcsStore(bucket)
    with pytest.raises(DocumentMalformed, match="more than the 20000 bytes allowed"):
        store.read("c.json", limit=20_000)
