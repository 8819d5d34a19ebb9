"""Leaving: the real process, asked to go while clients hammer on connections that they keep."""

from __future__ import annotations

import asyncio
import http.client
import itertools
import os
import random
import socket
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import httpx

from tests import plain_http

Start = Callable[..., Any]


@dataclass
class Hammer:
    """Clients that keep their connections and ask without pause, each at the first of `ports` that takes connections.

    They do what any HTTP client does: a connection whose answer said `Connection: close` is left and a new one made.
    Nothing is tried again: any other lost request is a failure.
    """

    ports: list[int]
    stopped: threading.Event = field(default_factory=threading.Event)
    threads: list[threading.Thread] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)
    failures: list[str] = field(default_factory=list)
    by_generation: dict[str, int] = field(default_factory=dict)
    last_answers: int = 0

    def start(self, clients: int) -> None:
        self.threads = [threading.Thread(target=self._ask, args=(n,), daemon=True) for n in range(clients)]
        for thread in self.threads:
            thread.start()

    def wait_for(self, generation: str, answers: int) -> None:
        deadline = time.monotonic() + 90
        while self.by_generation.get(generation, 0) < answers and not self.failures:
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def stop(self) -> None:
        self.stopped.set()
        for thread in self.threads:
            thread.join(20)

    def _ask(self, number: int) -> None:
        connection: http.client.HTTPConnection | None = None
        rng = random.Random(number)
        for n in itertools.count():
            if self.stopped.is_set():
                break
            if rng.random() < 0.02:
                time.sleep(rng.random() * 0.3)  # sometimes a connection is idle for a while
            try:
                connection = connection or self._connect()
                connection.request("GET", f"/v1/items/chair-{n % 40}/similar?k=5")
                answer = connection.getresponse()
                answer.read()
                self._note(answer)
                if answer.getheader("connection") == "close":
                    connection.close()
                    connection = None
            except (OSError, http.client.HTTPException) as error:
                with self.lock:
                    self.failures.append(repr(error))
                connection = None

    def _connect(self) -> http.client.HTTPConnection:
        # like a Service: new connections go to the pods that are ready
        for port in self.ports:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
            try:
                connection.request("GET", "/readyz")
                answer = connection.getresponse()
                answer.read()
            except OSError:
                continue
            if answer.status == 200:
                if answer.getheader("connection") == "close":  # it began to leave just now
                    connection.close()
                    connection.connect()
                return connection
            connection.close()
        raise OSError("no server is ready")

    def _note(self, answer: http.client.HTTPResponse) -> None:
        generation = answer.getheader("x-indexpush-generation", "")
        with self.lock:
            if answer.status != 200:
                self.failures.append(f"status {answer.status}")
            self.by_generation[generation] = self.by_generation.get(generation, 0) + 1
            self.last_answers += answer.getheader("connection") == "close"


def test_no_request_on_a_kept_connection_fails_while_one_server_replaces_another(good_build: Any, start: Start) -> None:
    old = start({**good_build.environment(1), "DRAIN_SECONDS": "5"})
    new = start({**good_build.environment(2), "DRAIN_SECONDS": "1"})
    hammer = Hammer([old.port, new.port])
    hammer.start(clients=12)
    hammer.wait_for("1", 500)
    old.terminate()
    status, log = old.wait()
    hammer.wait_for("2", 500)
    hammer.stop()
    assert hammer.failures == []
    assert status == 0
    assert log[-1]["message"] == "left"
    assert set(hammer.by_generation) == {"1", "2"}
    assert hammer.last_answers >= 12  # every connection to the old server was told


def test_the_server_goes_on_accepting_and_answering_while_it_drains_but_is_not_ready(
    good_build: Any, start: Start
) -> None:
    server = start({**good_build.environment(), "DRAIN_SECONDS": "8"})
    begun = time.monotonic()
    server.terminate()
    while (ready := plain_http.get(f"{server.url}/readyz")).status_code == 200:
        assert time.monotonic() - begun < 60
    assert (ready.status_code, ready.json()["error"]["message"]) == (503, "the server is leaving")
    answer = plain_http.get(f"{server.url}/v1/items/chair-1/similar")
    assert (answer.status_code, answer.headers["connection"]) == (200, "close")
    assert plain_http.get(f"{server.url}/livez").status_code == 200
    status, _ = server.wait()
    assert status == 0
    assert time.monotonic() - begun >= 8


