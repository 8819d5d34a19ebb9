"""Connections: what goes over the wire, in what order, and how each one ends. In one process, with short times."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

import pytest
import uvloop

from search_server.config import Limits
from search_server.connections import Connections
from search_server.errors import RequestRefused, status_of
from search_server.http import Connection
from search_server.messages import Reply, Request, Response

LIMITS = Limits(
    target_bytes=200,
    head_bytes=1000,
    body_bytes=1000,
    connections=3,
    head_seconds=0.2,
    body_seconds=0.2,
    idle_seconds=0.5,
    write_seconds=0.3,
    linger_seconds=0.2,
)


class Echo:
    """Answers with what it was asked: at once, or after a moment below /later."""

    limits = LIMITS

    def __init__(self) -> None:
        self.asked: list[str] = []

    def answer(self, request: Request, reply: Reply) -> None:
        self.asked.append(f"{request.method} {request.path.decode()}")
        body = b"x" * 8_000_000 if request.path == b"/large" else request.path + b" " + request.body
        response = Response(200, body, b"")
        if request.path.startswith(b"/later"):
            asyncio.get_running_loop().call_later(0.1, reply, request, response)
        else:
            reply(request, response)

    def refuse_connection(self, refusal: Exception) -> Response:
        assert isinstance(refusal, RequestRefused)
        return Response(status_of(refusal), refusal.code.encode(), b"")

    def answered(self, request: Request | None, response: Response) -> None:
        pass


class Wire:
    """A client that sees every byte."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, *parts: bytes, pause: float = 0.0) -> None:
        for part in parts:
            self.writer.write(part)
            await self.writer.drain()
            if pause:
                await asyncio.sleep(pause)

    async def answer(self) -> tuple[int, bytes, bool]:
        """Status, body, and whether the connection ends with it."""
        head = await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), 3)
        status = int(head.split()[1])
        if status == 100:
            return status, b"", False
        fields = dict(line.split(b": ", 1) for line in head.split(b"\r\n")[1:] if line)
        body = await self.reader.readexactly(int(fields[b"content-length"]))
        return status, body, fields.get(b"connection") == b"close"

    async def end(self) -> bytes:
        """What comes until the server ends its side; a reset raises ConnectionResetError."""
        return await asyncio.wait_for(self.reader.read(), 3)


Scenario = Callable[[Callable[[], Coroutine[Any, Any, Wire]], Connections, Echo], Coroutine[Any, Any, None]]


def run(scenario: Scenario) -> None:
    """Run a scenario against a listening server, on the event loop that the real one uses."""

    async def main() -> None:
        connections, echo = Connections(), Echo()
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: Connection(echo, connections), "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]

        async def tick() -> None:
            while True:
                connections.tick()
                await asyncio.sleep(0.02)

        async def connect() -> Wire:
            return Wire(*await asyncio.open_connection("127.0.0.1", port, limit=2**24))

        ticking = asyncio.create_task(tick())
        await scenario(connect, connections, echo)
        ticking.cancel()
        with suppress(asyncio.CancelledError):
            await ticking
        server.close()

    uvloop.run(main())


def get(path: str, *headers: str) -> bytes:
    return "\r\n".join([f"GET {path} HTTP/1.1", "host: x", *headers, "", ""]).encode()


def post(path: str, body: bytes, *headers: str) -> bytes:
    fields = headers or (f"content-length: {len(body)}",)
    return "\r\n".join([f"POST {path} HTTP/1.1", "host: x", *fields, "", ""]).encode() + body


def test_a_connection_serves_many_requests() -> None:
    async def scenario(connect: Any, connections: Connections, _: Echo) -> None:
        wire = await connect()
        for n in range(5):
            await wire.send(get(f"/{n}"))
            assert await wire.answer() == (200, f"/{n} ".encode(), False)
        assert len(connections) == 1

    run(scenario)


def test_a_request_may_come_byte_by_byte() -> None:
    async def scenario(connect: Any, *_: Any) -> None:
        wire = await connect()
        await wire.send(*(bytes([byte]) for byte in post("/slowly", b"body")), pause=0.0005)
        assert await wire.answer() == (200, b"/slowly body", False)

    run(scenario)


def test_requests_sent_together_are_answered_in_their_order() -> None:
    async def scenario(connect: Any, *_: Any) -> None:
        wire = await connect()
        await wire.send(get("/later/1") + get("/2") + get("/later/3") + post("/4", b"four") + get("/5"))
        bodies = [(await wire.answer())[1] for _ in range(5)]
        assert bodies == [b"/later/1 ", b"/2 ", b"/later/3 ", b"/4 four", b"/5 "]
        await wire.send(get("/6"))
        assert (await wire.answer())[1] == b"/6 "

    run(scenario)


