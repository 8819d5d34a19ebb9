"""A real HTTP server with pictures, which remembers when it was asked for what, and misbehaves as it is told."""

from __future__ import annotations

import asyncio
import bisect
import hashlib
import ssl
import threading
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from aiohttp import web

MODIFIED = "Fri, 27 Nov 2026 08:00:00 GMT"

Step = Callable[[web.Request], Awaitable[web.StreamResponse]]
"""How one request is answered, where that isn't as usual."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """A request, as the host saw it. at: seconds, of the monotonic clock."""

    at: float
    path: str
    headers: Mapping[str, str]


@dataclass
class PictureHost:
    """Pictures at every path, unless `paths` says otherwise: the steps of its first requests; then it is as usual.

    always: what a path answers each time. watch: called at each request. body: of the picture at a path.
    body_bytes: of pictures sent, in all.
    """

    address: str
    port: int = 0
    scheme: str = "http"
    paths: dict[str, list[Step]] = field(default_factory=dict)
    always: dict[str, Step] = field(default_factory=dict)
    arrivals: list[Arrival] = field(default_factory=list)
    body_bytes: int = 0
    watch: Callable[[], object] = int
    body: Callable[[str], bytes] = lambda path: picture(path)  # noqa: PLW0108 - defined below
    opened: set[object] = field(default_factory=set)
    runner: web.AppRunner | None = None

    def url(self, path: str) -> str:
        return f"{self.scheme}://{self.address}:{self.port}/{path}"

    def asked(self, path: str) -> int:
        """How often for this path."""
        return sum(arrival.path == f"/{path}" for arrival in self.arrivals)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.arrivals.append(Arrival(time.monotonic(), request.raw_path, request.headers))
        self.opened.add(request.protocol)
        self.watch()
        path = request.path.removeprefix("/")
        if steps := self.paths.get(path):
            return await steps.pop(0)(request)
        if path in self.always:
            return await self.always[path](request)
        if path == "robots.txt":
            return web.Response(status=404)
        return self.picture(request)

    def picture(self, request: web.Request) -> web.Response:
        data = self.body(request.path)
        etag = f'"{hashlib.sha256(data).hexdigest()[:16]}"'
        headers = {"ETag": etag, "Last-Modified": MODIFIED}
        if etag in request.headers.get("If-None-Match", "") or request.headers.get("If-Modified-Since") == MODIFIED:
            return web.Response(status=304, headers=headers)
        self.body_bytes += len(data)
        return web.Response(body=data, headers=headers, content_type="image/jpeg")


def picture(path: str) -> bytes:
    """The bytes of the picture at a path, /p/1.jpg, whatever the host."""
    return hashlib.sha256(path.encode()).digest() * 8


def status(code: int, headers: Mapping[str, str] | None = None, text: str = "") -> Step:
    async def step(_: web.Request) -> web.StreamResponse:
        return web.Response(status=code, headers=headers, text=text)

    return step


def moved(target: str, code: int = 302) -> Step:
    return status(code, {"Location": target})


async def reset(request: web.Request) -> web.StreamResponse:
    """No answer: the connection is cut."""
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


def raw(answer: bytes) -> Step:
    """An answer of these very bytes."""

    async def step(request: web.Request) -> web.StreamResponse:
        assert isinstance(request.transport, asyncio.WriteTransport)
        request.transport.write(answer)
        request.transport.close()  # after what was written
        return web.Response()

    return step


async def silence(_: web.Request) -> web.StreamResponse:
    """No answer, for longer than anybody waits."""
    await asyncio.sleep(3600)
    return web.Response()


def cut_short(sent: int, promised: int) -> Step:
    """An answer that ends before its end."""

    async def step(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": str(promised)})
        await response.prepare(request)
        await response.write(b"x" * sent)
        assert request.transport is not None
        request.transport.abort()
        return response

    return step


def stream(sizes: Iterable[int], pause: float = 0.0) -> Step:
    """A body in chunks, without a length."""

    async def step(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for size in sizes:
            await response.write(b"x" * size)
            await asyncio.sleep(pause)
        return response

    return step


def most_in(seconds: float, arrivals: Iterable[Arrival]) -> int:
    """The most arrivals within any so many seconds, both ends included."""
    times = sorted(arrival.at for arrival in arrivals)
    return max(
        (bisect.bisect_right(times, begin + seconds) - number for number, begin in enumerate(times)),
        default=0,
    )


@contextmanager
def hosting(address: str = "127.0.0.1", tls: ssl.SSLContext | None = None) -> Iterator[PictureHost]:
    """A host that listens, in a thread of its own."""
    host = PictureHost(address, scheme="https" if tls else "http")
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        asyncio.run_coroutine_threadsafe(_start(host, tls), loop).result()
        yield host
    finally:
        asyncio.run_coroutine_threadsafe(_stop(host), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _start(host: PictureHost, tls: ssl.SSLContext | None) -> None:
    app = web.Application()
    app.router.add_get("/{path:.*}", host.answer)
    host.runner = web.AppRunner(app, shutdown_timeout=0)
    await host.runner.setup()
    site = web.TCPSite(host.runner, host.address, 0, ssl_context=tls)
    await site.start()
    host.port = host.runner.addresses[0][1]


async def _stop(host: PictureHost) -> None:
    assert host.runner is not None
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        task.cancel()  # answers that would never end
    await host.runner.cleanup()
