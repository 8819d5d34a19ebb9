"""One contract, two buckets: the one in memory must behave as the real server does."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import google_crc32c
import pytest

from model_repository.bucket.gcs_store import GcsStore
from model_repository.bucket.store import Store
from model_repository.digests import format_crc32c, parse_crc32c
from model_repository.errors import (
    DocumentMalformed,
    GenerationConflict,
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
