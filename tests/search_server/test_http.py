"""Connections: what goes over the wire, in what order, and how each one ends. In one process, on a clock of its own."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import uvicorn
import uvloop
from uvicorn.server import ServerState

from search_server.config import Limits
from search_server.errors import RequestRefused
from search_server.http.protocol import BoundedProtocol
from search_server.http.responses import Response, response

LIMITS = Limits(
    target_bytes=200,
    head_bytes=1000,
    body_bytes=1000,
    connections=3,
    head_seconds=10,
    body_seconds=30,
    idle_seconds=620,
    write_seconds=30,
    linger_seconds=2,
)


class Echo:
    """Answers with what it was asked: at once, or below /later when it is let."""

    limits = LIMITS

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.let = asyncio.Event()
        self.draining = False
        self.now = 0.0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.asked.append(f"{scope['method']} {scope['raw_path'].decode()}")
        body = b""
        while True:
            message = await receive()
            if message["type"] != "http.request":
                return
            body += message["body"]
            if not message["more_body"]:
                break
        if scope["raw_path"].startswith(b"/later"):
            await self.let.wait()
        answer = b"x" * 8_000_000 if scope["raw_path"] == b"/large" else scope["raw_path"] + b" " + body
        headers = [(b"content-length", b"%d" % len(answer))]
        if self.draining and not scope["extensions"]["connection"].pipeline:
            headers.append((b"connection", b"close"))
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": answer})

    def refuse(self, refusal: RequestRefused) -> Response:
        return response(refusal.status, refusal.code.encode())


class Server:
    """What a scenario plays with: connections to a listening server, and its time."""

    def __init__(self, echo: Echo, state: ServerState, port: int) -> None:
        self.echo = echo
        self._state = state
        self._port = port

    async def connect(self) -> Wire:
        return Wire(*await asyncio.open_connection("127.0.0.1", self._port, limit=2**24))

    @property
    def connections(self) -> list[BoundedProtocol]:
        return [one for one in self._state.connections if isinstance(one, BoundedProtocol)]

    async def until(self, true: Callable[[], bool]) -> None:
        """Wait for what must happen; only a hang takes so long."""
        async with asyncio.timeout(30):
            while not true():  # noqa: ASYNC110 - what is waited for has no events
                await asyncio.sleep(0.001)

    async def began(self, count: int = 1) -> None:
        """Wait until so many requests are on their way in, or being answered."""
        await self.until(lambda: sum(one.answering for one in self.connections) >= count)

    def pass_time(self, seconds: float) -> None:
        self.echo.now += seconds
        for connection in self.connections:
            connection.tick()


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
        head = await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), 30)
        status = int(head.split()[1])
        if status == 100:
            return status, b"", False
        fields = dict(line.split(b": ", 1) for line in head.split(b"\r\n")[1:] if line)
        body = await self.reader.readexactly(int(fields[b"content-length"]))
        return status, body, fields.get(b"connection") == b"close"

    async def end(self) -> bytes:
        """What comes until the server ends its side; a reset raises ConnectionResetError."""
        return await asyncio.wait_for(self.reader.read(), 30)


Scenario = Callable[[Server], Coroutine[Any, Any, None]]


def run(scenario: Scenario) -> None:
    """Run a scenario against a listening server, on the event loop that the real one uses."""

    async def main() -> None:
        echo, state = Echo(), ServerState()
        config = uvicorn.Config(
            echo,
            http=BoundedProtocol,
            ws="none",
            interface="asgi3",
            log_config=None,
            log_level="critical",
            access_log=False,
            proxy_headers=False,
        )
        config.load()
        loop = asyncio.get_running_loop()

        def protocol() -> BoundedProtocol:
            return BoundedProtocol(config=config, server_state=state, app_state={})

        listener = await loop.create_server(protocol, "127.0.0.1", 0)
        await scenario(Server(echo, state, listener.sockets[0].getsockname()[1]))
        listener.close()

    uvloop.run(main())


def get(path: str, *headers: str) -> bytes:
    return "\r\n".join([f"GET {path} HTTP/1.1", "host: x", *headers, "", ""]).encode()


def post(path: str, body: bytes, *headers: str) -> bytes:
    fields = headers or (f"content-length: {len(body)}",)
    return "\r\n".join([f"POST {path} HTTP/1.1", "host: x", *fields, "", ""]).encode() + body


def test_a_connection_serves_many_requests() -> None:
    async def scenario(server: Server) -> None:
        wire = await server.connect()
        for n in range(5):
            await wire.send(get(f"/{n}"))
            assert await wire.answer() == (200, f"/{n} ".encode(), False)
        assert len(server.connections) == 1

    run(scenario)


def test_a_request_may_come_byte_by_byte() -> None:
    async def scenario(server: Server) -> None:
        wire = await server.connect()
        await wire.send(*(bytes([byte]) for byte in post("/slowly", b"body")), pause=0.0005)
        assert await wire.answer() == (200, b"/slowly body", False)

    run(scenario)


def test_requests_sent_together_are_answered_in_their_order() -> None:
    async def scenario(server: Server) -> None:
        wire = await server.connect()
        await wire.send(get("/later/1") + get("/2") + get("/later/3") + post("/4", b"four") + get("/5"))
        await server.began()
        server.echo.let.set()
        bodies = [(await wire.answer())[1] for _ in range(5)]
        assert bodies == [b"/later/1 ", b"/2 ", b"/later/3 ", b"/4 four", b"/5 "]
        await wire.send(get("/6"))
        assert (await wire.answer())[1] == b"/6 "

    run(scenario)


def test_a_request_whose_body_comes_after_an_earlier_answer_is_still_answered() -> None:
    async def scenario(server: Server) -> None:
        wire = await server.connect()
        whole = post("/second", b"12345678")
        await wire.send(get("/later/first") + whole[:-4])
        await server.began()
        server.echo.let.set()
        assert (await wire.answer())[1] == b"/later/first "
        await wire.send(whole[-4:])
        assert (await wire.answer())[1] == b"/second 12345678"

    run(scenario)


def test_a_thousand_requests_sent_together_are_answered() -> None:
    async def scenario(server: Server) -> None:
        wire = await server.connect()
        sending = asyncio.create_task(wire.send(get("/later/0") + b"".join(get(f"/{n}") for n in range(1, 1500))))
        await server.began()
        server.echo.let.set()
        assert (await wire.answer())[1] == b"/later/0 "
        for n in range(1, 1500):
            assert (await wire.answer())[1] == f"/{n} ".encode()
        await sending

    run(scenario)


def test_a_client_that_goes_before_its_answer_disturbs_nobody() -> None:
    async def scenario(server: Server) -> None:
        wire = await server.connect()
        await wire.send(get("/later"))
        await server.until(lambda: server.echo.asked == ["GET /later"])
        wire.writer.transport.abort()
        server.echo.let.set()
        await server.until(lambda: not server.connections)
        other = await server.connect()
        await other.send(get("/"))
        assert (await other.answer())[0] == 200

    run(scenario)


def test_a_chunked_body_is_read() -> None:
    async def scenario(server: Server) -> None:
        wire = await server.connect()
        await wire.send(post("/c", b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n", "transfer-encoding: chunked"))
        assert await wire.answer() == (200, b"/c abcde", False)

    run(scenario)


def test_a_client_that_asks_first_is_told_to_continue_or_not_to() -> None:
    async def scenario(server: Server) -> None:
        wire = await server.connect()
        await wire.send(post("/e", b"", "content-length: 4", "expect: 100-continue"))
        assert (await wire.answer())[0] == 100
        await wire.send(b"body")
        assert await wire.answer() == (200, b"/e body", False)
        await wire.send(post("/e", b"", "content-length: 4000", "expect: 100-continue"))
        assert await wire.answer() == (413, b"body-too-large", True)

    run(scenario)


CHUNKED = "transfer-encoding: chunked"


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        (post("/", b"", "content-length: 1001"), (413, b"body-too-large")),
        (post("/", b"5dc\r\n" + b"x" * 1500, CHUNKED), (413, b"body-too-large")),
        (get("/" + "x" * 300), (431, b"head-too-large")),
        (b"GET / HTTP/1.1\r\nhost: x\r\nlong: " + b"x" * 1100, (431, b"head-too-large")),
        (b"NONSENSE\r\n\r\n", (400, b"request-malformed")),
        (b"GET / HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n", (400, b"request-malformed")),
        (post("/", b"0\r\n\r\n", "content-length: 4", CHUNKED), (400, b"request-malformed")),
        (b"CONNECT example.com:443 HTTP/1.1\r\nhost: x\r\n\r\n", (400, b"request-malformed")),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01", (400, b"request-malformed")),
        (post("/", b"0\r\n" + b"trailer: x\r\n" * 100, CHUNKED), (431, b"head-too-large")),
    ],
    ids=["length", "chunks", "target", "head", "nonsense", "negative", "smuggling", "connect", "tls", "trailers"],
)
def test_what_cannot_be_read_is_refused_and_the_connection_ends(sent: bytes, expected: tuple[int, bytes]) -> None:
    async def scenario(server: Server) -> None:
        wire = await server.connect()
        await wire.send(sent)
        assert await wire.answer() == (*expected, True)
        assert await wire.end() == b""
        answered = len(server.connections)
        server.pass_time(LIMITS.linger_seconds + 1)
        await server.until(lambda: not server.connections)
        assert answered <= 1

    run(scenario)


def test_a_trailer_or_a_chunks_extension_does_not_go_on_for_ever() -> None:
    async def scenario(server: Server) -> None:
        for endless in (b"0\r\nt: ", b"1;e="):
            wire = await server.connect()
            await wire.send(post("/", endless, CHUNKED))
            await server.began()
            sending = asyncio.create_task(wire.send(*[b"x" * 500] * 20, pause=0.001))
            assert await wire.answer() == (431, b"head-too-large", True)
            await sending

    run(scenario)


def test_a_refusal_arrives_although_the_client_is_still_sending() -> None:
    async def scenario(server: Server) -> None:
        wire = await server.connect()
        await wire.send(post("/", b"", "content-length: 500000"))
        sending = asyncio.create_task(wire.send(*[b"x" * 5000] * 20, pause=0.005))
        assert await wire.answer() == (413, b"body-too-large", True)
        await sending

    run(scenario)


def test_a_refusal_waits_for_the_answers_to_earlier_requests() -> None:
    async def scenario(server: Server) -> None:
        wire = await server.connect()
        await wire.send(get("/later/1") + get("/2") + b"NONSENSE\r\n\r\n")
        await server.began()
        server.echo.let.set()
        assert await wire.answer() == (200, b"/later/1 ", False)
        assert await wire.answer() == (200, b"/2 ", True)
        assert await wire.end() == b""

    run(scenario)


def test_a_client_that_asks_to_close_gets_its_answer_and_an_orderly_end() -> None:
    async def scenario(server: Server) -> None:
        for request in (get("/", "connection: close"), b"GET / HTTP/1.0\r\n\r\n"):
            wire = await server.connect()
            await wire.send(request)
            assert await wire.answer() == (200, b"/ ", True)
            assert await wire.end() == b""
            wire.writer.close()

    run(scenario)


def test_a_client_that_asks_for_another_protocol_is_answered_in_this_one() -> None:
    async def scenario(server: Server) -> None:
        wire = await server.connect()
        await wire.send(get("/", "connection: upgrade", "upgrade: h2c"))
        assert (await wire.answer())[:2] == (200, b"/ ")

    run(scenario)


def test_a_client_that_ends_its_side_gets_its_answer_still() -> None:
    async def scenario(server: Server) -> None:
        server.echo.let.set()
        for path in ("/", "/later"):
            wire = await server.connect()
            await wire.send(get(path))
            wire.writer.write_eof()
            assert (await wire.answer())[:2] == (200, f"{path} ".encode())
            assert await wire.end() == b""

    run(scenario)


def test_a_client_that_never_finishes_is_told_and_left() -> None:
    async def scenario(server: Server) -> None:
        head, body, silent = await server.connect(), await server.connect(), await server.connect()
        await head.send(b"GET / HTTP/1.1\r\nho")
        await body.send(post("/", b"abc", "content-length: 4"))
        await server.began(2)
        server.pass_time(LIMITS.head_seconds - 1)
        assert [one.transport.is_closing() for one in server.connections] == [False] * 3
        server.pass_time(2)
        assert await head.answer() == (408, b"request-too-slow", True)
        assert await silent.end() == b""
        server.pass_time(LIMITS.body_seconds)
        assert await body.answer() == (408, b"request-too-slow", True)
        server.pass_time(LIMITS.linger_seconds + 1)
        await server.until(lambda: not server.connections)

    run(scenario)


def test_a_client_that_dribbles_gains_no_time_by_it() -> None:
    async def scenario(server: Server) -> None:
        wire = await server.connect()
        await wire.send(b"GET / HTTP/1.1\r\n")
        await server.began()
        for _ in range(12):
            await wire.send(b"a: b\r\n")
            server.pass_time(1)
        assert await wire.answer() == (408, b"request-too-slow", True)

    run(scenario)


def test_an_idle_connection_ends_after_its_time_and_not_before() -> None:
    async def scenario(server: Server) -> None:
        wire = await server.connect()
        await wire.send(get("/"))
        await wire.answer()
        server.pass_time(LIMITS.idle_seconds - 1)
        await wire.send(get("/again"))
        assert (await wire.answer())[1] == b"/again "
        server.pass_time(LIMITS.idle_seconds + 1)
        assert await wire.end() == b""

    run(scenario)


def test_a_client_that_does_not_read_is_cut_off() -> None:
    async def scenario(server: Server) -> None:
        wire = await server.connect()
        wire.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        wire.reader._transport.pause_reading()  # type: ignore[attr-defined]
        await wire.send(get("/large") + get("/large"))
        await server.until(lambda: any(one.flow.write_paused for one in server.connections))
        server.pass_time(LIMITS.write_seconds + 1)
        await server.until(lambda: not server.connections)

    run(scenario)


def test_one_connection_too_many_is_turned_away() -> None:
    async def scenario(server: Server) -> None:
        wires = [await server.connect() for _ in range(4)]
        assert await wires[3].answer() == (503, b"overloaded", True)
        await wires[0].send(get("/"))
        assert (await wires[0].answer())[0] == 200

    run(scenario)


def test_while_draining_every_answer_is_the_last_of_its_connection() -> None:
    async def scenario(server: Server) -> None:
        used, unused = await server.connect(), await server.connect()
        for wire in (used, unused):
            await wire.send(get("/"))
            await wire.answer()
        server.echo.draining = True
        await used.send(get("/"))
        assert await used.answer() == (200, b"/ ", True)
        assert await used.end() == b""
        new = await server.connect()
        await new.send(get("/new"))
        assert await new.answer() == (200, b"/new ", True)
        for connection in server.connections:
            connection.shutdown()
        assert await unused.end() == b""

    run(scenario)


def test_while_draining_requests_sent_together_are_all_answered() -> None:
    async def scenario(server: Server) -> None:
        wire = await server.connect()
        await wire.send(get("/later/1") + get("/2") + get("/later/3"))
        await server.began()
        server.echo.draining = True
        server.echo.let.set()
        answers = [await wire.answer() for _ in range(3)]
        assert [(body, last) for _, body, last in answers] == [
            (b"/later/1 ", False), (b"/2 ", False), (b"/later/3 ", True),
        ]  # fmt: skip
        assert await wire.end() == b""

    run(scenario)


def test_a_request_on_its_way_in_counts_as_being_answered() -> None:
    async def scenario(server: Server) -> None:
        wire = await server.connect()
        whole = post("/half", b"body")
        await wire.send(whole[:-2])
        await server.began()
        server.echo.draining = True
        assert [one.answering for one in server.connections] == [True]
        await wire.send(whole[-2:])
        assert await wire.answer() == (200, b"/half body", True)

    run(scenario)
