"""The real bucket server behind a proxy that answers as a bucket in trouble does: each step goes on, or ends well."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from google.auth.credentials import Credentials

from embedding_batch.batch import run
from embedding_batch.config import Config
from model_repository.bucket import gcs_store
from model_repository.bucket.gcs_store import GcsStore
from model_repository.documents.files import check_files
from model_repository.errors import AccessDenied, BucketUnavailable
from model_repository.repository import read_build, read_live_commit
from tests.embedding_batch.conftest import CHAIRS, NOW
from tests.embedding_batch.faulty_bucket import Asked, Fault, FaultyBucket, faulty_bucket

if TYPE_CHECKING:
    from tests.embedding_batch.conftest import Shop

FOR_GOOD: Mapping[Fault, type[Exception]] = {503: BucketUnavailable, "silent": BucketUnavailable, 403: AccessDenied}
MOMENTS = 6
"""At which a run's bucket begins to fail, evenly spread over its requests; and the last ones, after the commit."""


@pytest.fixture
def bucket(new_bucket: Callable[[], str]) -> str:
    return new_bucket()


@pytest.fixture
def proxy(
    bucket: str,  # noqa: ARG001 - who makes it points Google's clients at the server
    bucket_server: str,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[FaultyBucket]:
    """Stands before the bucket server for this test."""
    with faulty_bucket(bucket_server) as running:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", running.url)
        yield running


@pytest.fixture(params=["pictures", "vectors"])
def config(request: pytest.FixtureRequest, shop: Shop) -> Config:
    """A run on pictures, or on somebody's own vectors, of one category."""
    if request.param == "pictures":
        shop.sells(CHAIRS)
        return shop.config
    vectors = np.random.default_rng(1).standard_normal((len(CHAIRS), 8)).astype(np.float32)
    table = pa.table({"id": CHAIRS, "category": ["chairs"] * len(CHAIRS), "vector": list(vectors)})
    pq.write_table(table, shop.folder / "vectors.parquet")
    return replace(shop.config, catalogue="", vectors=str(shop.folder / "vectors.parquet"))


def index(config: Config, bucket: str, *, patience: float = 100.0) -> dict[str, Any]:
    return run(config, GcsStore(bucket, patience=patience), NOW, lambda _: None)


@contextmanager
def short_of_patience(fault: Fault) -> Iterator[None]:
    """Silence is waited for a second, and not half a minute; anything else comes when it comes."""
    with pytest.MonkeyPatch.context() as patched:
        if fault == "silent":
            patched.setitem(gcs_store._STREAMED, "timeout", (5.0, 1.0))
            patched.setattr(gcs_store, "_CONNECT_AND_READ_SECONDS", (5.0, 1.0))
        yield


def check_committed(config: Config, bucket: str) -> None:
    store = GcsStore(bucket)
    manifest = read_build(store, read_live_commit(store, config.target).commit.index_prefix).manifest
    check_files(str(manifest.prefix), manifest.files, store.listing(f"{manifest.prefix}/"))
    assert manifest.items == len(CHAIRS)


def test_a_run_of_which_every_other_answer_is_a_fault_commits_one_whole_build(
    config: Config, bucket: str, proxy: FaultyBucket
) -> None:
    faults: Iterator[Fault] = itertools.cycle((503, "lost", 429, "cut", "reset"))
    proxy.fault = lambda asked: next(faults) if asked.number % 2 == 0 else None
    assert index(config, bucket)["outcome"] == "committed"
    proxy.fault = lambda _: None
    check_committed(config, bucket)


def test_a_bucket_that_fails_for_good_ends_a_run_at_any_moment_and_the_next_try_goes_on(
    config: Config, bucket: str, new_bucket: Callable[[], str], proxy: FaultyBucket
) -> None:
    index(config, bucket)
    whole = len(proxy.asked)
    moments = [*range(0, whole, whole // MOMENTS), whole - 2, whole - 1]
    for first, (fault, error) in zip(moments, itertools.cycle(FOR_GOOD.items()), strict=False):
        bucket = new_bucket()
        proxy.begin(partial(_from, first, fault))
        with short_of_patience(fault), pytest.raises(error):
            index(config, bucket, patience=0.5)
        assert [left.name for left in (config.cache / "scratch").iterdir()] == ["lock"]
        proxy.begin()
        assert index(config, bucket)["outcome"] == "committed"
        check_committed(config, bucket)


def _from(first: int, fault: Fault, asked: Asked) -> Fault | None:
    return fault if asked.number >= first else None


class Tokens(Credentials):
    """Gives another token each time."""

    def refresh(self, _request: object) -> None:
        self.token = f"{self.token}+"


def test_a_token_that_is_not_taken_any_more_is_replaced_in_the_midst(
    bucket: str, proxy: FaultyBucket, tmp_path: Path
) -> None:
    store, path = GcsStore(bucket, patience=0.1), tmp_path / "part"
    path.write_bytes(bytes(range(256)) * 4000)
    store._client._http.credentials = Tokens()
    for act in (
        lambda: store.upload("part", path, if_generation_match=0),
        lambda: store.write("small", b"x", if_generation_match=0),
        lambda: store.download("part", tmp_path / "again"),
        lambda: store.listing(""),
    ):
        proxy.begin(lambda asked: 401 if asked.number == 0 else None)
        act()
        assert len(proxy.asked) == 2
    assert (tmp_path / "again").read_bytes() == path.read_bytes()