def test_a_request_whose_body_comes_after_an_earlier_answer_is_still_answered() -> None:
    async def scenario(connect: Any, *_: Any) -> None:
        wire = await connect()
        whole = post("/second", b"12345678")
        await wire.send(get("/later/first") + whole[:-4])
        assert (await wire.answer())[1] == b"/later/first "
        await wire.send(whole[-4:])
        assert (await wire.answer())[1] == b"/second 12345678"

    run(scenario)


def test_a_thousand_requests_sent_together_are_answered() -> None:
    async def scenario(connect: Any, *_: Any) -> None:
        wire = await connect()
        sending = asyncio.create_task(wire.send(get("/later/0") + b"".join(get(f"/{n}") for n in range(1, 1500))))
        assert (await wire.answer())[1] == b"/later/0 "
        for n in range(1, 1500):
            assert (await wire.answer())[1] == f"/{n} ".encode()
        await sending

    run(scenario)


def test_a_client_that_goes_before_its_answer_disturbs_nobody() -> None:
    async def scenario(connect: Any, connections: Connections, _: Echo) -> None:
        wire = await connect()
        await wire.send(get("/later"))
        await asyncio.sleep(0.02)
        wire.writer.transport.abort()
        await asyncio.sleep(0.3)
        assert len(connections) == 0
        other = await connect()
        await other.send(get("/"))
        assert (await other.answer())[0] == 200

    run(scenario)


def test_a_chunked_body_is_read() -> None:
    async def scenario(connect: Any, *_: Any) -> None:
        wire = await connect()
        await wire.send(post("/c", b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n", "transfer-encoding: chunked"))
        assert await wire.answer() == (200, b"/c abcde", False)

    run(scenario)


def test_a_client_that_asks_first_is_told_to_continue_or_not_to() -> None:
    async def scenario(connect: Any, *_: Any) -> None:
        wire = await connect()
        await wire.send(post("/e", b"", "content-length: 4", "expect: 100-continue"))
        assert (await wire.answer())[0] == 100
        await wire.send(b"body")
        assert await wire.answer() == (200, b"/e body", False)
        await wire.send(post("/e", b"", "content-length: 4000", "expect: 100-continue"))
        assert await wire.answer() == (413, b"body-too-large", True)

    run(scenario)


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        (post("/", b"", "content-length: 1001"), (413, b"body-too-large")),
        (post("/", b"5dc\r\n" + b"x" * 1500, "transfer-encoding: chunked"), (413, b"body-too-large")),
        (get("/" + "x" * 300), (431, b"head-too-large")),
        (b"GET / HTTP/1.1\r\nhost: x\r\nlong: " + b"x" * 1100, (431, b"head-too-large")),
        (b"NONSENSE\r\n\r\n", (400, b"request-malformed")),
        (b"GET / HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n", (400, b"request-malformed")),
        (
            post("/", b"0\r\n\r\n", "content-length: 4", "transfer-encoding: chunked"),
            (400, b"request-malformed"),
        ),
        (b"CONNECT example.com:443 HTTP/1.1\r\nhost: x\r\n\r\n", (400, b"request-malformed")),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01", (400, b"request-malformed")),
    ],
    ids=["length", "chunks", "target", "head", "nonsense", "negative", "smuggling", "connect", "tls"],
)
def test_what_cannot_be_read_is_refused_and_the_connection_ends(sent: bytes, expected: tuple[int, bytes]) -> None:
    async def scenario(connect: Any, connections: Connections, echo: Echo) -> None:
        wire = await connect()
        await wire.send(sent)
        assert await wire.answer() == (*expected, True)
        assert await wire.end() == b""
        assert echo.asked == []
        await asyncio.sleep(0.4)
        assert len(connections) == 0

    run(scenario)


def test_a_refusal_arrives_although_the_client_is_still_sending() -> None:
    async def scenario(connect: Any, *_: Any) -> None:
        wire = await connect()
        await wire.send(post("/", b"", "content-length: 500000"))
        sending = asyncio.create_task(wire.send(*[b"x" * 5000] * 20, pause=0.005))
        assert await wire.answer() == (413, b"body-too-large", True)
        await sending

    run(scenario)