def test_a_kept_connection_that_nobody_uses_is_ended_in_good_order(good_build: Any, start: Start) -> None:
    server = start({**good_build.environment(), "DRAIN_SECONDS": "0.3"})
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n")
        answer = b""
        while not answer.endswith(b"}"):
            answer += connection.recv(4096)
        assert answer.startswith(b"HTTP/1.1 200")
        server.terminate()
        assert connection.recv(4096) == b""  # the end, not a reset
    assert server.wait()[0] == 0


def test_a_request_on_its_way_in_is_answered_before_the_server_leaves(
    good_build: Any, start: Start, new_picture: Callable[..., bytes]
) -> None:
    server = start({**good_build.environment(), "DRAIN_SECONDS": "0.2"})
    picture = new_picture(7, "PNG")
    head = (
        f"POST /v1/search?k=1 HTTP/1.1\r\nhost: x\r\ncontent-type: image/png\r\ncontent-length: {len(picture)}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(head.encode() + picture[:50])
        time.sleep(0.2)
        server.terminate()
        time.sleep(1)  # long past the drain
        connection.sendall(picture[50:])
        answer = connection.recv(4096)
        assert answer.startswith(b"HTTP/1.1 200")
        assert b"connection: close" in answer
        assert b"chair-7" in answer
    assert server.wait()[0] == 0


def test_a_server_that_is_not_ready_leaves_at_once(build: Any, start: Start) -> None:
    # a pipe in place of model.json: to open it takes until somebody writes, which nobody does
    path = build.model_folder / "model.json"
    path.unlink()
    os.mkfifo(path)
    server = start({**build.environment(), "DRAIN_SECONDS": "60"}, wait=False)
    ready = _wait_for_answer(f"{server.url}/readyz")
    assert ready.status_code == 503
    assert ready.json()["error"]["message"] == "the index is being opened and proved"
    assert plain_http.get(f"{server.url}/livez").status_code == 200
    early = plain_http.get(f"{server.url}/v1/items/chair-1/similar")
    assert (early.status_code, early.json()["error"]["code"], early.headers["retry-after"]) == (503, "not-ready", "1")
    begun = time.monotonic()
    server.terminate()
    status, log = server.wait()
    assert status == 0
    assert time.monotonic() - begun < 30  # the drain would take 60
    assert "left at once" in log[-1]["message"]


def _wait_for_answer(url: str) -> httpx.Response:
    deadline = time.monotonic() + 90
    while True:
        try:
            return plain_http.get(url)
        except httpx.TransportError:
            assert time.monotonic() < deadline
            time.sleep(0.02)


def test_a_port_that_is_taken_is_75(good_build: Any, start: Start) -> None:
    first = start(good_build.environment())
    second = type(first)(good_build.environment(2), port=first.port)
    second.start()
    status, log = second.wait()
    assert status == 75
    assert log[-1]["code"] == "can-not-listen"


def test_probes_are_answered_while_more_strangers_are_connected_than_files_may_be_open(
    good_build: Any, start: Start
) -> None:
    server = start(good_build.environment(), open_files=256)
    with ExitStack() as strangers:
        for number in range(300):
            strangers.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=30))
            if number % 20 == 0:
                assert plain_http.get(f"{server.url}/livez").status_code == 200
        for path in ("/livez", "/readyz", "/metrics") * 5:
            assert plain_http.get(f"{server.url}{path}").status_code == 200


def test_more_pictures_than_may_wait_are_asked_to_come_back(
    good_build: Any, start: Start, new_picture: Callable[..., bytes]
) -> None:
    server = start(good_build.environment())

    async def flood() -> list[httpx.Response]:
        async with httpx.AsyncClient(base_url=server.url, timeout=30) as client:
            post = [
                client.post("/v1/search?k=1", content=new_picture(n), headers={"content-type": "image/jpeg"})
                for n in range(60)
            ]
            return await asyncio.gather(*post)

    answers = asyncio.run(flood())
    statuses = {answer.status_code for answer in answers}
    assert statuses <= {200, 503}
    assert sum(answer.status_code == 200 for answer in answers) >= 8
    for answer in answers:
        if answer.status_code == 503:
            assert (answer.headers["retry-after"], answer.json()["error"]["code"]) == ("1", "overloaded")
