"""Several processes, one pod: they share a port and metrics; who dies is replaced; probes don't wait for workers."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

Start = Callable[..., Any]
GENEROUS = 60


def until(true: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + GENEROUS
    while not (found := true()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found


def workers_of(server: Any) -> list[int]:
    """The processes that a server's first one has started and that are there still."""
    children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text()
    return [int(pid) for pid in children.split()]


def metric(server: Any, name: str) -> float:
    text = httpx.get(f"http://127.0.0.1:{server.probe_port}/metrics", timeout=GENEROUS).text
    return sum(float(line.split()[-1]) for line in text.splitlines() if line.startswith(name))


def probe(server: Any, path: str) -> httpx.Response:
    return httpx.get(f"http://127.0.0.1:{server.probe_port}{path}", timeout=GENEROUS)


def test_requests_of_all_workers_are_counted_together_whoever_is_asked(good_build: Any, start: Start) -> None:
    server = start(good_build.environment() | {"WORKERS": "3"})
    for number in range(60):  # each on a connection of its own, which the kernel gives to one of the three
        assert httpx.get(f"{server.url}/v1/items/chair-{number % 40}/similar").status_code == 200
    counted = re.compile(r'indexpush_search_requests_total\{code="200",route="similar"\} 60.0')
    for url in (server.url, f"http://127.0.0.1:{server.probe_port}"):
        assert counted.search(httpx.get(f"{url}/metrics").text)
    assert len(workers_of(server)) == metric(server, "indexpush_search_workers") == 3


def test_a_worker_that_dies_is_replaced_and_whoever_connects_meanwhile_is_answered(
    good_build: Any, start: Start
) -> None:
    server = start(good_build.environment() | {"WORKERS": "2"})
    for _ in range(2):
        killed = workers_of(server)[0]
        os.kill(killed, signal.SIGKILL)
        for number in range(40):
            answer = httpx.get(f"{server.url}/v1/items/chair-{number}/similar", timeout=GENEROUS)
            assert answer.status_code == 200
        until(lambda: len(workers_of(server)) == 2 and probe(server, "/readyz").status_code == 200)
        assert killed not in workers_of(server)
    assert metric(server, "indexpush_search_worker_deaths_total") == 2
    server.terminate()
    status, log = server.wait()
    assert status == 0
    assert sum(line["message"].endswith("ended by SIGKILL") for line in log) == 2


def test_a_pod_whose_workers_die_again_and_again_fails_and_says_so(good_build: Any, start: Start) -> None:
    server = start(good_build.environment() | {"WORKERS": "1", "DRAIN_SECONDS": "0"})
    seen: set[int] = set()
    while server.process.poll() is None:
        for pid in workers_of(server) if server.process.poll() is None else []:
            seen.add(pid)
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.01)
    status, _ = server.wait()
    assert (status, len(seen)) == (70, 6)
    words = Path(good_build.environment()["TERMINATION_LOG"]).read_text()
    assert words.startswith("workers-keep-dying: 6 workers ended within 60 s, the last one by SIGKILL")


def test_probes_are_answered_while_no_worker_runs(good_build: Any, start: Start) -> None:
    server = start(good_build.environment() | {"WORKERS": "2"})
    for pid in workers_of(server):
        os.kill(pid, signal.SIGSTOP)
    for path in ("/livez", "/readyz", "/metrics") * 3:
        assert probe(server, path).status_code == 200
    assert probe(server, "/v1/status").status_code == 404
    for pid in workers_of(server):
        os.kill(pid, signal.SIGCONT)


@pytest.mark.parametrize("killed", [signal.SIGKILL, signal.SIGTERM])
def test_no_worker_outlives_its_pod(good_build: Any, start: Start, killed: signal.Signals) -> None:
    server = start(good_build.environment() | {"DRAIN_SECONDS": "0"})
    workers = workers_of(server)
    server.process.send_signal(killed)
    server.process.wait(GENEROUS)
    until(lambda: not any(Path(f"/proc/{pid}/cmdline").exists() and _runs(pid) for pid in workers))


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes() != b""  # a zombie has none
    except OSError:
        return False
