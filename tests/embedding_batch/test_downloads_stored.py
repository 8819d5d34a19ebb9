"""Pictures of this machine and of buckets."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from embedding_batch.pictures import Politeness
from model_repository.bucket.store import Store, StoredObject
from model_repository.errors import AccessDenied, BucketUnavailable
from tests.embedding_batch.fetching import fetched, reason
from tests.memory_store import MemoryStore


def test_pictures_of_this_machine_are_read(tmp_path: Path) -> None:
    for name in ("a.jpg", "b c?%20.jpg"):
        (tmp_path / name).write_bytes(name.encode())
        found = fetched(str(tmp_path / name))[str(tmp_path / name)]
        assert (found.data, found.sha256) == (name.encode(), hashlib.sha256(name.encode()).digest())


def test_a_file_that_can_not_be_read_is_a_reason(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "large").write_bytes(b"x" * 11)
    polite = Politeness(most_bytes=10)
    read = "the picture can't be read: "
    assert reason(str(tmp_path / "none"), polite) == f"{read}No such file or directory"
    assert reason(str(tmp_path), polite) == f"{read}Is a directory"
    assert reason(str(tmp_path / "pipe"), polite) == f"{read}it is no file"
    assert reason(str(tmp_path / "large"), polite) == f"{read}it has more than the 10 bytes allowed"
    assert "null" in reason("a\0b", polite)


class Bucket(MemoryStore):
    """A bucket with errors: of some objects, or of all."""

    def __init__(self, name: str, errors: dict[str, Exception] | Exception | None = None) -> None:
        super().__init__(name)
        self.errors = errors or {}
        self.reads = 0

    def read(self, name: str, *, limit: int) -> StoredObject:
        self.reads += 1
        error = self.errors if isinstance(self.errors, Exception) else self.errors.get(name)
        if error is not None:
            raise error
        return super().read(name, limit=limit)


def test_pictures_of_buckets_are_read() -> None:
    opened: list[str] = []
    buckets = {name: Bucket(name) for name in ("one", "two")}

    def open_bucket(name: str) -> Store:
        opened.append(name)
        return buckets[name]

    for bucket in buckets.values():
        for number in range(20):
            bucket.write(f"p/{number} ?#.jpg", f"{bucket.bucket} {number}".encode(), if_generation_match=0)
    uris = [f"gs://{name}/p/{number} ?#.jpg" for name in buckets for number in range(20)]
    found = fetched(*uris, open_bucket=open_bucket)
    assert {uri: one.data for uri, one in found.items()} == {
        f"gs://{name}/p/{number} ?#.jpg": f"{name} {number}".encode() for name in buckets for number in range(20)
    }
    assert sorted(opened) == ["one", "two"]


def test_an_object_that_can_not_be_had_is_a_reason() -> None:
    bucket = Bucket("one", {"denied": AccessDenied("gs://one/denied: 403")})
    bucket.write("large", b"x" * 11, if_generation_match=0)
    bucket.write("there", b"x", if_generation_match=0)
    uris = ["gs://one/none", "gs://one/large", "gs://one/denied", "gs://one/there"]
    found = fetched(*uris, politeness=Politeness(most_bytes=10), open_bucket=lambda _: bucket)
    read = "the picture can't be read: "
    assert {uri: one.reason for uri, one in found.items()} == {
        "gs://one/none": f"{read}gs://one has no such object",
        "gs://one/large": f"{read}it has more than the 10 bytes allowed",
        "gs://one/denied": f"{read}gs://one/denied: 403",
        "gs://one/there": None,
    }


@pytest.mark.parametrize("count", [1, 100])
def test_a_bucket_that_lets_nothing_be_read_ends_it(count: int) -> None:
    bucket = Bucket("one", AccessDenied("gs://one: 403"))
    with pytest.raises(AccessDenied):
        fetched(*(f"gs://one/{number}" for number in range(count)), open_bucket=lambda _: bucket)
    assert bucket.reads < 40


def test_a_bucket_that_is_not_available_ends_it() -> None:
    bucket = Bucket("one", {"a": BucketUnavailable("gs://one: 503")})
    with pytest.raises(BucketUnavailable):
        fetched("gs://one/b", "gs://one/a", open_bucket=lambda _: bucket)


def test_a_bucket_that_can_not_be_opened_ends_it() -> None:
    def open_bucket(_: str) -> Store:
        raise AccessDenied("no credentials")

    with pytest.raises(AccessDenied):
        fetched("gs://one/b", open_bucket=open_bucket)