def test_a_client_that_asks_to_close_gets_its_answer_and_an_orderly_end() -> None:
    async def scenario(connect: Any, *_: Any) -> None:
        for request in (
            get("/", "connection: close"),
            b"GET / HTTP/1.0\r\n\r\n",
            get("/", "connection: upgrade", "upgrade: h2c"),
        ):
            wire = await connect()
            await wire.send(request)
            assert await wire.answer() == (200, b"/ ", True)
            assert await wire.end() == b""
            wire.writer.close()

    run(scenario)


def test_a_client_that_ends_its_side_gets_its_answer_still() -> None:
    async def scenario(connect: Any, *_: Any) -> None:
        for path in ("/", "/later"):
            wire = await connect()
            await wire.send(get(path))
            wire.writer.write_eof()
            assert (await wire.answer())[:2] == (200, f"{path} ".encode())
            assert await wire.end() == b""

    run(scenario)


def test_a_client_that_never_finishes_is_told_and_left() -> None:
    async def scenario(connect: Any, connections: Connections, _: Echo) -> None:
        head, body, silent = await connect(), await connect(), await connect()
        await head.send(b"GET / HTTP/1.1\r\nho")
        await body.send(post("/", b"abc", "content-length: 4"))
        assert await head.answer() == (408, b"request-too-slow", True)
        assert await body.answer() == (408, b"request-too-slow", True)
        assert await silent.end() == b""
        await asyncio.sleep(0.4)
        assert len(connections) == 0

    run(scenario)


def test_a_client_that_dribbles_gains_no_time_by_it() -> None:
    async def scenario(connect: Any, *_: Any) -> None:
        wire = await connect()
        dribble = asyncio.create_task(wire.send(*[b"GET / HTTP/1.1\r\n", *[b"a: b\r\n"] * 30], pause=0.02))
        assert await wire.answer() == (408, b"request-too-slow", True)
        dribble.cancel()

    run(scenario)


def test_an_idle_connection_ends_after_its_time_and_not_before() -> None:
    async def scenario(connect: Any, *_: Any) -> None:
        wire = await connect()
        await wire.send(get("/"))
        await wire.answer()
        await asyncio.sleep(0.3)  # longer than a head may take
        await wire.send(get("/again"))
        assert (await wire.answer())[1] == b"/again "
        assert await wire.end() == b""

    run(scenario)


def test_a_client_that_does_not_read_is_cut_off() -> None:
    async def scenario(connect: Any, connections: Connections, _: Echo) -> None:
        wire = await connect()
        wire.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        wire.reader._transport.pause_reading()
        await wire.send(get("/large") + get("/large"))
        await asyncio.sleep(1)
        assert len(connections) == 0

    run(scenario)


def test_one_connection_too_many_is_turned_away() -> None:
    async def scenario(connect: Any, *_: Any) -> None:
        wires = [await connect() for _ in range(4)]
        assert await wires[3].answer() == (503, b"overloaded", True)
        await wires[0].send(get("/"))
        assert (await wires[0].answer())[0] == 200

    run(scenario)


def test_while_draining_every_answer_is_the_last_of_its_connection() -> None:
    async def scenario(connect: Any, connections: Connections, _: Echo) -> None:
        used, unused = await connect(), await connect()
        for wire in (used, unused):
            await wire.send(get("/"))
            await wire.answer()
        connections.draining = True
        await used.send(get("/"))
        assert await used.answer() == (200, b"/ ", True)
        assert await used.end() == b""
        new = await connect()
        await new.send(get("/new"))
        assert await new.answer() == (200, b"/new ", True)
        connections.leave_unless_answering()
        assert await unused.end() == b""

    run(scenario)


def test_while_draining_requests_sent_together_are_all_answered() -> None:
    async def scenario(connect: Any, connections: Connections, _: Echo) -> None:
        wire = await connect()
        await wire.send(get("/later/1") + get("/2") + get("/later/3"))
        await asyncio.sleep(0.02)
        connections.draining = True
        answers = [await wire.answer() for _ in range(3)]
        assert [(body, last) for _, body, last in answers] == [
            (b"/later/1 ", False), (b"/2 ", False), (b"/later/3 ", True),
        ]  # fmt: skip
        assert await wire.end() == b""

    run(scenario)


def test_a_request_on_its_way_in_is_not_cut_off_by_leaving() -> None:
    async def scenario(connect: Any, connections: Connections, _: Echo) -> None:
        wire = await connect()
        whole = post("/half", b"body")
        await wire.send(whole[:-2])
        await asyncio.sleep(0.02)
        connections.draining = True
        connections.leave_unless_answering()
        assert connections.answering == 1
        await wire.send(whole[-2:])
        assert await wire.answer() == (200, b"/half body", True)

    run(scenario)
