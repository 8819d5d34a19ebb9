"""Several processes, one pod: they share a port and metrics; who dies is replaced; probes don't wait for workers."""

from __future__ import annotations

import asyncio
import io
import json
import os
import re
import resource
import signal
import socket
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from http_limits.listener import raise_open_files
from model_repository.resources.serving import CONNECTIONS
from model_repository.telemetry.log import Log
from search_server.config import Config
from search_server.processes import supervisor
from search_server.processes.pod import PodState
from search_server.processes.read_in import read_in
from tests import plain_http
from tests.search_server.vector_builds import make_vector_build

Start = Callable[..., Any]
GENEROUS = 60
OPEN_FILES = raise_open_files()  # its clients are in this process


def until(true: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + GENEROUS
    while not (found := true()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found


def workers_of(server: Any) -> list[int]:
    """The workers that a server's first process has started and that are there still."""
    children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text()
    return [
        int(pid)
        for pid in children.split()
        if b"search_server.processes.worker" in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]


def metric(server: Any, name: str) -> float:
    text = plain_http.get(f"http://127.0.0.1:{server.probe_port}/metrics", timeout=GENEROUS).text
    return sum(float(line.split()[-1]) for line in text.splitlines() if line.startswith(name))


def probe(server: Any, path: str) -> httpx.Response:
    return plain_http.get(f"http://127.0.0.1:{server.probe_port}{path}", timeout=GENEROUS)


def test_requests_of_all_workers_are_counted_together_whoever_is_asked(good_build: Any, start: Start) -> None:
    server = start(good_build.environment() | {"WORKERS": "3"})
    for number in range(60):  # each on a connection of its own, which the kernel gives to one of the three
        assert plain_http.get(f"{server.url}/v1/items/chair-{number % 40}/similar").status_code == 200
    counted = re.compile(r'indexpush_search_requests_total\{code="200",route="similar"\} 60.0')
    for url in (server.url, f"http://127.0.0.1:{server.probe_port}"):
        assert counted.search(plain_http.get(f"{url}/metrics").text)
    assert len(workers_of(server)) == metric(server, "indexpush_search_workers") == 3


def test_a_worker_that_dies_is_replaced_and_whoever_connects_meanwhile_is_answered(
    good_build: Any, start: Start
) -> None:
    server = start(good_build.environment() | {"WORKERS": "2"})
    for _ in range(2):
        killed = workers_of(server)[0]
        os.kill(killed, signal.SIGKILL)
        for number in range(40):
            answer = plain_http.get(f"{server.url}/v1/items/chair-{number}/similar", timeout=GENEROUS)
            assert answer.status_code == 200
        until(lambda: len(workers_of(server)) == 2 and probe(server, "/readyz").status_code == 200)
        assert killed not in workers_of(server)
    assert metric(server, "indexpush_search_worker_deaths_total") == 2
    server.terminate()
    status, log = server.wait()
    assert status == 0
    assert sum(line["message"].endswith("ended by SIGKILL") for line in log) == 2


def test_a_pod_that_leaves_just_after_a_worker_died_answers_whoever_connected_to_that_one(
    good_build: Any, start: Start
) -> None:
    server = start(good_build.environment() | {"WORKERS": "2", "DRAIN_SECONDS": "20"})
    os.kill(workers_of(server)[0], signal.SIGKILL)
    until(lambda: metric(server, "indexpush_search_worker_deaths") == 1)
    with ExitStack() as waiting:
        # the kernel gives some of them to the socket whose worker is being replaced
        asked = [
            waiting.enter_context(socket.create_connection(("127.0.0.1", server.port), GENEROUS)) for _ in range(30)
        ]
        for connection in asked:
            connection.sendall(b"GET /v1/items/chair-1/similar HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        server.terminate()
        assert [connection.recv(15) for connection in asked] == [b"HTTP/1.1 200 OK"] * len(asked)
    assert server.wait()[0] == 0


def test_a_worker_that_hangs_is_replaced_and_whoever_connected_to_it_is_answered(good_build: Any, start: Start) -> None:
    server = start(good_build.environment() | {"WORKERS": "2"})
    hung, other = workers_of(server)
    os.kill(hung, signal.SIGSTOP)
    with ExitStack() as waiting:
        address = ("127.0.0.1", server.port)
        # the kernel gives some of them to the one that hangs
        asked = [waiting.enter_context(socket.create_connection(address, timeout=GENEROUS)) for _ in range(30)]
        for connection in asked:
            connection.sendall(b"GET /v1/items/chair-1/similar HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        assert probe(server, "/livez").status_code == 200
        answers = [connection.recv(15) for connection in asked]
    # what it had accepted before it hung was lost with it; the listening socket, and who waits there, is the pod's
    assert answers == [b"HTTP/1.1 200 OK"] * len(asked)
    assert metric(server, "indexpush_search_worker_deaths") == 1
    until(lambda: len(workers_of(server)) == 2)
    assert hung not in workers_of(server)
    assert other in workers_of(server)


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
    assert words.startswith("workers-keep-dying: 6 workers were lost within 60 s, the last one ended by SIGKILL")


def test_a_worker_that_can_not_be_started_is_started_when_it_can(good_build: Any, start: Start) -> None:
    server = start(good_build.environment() | {"WORKERS": "2"})
    pid = server.process.pid
    limits = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    deaths = re.compile(r"indexpush_search_worker_deaths_total ([0-9.]+)")
    with plain_http.Client(base_url=f"http://127.0.0.1:{server.probe_port}", timeout=GENEROUS) as connected:
        assert deaths.search(connected.get("/metrics").text)
        # stands for memory, or processes, that are used up; who is connected is answered
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (3, limits[1]))
        os.kill(workers_of(server)[0], signal.SIGKILL)
        # the one that was killed, and one that could not be started
        until(lambda: (found := deaths.search(connected.get("/metrics").text)) and float(found[1]) >= 2)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)
    until(lambda: len(workers_of(server)) == 2 and probe(server, "/readyz").status_code == 200)
    server.terminate()
    status, log = server.wait()
    assert status == 0
    assert any(re.match("worker [01] can't be started: ", line["message"]) for line in log)


def test_a_worker_that_hangs_before_it_shows_any_sign_of_life_is_ended(
    good_build: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "_WATCH_SECONDS", 0.01)
    config = Config.from_environment(good_build.environment() | {"PORT": "0", "PROBE_PORT": "0", "WORKERS": "1"})

    async def story() -> None:
        pod = supervisor.Supervisor(config, Log(stream=io.StringIO()))
        pod._pod.was_ready = 1
        hung = pod._processes[0] = await asyncio.create_subprocess_exec("sleep", "1000")
        watching = asyncio.create_task(pod._watch())
        assert await asyncio.wait_for(hung.wait(), GENEROUS) == -signal.SIGKILL
        assert pod._alive()
        watching.cancel()

    asyncio.run(story())


@pytest.mark.parametrize("letter", ["a", "椅", "\0", "\ud800", "🪑"])
def test_last_words_are_kept_in_any_script(letter: str) -> None:
    worker = PodState.create(1).workers[0]
    assert worker.last_words() is None
    worker.say_last("proof-failed", letter * 5000, 65)
    words = worker.last_words()
    assert words is not None
    code, message, exit_code = words
    assert (code, exit_code) == ("proof-failed", 65)
    assert message == (letter.encode(errors="replace") * 5000)[: 4096 - len("65 proof-failed ")].decode(errors="ignore")


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


def test_the_builds_files_are_read_into_memory_before_the_pod_is_ready(good_build: Any, start: Start) -> None:
    server = start(good_build.environment() | {"DRAIN_SECONDS": "0"})
    server.terminate()
    _, log = server.wait()
    messages = [line["message"] for line in log]
    assert messages.index("the build is in memory") < messages.index(f"serving {good_build.prefix}")
    read = next(line for line in log if line["message"] == "the build is in memory")
    assert read["bytes"] == read["of"] == sum(path.stat().st_size for path in good_build.data.rglob("*.*"))


def test_reading_in_ends_with_its_time(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(10_000_000))
    lines = io.StringIO()
    read_in(tmp_path, Log(stream=lines), seconds=0)
    line = json.loads(lines.getvalue())
    assert (line["bytes"], line["of"]) == (0, 10_000_000)
    assert line["message"].startswith("a part of the build is in memory")


def test_probes_on_their_port_are_answered_while_a_thousand_clients_connect_and_others_ask_for_much(
    tmp_path: Path, start: Start
) -> None:
    server = start(make_vector_build(tmp_path, {"all": 3000}, 256, width=3000) | {"WORKERS": "2"})
    ask = b"GET /v1/items/all-1/similar?k=1000 HTTP/1.1\r\nhost: x\r\n\r\n"
    slowest = 0.0
    with ExitStack() as strangers:
        for number in range(1000):
            connection = strangers.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=GENEROUS))
            if number % 30 == 0:
                connection.sendall(ask * 50)
            if number % 10 == 0:
                for path in ("/livez", "/readyz", "/metrics"):
                    begun = time.monotonic()
                    assert probe(server, path).status_code == 200
                    slowest = max(slowest, time.monotonic() - begun)
    assert slowest < 10 * 0.5  # half a second, on a machine that may be ten times as busy


@pytest.mark.parametrize(("open_files", "kept"), [(1200, 300), (OPEN_FILES, min(CONNECTIONS, OPEN_FILES // 4))])
def test_of_more_idle_connections_than_a_pod_keeps_the_newest_are_served_and_the_longest_idle_go(
    open_files: int, kept: int, good_build: Any, start: Start
) -> None:
    server = start(good_build.environment() | {"WORKERS": "1"}, open_files=open_files)
    with ExitStack() as idle:
        opened = []
        for number in range(kept + 100):
            connection = idle.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=GENEROUS))
            connection.sendall(b"GET /v1/items/chair-1/similar HTTP/1.1\r\nhost: x\r\n\r\n")
            assert connection.recv(65536).startswith(b"HTTP/1.1 200"), number
            opened.append(connection)
        for served in (opened[-kept * 3 // 4], opened[-1]):
            served.sendall(b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n")
            assert served.recv(4096).startswith(b"HTTP/1.1 200")
        for gone in (opened[0], opened[90]):
            with suppress(ConnectionResetError):
                assert gone.recv(4096) == b""
