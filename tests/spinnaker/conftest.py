"""Spinnaker's orchestration engine on this machine, and the pipeline under test saved in it."""

from __future__ import annotations

import json
import os
import subprocess
import time
import urllib.error
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from local_stack.processes import free_port
from manifests.spinnaker import pipeline
from manifests.values import Values
from tests.manifests import shipped
from tests.spinnaker.clouddriver_stand_in import Clouddriver, Server
from tests.spinnaker.spinnaker_scene import BUCKET, DIRECT, INSTALLATION, TARGET, Gate, Orca, Spinnaker

LAB = Path(__file__).parent / "lab"
VERSION = "8.56.0"
"""Of Orca; as in lab/pom.xml."""


@pytest.fixture(scope="session")
def values() -> Values:
    return shipped("production")


@pytest.fixture(scope="session")
def generated(values: Values) -> dict[str, Any]:
    """The pipeline as `indexpush spinnaker-pipeline` prints it."""
    return pipeline(TARGET, BUCKET, values, INSTALLATION)


@pytest.fixture(scope="session")
def clouddriver() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


@pytest.fixture(scope="session")
def orca(clouddriver: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orca]:
    """Orca's engine, from its published jars, with a Redis of its own."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    cache = home / "indexpush" / f"spinnaker-{VERSION}"
    folder = tmp_path_factory.mktemp("orca")
    subprocess.run([str(LAB / "build.sh"), str(cache)], check=True, timeout=1500)
    redis_port, orca_port = free_port(), free_port()
    redis_command = [
        "redis-server",
        "--port",
        str(redis_port),
        "--bind",
        "127.0.0.1",
        "--save",
        "",
        "--dir",
        str(folder),
    ]
    environment = {**os.environ, "REDIS_PORT": str(redis_port), "ORCA_PORT": str(orca_port)}
    environment["CLOUDDRIVER_URL"] = clouddriver.url
    with (folder / "orca.txt").open("wb") as log:
        redis = subprocess.Popen(redis_command, stdout=log, stderr=log, cwd=folder)
        server = subprocess.Popen([str(LAB / "run.sh"), str(cache)], env=environment, stdout=log, stderr=log)
    try:
        _wait_until_it_answers(server, f"http://127.0.0.1:{orca_port}/pipelines/none", folder / "orca.txt")
        yield Orca(f"http://127.0.0.1:{orca_port}")
    finally:
        for process in (server, redis):
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()


@pytest.fixture
def spinnaker(orca: Orca, clouddriver: Server, generated: dict[str, Any]) -> Spinnaker:
    """An empty cluster, and the pipeline saved under an id of its own, as Front50 gives it one."""
    clouddriver.clouddriver = Clouddriver()
    own = json.loads(json.dumps(generated)) | {"id": str(uuid.uuid4())}
    # a correlation outlives the test that made it as long as its run; runs of other tests must not be taken for ours
    own["triggers"][0]["correlationId"] += f"/{own['id']}"
    return Spinnaker(orca, clouddriver.clouddriver, [own])


@pytest.fixture
def gate(spinnaker: Spinnaker) -> Iterator[Gate]:
    """The door that the function knocks at."""
    gate = Gate(spinnaker)
    yield gate
    gate.close()


def _wait_until_it_answers(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline and process.poll() is None:
        try:
            DIRECT.open(url, timeout=5).close()
        except urllib.error.HTTPError:
            return
        except OSError:
            time.sleep(0.5)
        else:
            return
    pytest.fail(f"Orca did not start: {log.read_text()[-3000:]}")
