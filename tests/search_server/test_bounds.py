"""What many clients cost together: memory that comes back, and probes that others can't starve."""

from __future__ import annotations

import asyncio
import gc
import json
import math
import select
import socket
import threading
import time
import weakref
from collections.abc import Callable
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from http_limits.refusals import Overloaded, RequestMalformed
from model_repository.documents.index_manifest import Engine
from model_repository.resources.serving import HELD_BYTES
from model_repository.telemetry.log import Log
from search_server.app import SearchApplication
from search_server.build.index import MappedIndex, open_index
from search_server.build.partitions import Partition
from search_server.config import Config, Limits
from search_server.errors import ParameterRefused
from search_server.http.requests import ClientGone
from search_server.processes.pod import PodState
from search_server.queries.searches import Searches
from search_server.queries.turns import LongWork, Turns
from tests import builds, plain_http
from tests.search_server.test_supervisor import metric, until
from tests.search_server.vector_builds import make_vector_build
from vector_index import Neighbours, TakesLonger

Start = Callable[..., Any]


def memory_mib(server: Any) -> float:
    """Of all its processes, the mapped index not counted."""
    return metric(server, "indexpush_search_memory_bytes") / 2**20


def head(path: str, length: int, kind: str) -> bytes:
    return f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\n\r\n".encode()


