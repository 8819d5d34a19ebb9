"""Objects that a customer's key encrypts: a listing doesn't say their crc32c, they themselves do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from embedding_batch.events import Event
from embedding_batch.state.features import Features, FeatureStore
from model_repository.bucket.checksums import with_checksums
from model_repository.bucket.gcs_store import GcsStore
from model_repository.builds import check_build
from model_repository.errors import BuildIncomplete
from tests import builds
from tests.embedding_batch.faulty_bucket import Asked, Fault, FaultyBucket, faulty_bucket


def keyed(asked: Asked) -> Fault | None:
    return "keyed" if asked.method == "GET" and "/o?" in asked.path else None


@pytest.fixture
def proxy(bucket_server: str) -> Iterator[FaultyBucket]:
    with faulty_bucket(bucket_server) as proxy:
        proxy.begin(keyed)
        yield proxy


@pytest.fixture
def store(proxy: FaultyBucket, new_bucket: Callable[[], str], monkeypatch: pytest.MonkeyPatch) -> GcsStore:
    bucket = new_bucket()
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", proxy.url)
    return GcsStore(bucket)


def test_a_listing_says_none_and_each_object_is_asked(store: GcsStore) -> None:
    written = [store.write(f"a/{number}", str(number).encode(), if_generation_match=0) for number in range(3)]
    listed = store.listing("a/")
    assert [info.crc32c for info in listed] == ["", "", ""]
    store.delete("a/1")
    assert with_checksums(store, listed) == [written[0], written[2]]


def test_what_a_listing_says_is_not_asked_for_again(proxy: FaultyBucket, store: GcsStore) -> None:
    store.write("a/1", b"1", if_generation_match=0)
    proxy.begin()
    listed = store.listing("a/")
    assert with_checksums(store, listed) == listed
    assert len(proxy.asked) == 1


def test_a_whole_build_is_whole_and_other_bytes_are_found(store: GcsStore) -> None:
    manifest = builds.publish_build(store)
    assert check_build(store, builds.BUILD).manifest == manifest
    (file, *_) = manifest.files
    store.write(f"{builds.BUILD}/{file.name}", bytes(file.size), if_generation_match=None)
    with pytest.raises(BuildIncomplete, match="crc32c"):
        check_build(store, builds.BUILD)


def test_embeddings_are_found_again(store: GcsStore, tmp_path: Path) -> None:
    told: list[Event] = []
    vectors = np.eye(4, dtype=np.float16)
    some = Features(tuple(bytes([number]) * 32 for number in range(1, 5)), vectors)
    machines = [tmp_path / name for name in ("one", "another")]
    opened = []
    for machine in machines:
        (machine / "scratch").mkdir(parents=True)
        opened.append(FeatureStore(store, "key", 4, cache=machine, scratch=machine / "scratch", listener=told.append))
    opened[0].write(some)
    opened[1].refresh()
    np.testing.assert_array_equal(opened[1].read(np.array(some.digests, "S32")), vectors.astype(np.float32))
    assert told == []
