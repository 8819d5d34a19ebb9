from __future__ import annotations

import sys
from collections.abc import Callable, Iterator

import pytest

from local_stack import processes
from tests.local_stack.cluster_scene import Client
from tests.running import running_for


@pytest.fixture
def stop_later() -> Iterator[Callable[[Callable[[], None]], None]]:
    stops: list[Callable[[], None]] = []
    yield stops.append
    for stop in reversed(stops):
        stop()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    folder = tmp_path_factory.mktemp("cluster")
    port = processes.free_port()
    url = f"http://127.0.0.1:{port}"
    command = (sys.executable, "-m", "local_stack.cluster", "--port", str(port), "--state", str(folder / "state"))
    running = processes.RunningProgram.start(
        processes.Program(
            name="cluster",
            command=(*command, "--image", f"web={sys.executable}", "--first-restart-wait", "0.2"),
            environment=processes.base_environment(),
            log=folder / "cluster.log",
            ready_url=f"{url}/readyz",
        )
    )
    running.wait_ready()
    yield Client(url, folder)
    assert running_for(folder) != []
    running.stop()
    assert running_for(folder) == []
    assert "Traceback" not in (folder / "cluster.log").read_text()
