"""What many clients cost together: memory that comes back, and probes that others can't starve."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from search_server.app import IterationLimit

Start = Callable[..., Any]


def resident_mib(pid: int) -> int:
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) // 1024


def post(port: int, body: bytes) -> bytes:
    """One request on a connection of its own; the status line."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        head = f"POST /v1/search HTTP/1.1\r\nhost: x\r\ncontent-type: image/png\r\ncontent-length: {len(body)}\r\n\r\n"
        connection.sendall(head.encode() + body)
        answer = connection.recv(4096)
    return answer.partition(b"\r\n")[0]


def test_bodies_of_requests_that_were_answered_are_not_kept(good_build: Any, start: Start) -> None:
    server = start(good_build.environment())
    photo = b"\x89PNG\r\n\x1a\n" + bytes(2_000_000)
    for _ in range(10):
        assert post(server.port, photo) == b"HTTP/1.1 400 Bad Request"
    before = resident_mib(server.process.pid)
    for _ in range(200):
        post(server.port, photo)
    assert resident_mib(server.process.pid) - before < 40  # 200 of them have 400 MB


def test_searches_pass_in_their_order_and_only_so_many_in_one_iteration_of_the_loop() -> None:
    passed: list[int] = []
    iterations: list[int] = []

    async def search(limit: IterationLimit, number: int) -> None:
        await limit()
        passed.append(number)

    async def main() -> None:
        limit = IterationLimit(4)
        searches = [asyncio.create_task(search(limit, number)) for number in range(50)]
        while not all(one.done() for one in searches):
            before = len(passed)
            await asyncio.sleep(0)
            iterations.append(len(passed) - before)
        late = [asyncio.create_task(search(limit, 50 + number)) for number in range(3)]
        await asyncio.gather(*late)

    asyncio.run(main())
    assert passed == list(range(53))
    assert max(iterations) <= 4


def test_a_search_whose_client_is_gone_lets_the_others_pass() -> None:
    async def main() -> None:
        limit = IterationLimit(1)
        first, gone, last = (asyncio.create_task(limit()) for _ in range(3))
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.wait_for(asyncio.gather(first, last), 30)

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
