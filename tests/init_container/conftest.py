"""A bucket that misbehaves on demand, plain and over TLS, and a puller that is pointed at it."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.init_container.faulty_bucket import FaultyBucket
from tests.init_container.pull_scene import PREFIX, Build, Puller, make_build
from tests.init_container.spoiling_proxy import FAKE_GCS, SpoilingProxy


def _bucket(request: pytest.FixtureRequest, context: ssl.SSLContext | None = None) -> Iterator[FaultyBucket]:
    if getattr(request, "param", "") == FAKE_GCS:
        url, make = request.getfixturevalue("bucket_server"), request.getfixturevalue("new_bucket")
        server: FaultyBucket = SpoilingProxy(url, make(), context)
    else:
        server = FaultyBucket(context)
    yield server
    server.close()


@pytest.fixture
def bucket(request: pytest.FixtureRequest) -> Iterator[FaultyBucket]:
    """A bucket over plain HTTP; with `on_both_servers` also fake-gcs-server behind a proxy."""
    yield from _bucket(request)


@pytest.fixture
def tls_bucket(request: pytest.FixtureRequest, authority: tuple[Path, Path]) -> Iterator[FaultyBucket]:
    """The same over TLS, with a certificate of the test's own authority."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority[1])
    yield from _bucket(request, context)


@pytest.fixture
def build() -> Build:
    """A small build with one file of several ranges and some small ones."""
    return make_build({"big.ann": 6 * 1024 * 1024, **{f"small/{number}.bin": 3000 + number for number in range(40)}})


@pytest.fixture(params=["1", "2"], ids=["one-process", "two-processes"])
def processes(request: pytest.FixtureRequest) -> str:
    """How many processes pull: whatever goes wrong must end the same way with each number."""
    return str(request.param)


@pytest.fixture
def puller(bucket: FaultyBucket, build: Build, processes: str, tmp_path: Path) -> Puller:
    """A puller of `build`, which stands in `bucket`."""
    for name, data in build.objects.items():
        bucket.put(name, data)
    (tmp_path / "data").mkdir()
    settings = {
        "MODEL_REPOSITORY": "gs://a-bucket",
        "INDEX_PREFIX": str(PREFIX),
        "INDEX_DIGEST": build.digest,
        "STORAGE_EMULATOR_HOST": bucket.url,
        "RANGE_MIB": "2",
        "DEADLINE_SECONDS": "120",
        "PROCESSES": processes,
    }
    return Puller(tmp_path / "data", settings)


@pytest.fixture
def tls_puller(tls_bucket: FaultyBucket, authority: tuple[Path, Path], build: Build, puller: Puller) -> Puller:
    """A puller of `build` over TLS, from a bucket that wants the token ``fresh``."""
    for name, data in build.objects.items():
        tls_bucket.put(name, data)
    settings = {name: value for name, value in puller.settings.items() if name != "STORAGE_EMULATOR_HOST"}
    return Puller(puller.folder, {**settings, "STORAGE_ENDPOINT": tls_bucket.url, "SSL_CERT_FILE": str(authority[0])})
