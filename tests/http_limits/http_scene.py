"""A listening server in this process on a clock of the test's own, and clients that see every byte."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import uvicorn
import uvloop
from uvicorn.server import ServerState

from http_limits.budget import ByteBudget
from http_limits.limits import ConnectionLimits
from http_limits.listener import listen
from http_limits.protocol import BoundedProtocol, connections_of, settle
from http_limits.refusals import RequestRefused, Response

LIMITS = ConnectionLimits(
    target_bytes=200,
    head_bytes=1000,
    body_bytes=1000,
    held_bytes=20_000_000,
    connections=3,
    head_seconds=10,
    body_seconds=30,
    idle_seconds=620,
    write_seconds=30,
    linger_seconds=2,
)


class Echo:
    """Answers with what it was asked: at once, or below /later when it is let.

    waiting: how many requests of its connection waited when each was begun with.
    """

    limits = LIMITS

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.waiting: list[int] = []
        self.let = asyncio.Event()
        self.draining = False
        self.now = 0.0
        self.held = ByteBudget(LIMITS.held_bytes)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.waiting.append(len(scope["extensions"]["connection"].pipeline))
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
        body = refusal.code.encode()
        return Response(refusal.status, body, [(b"content-length", b"%d" % len(body))])


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
        return connections_of(self._state)

    async def until(self, true: Callable[[], bool]) -> None:
        """Wait for what must happen; only a hang takes so long."""
        async with asyncio.timeout(30):
            while not true():  # noqa: ASYNC110 - what is waited for has no events
                await asyncio.sleep(0.001)

    async def began(self, count: int = 1) -> None:
        """Wait until so many requests are on their way in, or being answered."""
        await self.until(lambda: sum(one.answering for one in self.connections) >= count)

    async def settle(self, seconds: float) -> None:
        await settle(self._state, seconds)

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

        listener = await loop.create_server(protocol, sock=listen("127.0.0.1", 0))
        await scenario(Server(echo, state, listener.sockets[0].getsockname()[1]))
        listener.close()

    uvloop.run(main())


def get(path: str, *headers: str) -> bytes:
    return "\r\n".join([f"GET {path} HTTP/1.1", "host: x", *headers, "", ""]).encode()


def post(path: str, body: bytes, *headers: str) -> bytes:
    fields = headers or (f"content-length: {len(body)}",)
    return "\r\n".join([f"POST {path} HTTP/1.1", "host: x", *fields, "", ""]).encode() + body