def post(port: int, body: bytes) -> bytes:
    """One request on a connection of its own; the status line."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        with suppress(OSError):  # it may be refused before it has all been sent
            connection.sendall(head("/v1/search", len(body), "image/png") + body)
        answer = connection.recv(4096)
    return answer.partition(b"\r\n")[0]


def test_bodies_of_requests_that_were_answered_are_not_kept(good_build: Any, start: Start) -> None:
    server = start(good_build.environment())
    photo = b"\x89PNG\r\n\x1a\n" + bytes(2_000_000)
    for _ in range(10):
        assert post(server.port, photo) == b"HTTP/1.1 400 Bad Request"
    before = memory_mib(server)
    for _ in range(200):
        post(server.port, photo)
    assert memory_mib(server) - before < 40  # 200 of them have 400 MB


def test_connections_that_stay_open_after_a_photo_keep_nothing_of_it(good_build: Any, start: Start) -> None:
    server = start(good_build.environment())
    photo = good_build.picture(1) + bytes(2_000_000)
    before = memory_mib(server)
    with ExitStack() as idle:
        for _ in range(150):
            connection = idle.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=60))
            connection.sendall(head("/v1/search", len(photo), "image/jpeg") + photo)
            assert connection.recv(65536).startswith(b"HTTP/1.1 200")
        assert memory_mib(server) - before < 40  # 150 of them have 300 MB


def test_posts_that_are_never_finished_take_no_more_than_the_budget_and_the_rest_is_refused(
    good_build: Any, start: Start
) -> None:
    server = start(good_build.environment() | {"WORKERS": "1"})
    body, budget = 9_000_000, HELD_BYTES
    before, peak = memory_mib(server), 0.0
    refused = 0
    with ExitStack() as unfinished:
        for _ in range(20):
            connection = unfinished.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=60))
            connection.sendall(head("/v1/search", body + 1, "image/jpeg"))
            with suppress(OSError):
                connection.sendall(bytes(body))
            peak = max(peak, memory_mib(server) - before)
            if select.select([connection], [], [], 0.0)[0]:
                assert connection.recv(4096).startswith(b"HTTP/1.1 503")
                refused += 1
        assert refused >= 20 - budget // body - 1
        assert peak < 2 * budget / 2**20
        assert post(server.port, bytes(body)) == b"HTTP/1.1 503 Service Unavailable"
        assert plain_http.get(f"{server.url}/v1/items/chair-1/similar").status_code == 200
    until(lambda: post(server.port, bytes(1000)) == b"HTTP/1.1 400 Bad Request")


def test_what_callers_write_at_length_is_not_kept_for_the_next_who_asks_the_same(tmp_path: Path, start: Start) -> None:
    server = start(make_vector_build(tmp_path, {"all": 50}, 8, tags={"all-1": ["brand=acme"]}) | {"WORKERS": "1"})
    long = "\N{GRINNING FACE}" + "x" * 900
    with plain_http.Client(base_url=server.url) as client:

        def ask(number: int) -> None:
            query = f"category={quote(long)}{'x' * 6000}{number}"
            assert client.get(f"/v1/items/all-1/similar?{query}").status_code == 400
            brands = {"namespace": "brand", "allowList": [f"{long}{number}-{n}" for n in range(50)]}
            datapoint = {"datapointId": "all-1", "restricts": [brands]}
            asked = client.post("/v1/findNeighbors", json={"queries": [{"datapoint": datapoint}]})
            assert asked.json()["nearestNeighbors"] == [{"id": "all-1", "neighbors": []}]

        for number in range(20):
            ask(number)
        before = memory_mib(server)
        for number in range(20, 300):
            ask(number)
    assert memory_mib(server) - before < 20  # what was asked has 65 MB


@pytest.fixture(scope="module")
def many_vectors(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return make_vector_build(tmp_path_factory.mktemp("many"), {"all": 3000}, 512) | {"WORKERS": "1"}


def neighbors_of(queries: int, k: int, *, full: bool = False) -> bytes:
    asked = [{"datapoint": {"datapointId": f"all-{n}"}, "neighborCount": k} for n in range(queries)]
    return json.dumps({"queries": asked, "returnFullDatapoint": full}).encode()


def test_an_answer_of_many_megabytes_is_written_as_it_is_read(many_vectors: dict[str, str], start: Start) -> None:
    server = start(many_vectors)
    before, peak, chunks = memory_mib(server), 0.0, []
    with httpx.stream("POST", f"{server.url}/v1/findNeighbors", content=neighbors_of(8, 1000, full=True)) as answer:
        for number, chunk in enumerate(answer.iter_raw()):
            chunks.append(chunk)
            if number % 50 == 0:
                peak = max(peak, memory_mib(server) - before)
    found = json.loads(b"".join(chunks))["nearestNeighbors"]
    assert [one["id"] for one in found] == [f"all-{n}" for n in range(8)]
    assert [len(one["neighbors"]) for one in found] == [1000] * 8
    first = found[3]["neighbors"][0]
    assert first["datapoint"]["datapointId"] == "all-3"
    assert len(first["datapoint"]["featureVector"]) == 512
    assert sum(map(len, chunks)) > 80_000_000
    assert peak < 40


def test_clients_that_do_not_read_what_they_asked_for_cost_little_and_keep_nobody_from_asking(
    many_vectors: dict[str, str], start: Start
) -> None:
    server = start(many_vectors)
    before = memory_mib(server)
    body = neighbors_of(100, 1000, full=True)
    with ExitStack() as silent:
        for _ in range(10):
            connection = silent.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=60))
            connection.sendall(head("/v1/findNeighbors", len(body), "application/json") + body)
            assert connection.recv(12) == b"HTTP/1.1 200"  # the answer has begun
        answer = plain_http.post(f"{server.url}/v1/findNeighbors", content=neighbors_of(3, 1000), timeout=60)
        assert answer.status_code == 200
        assert memory_mib(server) - before < 40  # each of the ten answers has a gigabyte


def test_work_for_clients_that_went_away_is_not_finished(many_vectors: dict[str, str], start: Start) -> None:
    server = start(many_vectors)
    body = neighbors_of(100, 1000, full=True)
    for _ in range(10):
        with socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection:
            connection.sendall(head("/v1/findNeighbors", len(body), "application/json") + body)
            assert connection.recv(12) == b"HTTP/1.1 200"
    until(lambda: metric(server, "indexpush_search_requests_in_flight") == 0)
    # an answer counts when it is whole
    assert metric(server, 'indexpush_search_requests_total{code="200",route="find-neighbors"}') == 0


def test_hundreds_of_categories_are_searched_in_pieces_and_answer_as_one(tmp_path: Path, start: Start) -> None:
    catalogue = {f"c{number}": 2 for number in range(400)}
    server = start(make_vector_build(tmp_path, catalogue, 16) | {"WORKERS": "1"})
    with plain_http.Client(base_url=server.url, timeout=60) as client:
        k = 799
        found = client.get(f"/v1/items/c7-1/similar?k={k}").json()["neighbors"]
        assert len({one["id"] for one in found}) == k
        assert [one["distance"] for one in found] == sorted(one["distance"] for one in found)
        ask = {"queries": [{"datapoint": {"datapointId": "c7-1"}, "neighborCount": 300}]}
        same = client.post("/v1/findNeighbors", json=ask).json()["nearestNeighbors"][0]["neighbors"]
        assert [one["datapoint"]["datapointId"] for one in same[1:]] == [one["id"] for one in found[:299]]


def test_short_work_is_done_in_its_order_and_a_turn_begins_nothing_once_its_time_is_over() -> None:
    done: list[int] = []
    iterations: list[int] = []

    def work(number: int) -> None:
        done.append(number)
        time.sleep(0.001)

    async def main() -> None:
        turns = Turns(0.004)
        asked = [asyncio.create_task(turns.take(partial(work, number), lambda: False)) for number in range(30)]
        while not all(one.done() for one in asked):
            before = len(done)
            await asyncio.sleep(0)
            iterations.append(len(done) - before)

    asyncio.run(main())
    assert done == list(range(30))
    assert max(iterations) <= 4


@pytest.mark.parametrize("target", ["/v1/items/all-1/similar?k=5", "/v1/items?limit=500"])
def test_what_takes_a_moment_to_answer_is_made_in_a_turn(
    many_vectors: dict[str, str], target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = Config.from_environment(many_vectors)
    pod = PodState.create(1)
    app = SearchApplication(config, pod, pod.workers[0], Log())
    app.open(open_index(config.data / "index", config.prefix, config.digest), (), None, None)  # type: ignore[arg-type]
    path, _, query = target.encode().partition(b"?")
    connection = SimpleNamespace(gone=False, pipeline=(), unread=False)
    scope = {"method": "GET", "raw_path": path, "query_string": query, "headers": []}
    asked = scope | {"extensions": {"connection": connection}}
    turns, sent = list[object](), list[dict[str, Any]]()
    take = Turns.take

    async def noted(self: Turns, work: Callable[[], Any], gone: Callable[[], bool]) -> Any:
        turns.append(work)
        return await take(self, work, gone)

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    monkeypatch.setattr(Turns, "take", noted)
    asyncio.run(app(asked, None, send))  # type: ignore[arg-type]
    assert sent[0]["status"] == 200
    assert len(turns) == 1


def test_work_is_not_done_for_whoever_has_gone_when_its_turn_comes() -> None:
    done: list[int] = []

    async def main() -> None:
        turns = Turns(0.0)  # nothing is done before the next iteration
        tasks = [asyncio.create_task(turns.take(partial(done.append, n), lambda n=n: n == 1)) for n in range(4)]
        await asyncio.sleep(0)
        tasks[2].cancel()
        results = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 60)
        assert [type(one) for one in results[1:3]] == [ClientGone, asyncio.CancelledError]

    asyncio.run(main())
    assert done == [0, 3]


def test_an_error_of_work_that_had_to_wait_comes_to_whoever_asked() -> None:
    async def main() -> None:
        with pytest.raises(ZeroDivisionError):
            await asyncio.wait_for(Turns(0.0).take(lambda: 1 / 0, lambda: False), 60)

    asyncio.run(main())


def test_what_failing_work_had_is_not_kept() -> None:
    class Body:
        def read(self) -> None:
            raise RequestMalformed("no")

    async def main() -> None:
        body = Body()
        left = weakref.ref(body)
        with pytest.raises(RequestMalformed):
            await Turns(0.0).take(body.read, lambda: False)
        del body
        await asyncio.sleep(0)
        assert left() is None

    gc.disable()
    try:
        asyncio.run(main())
    finally:
        gc.enable()


def test_no_long_work_is_begun_while_much_is_under_way_and_what_was_begun_goes_on() -> None:
    async def main() -> None:
        long = LongWork(most=10, waiting=5)
        with pytest.raises(ParameterRefused, match=r"1\.2 times"):
            long.check(12)
        with long.under_way(6, begun=False):
            with pytest.raises(Overloaded), long.under_way(1, begun=False):
                pass
            with long.under_way(1, begun=True):
                assert long.cost == 7
        with long.under_way(1, begun=False):
            assert await long.do(lambda: 3, lambda: False) == 3
            with pytest.raises(ClientGone):
                await long.do(lambda: 3, lambda: True)

    asyncio.run(main())


def test_a_short_search_that_takes_longer_beside_what_is_hidden_is_made_by_the_thread_and_counts() -> None:
    threads: list[str] = []

    class Crowded:
        """Vectors of which many are hidden where somebody asks."""

        def nearest(self, vector: Any, count: int, width: int, visible: Any, patience: float) -> Neighbours:
            del vector, count, width, visible
            threads.append(threading.current_thread().name)
            if patience < math.inf:
                raise TakesLonger
            return Neighbours([3], [0.5])

    promise = builds.partition(items=1_000_000, dimensions=512, engine=Engine.FAISS_HNSW, width=15)
    ids = SimpleNamespace(at=lambda positions: [b"chair-%d" % position for position in positions])
    partition = Partition(0, promise, Crowded(), ids)  # type: ignore[arg-type]
    index = MappedIndex(builds.index_manifest(partitions=(promise,)), "", [partition], None, None)  # type: ignore[arg-type]

    async def main() -> None:
        searches = Searches(index, Limits())
        asked = partial(searches.nearest, [1.0] * 512, 10, index.blocks, lambda: False)
        assert (await asked()).ids == [b"chair-3"]
        assert threads[0] == threading.main_thread().name
        assert threads[-1].startswith("search")
        assert searches.long.cost == 0
        searches.long.cost = 7.9e9  # a few such searches are under way
        await asked()
        searches.long.cost = 8e9
        with pytest.raises(Overloaded):
            await asked()
        await asked(begun=True)

    asyncio.run(main())


def test_a_probe_on_a_new_connection_waits_for_few_of_the_searches_that_were_asked_before_it(
    good_build: Any, start: Start
) -> None:
    server = start(good_build.environment())
    ask = b"GET /v1/items/chair-1/similar?k=40 HTTP/1.1\r\nhost: x\r\n\r\n"
    clients, each = 100, 60
    busy = [socket.create_connection(("127.0.0.1", server.port), timeout=60) for _ in range(clients)]
    for connection in busy:
        connection.sendall(ask * each)
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as probe:
        probe.sendall(b"GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        answer = b""
        while chunk := probe.recv(65536):
            answer += chunk
    line = next(line for line in answer.decode().splitlines() if 'route="similar"' in line and "_total" in line)
    answered = float(line.split()[-1])
    assert answered < clients * each / 2  # it came in between, and not after them
    for connection in busy:
        connection.close()
