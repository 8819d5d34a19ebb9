"""Pictures by http:// and https://, politely, on one event loop.

A worker is one connection to one host. It holds one of the seats, of which there are as many as connections may be
open, so idle connections are counted too; it sends the requests that wait for its host one after another, and leaves
when there are none, or when others want its seat and it has had its turn. A host gets a second worker only when its
pace would allow a request and the first is still busy.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import hashlib
import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from random import Random
from typing import Final

import aiohttp

from embedding_batch.pictures.answers import Elsewhere, Failed, Refused, Unchanged, host_of, parse_url
from embedding_batch.pictures.exchange import exchange, open_session, validator
from embedding_batch.pictures.hosts import Host, Origin, Request
from embedding_batch.pictures.picture import Fetched, Picture, missing
from embedding_batch.pictures.politeness import EXPECTED_BYTES, Politeness
from embedding_batch.pictures.robots import EVERYTHING, Robots, read_robots, unreachable
from embedding_batch.pictures.room import Room, Share

_HOPS: Final = 5
_TURN_SECONDS: Final = 5.0
_LINGER_SECONDS: Final = 2.0
"""How long a connection without work is kept."""

Deliver = Callable[[Fetched, Share | None], None]


class Web:
    """Fetches what is added to it, and delivers each picture once. For use within its event loop.

    deliver: gets what became of a picture, and its share of the room, for whoever takes the bytes to free. crash: gets
    an error that nobody expected.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        politeness: Politeness,
        room: Room,
        *,
        deliver: Deliver,
        crash: Callable[[BaseException], None],
    ) -> None:
        self._politeness = politeness
        self._room = room
        self._deliver = deliver
        self._crash = crash
        self._loop = loop
        self._chance = Random()  # noqa: S311 - jitter
        self._hosts: dict[str, Host] = {}
        self._crews: dict[Host, _Crew] = {}
        self._origins: dict[tuple[str, str, int | None], Origin] = {}
        self._seats = asyncio.Semaphore(politeness.connections)
        self._seats_wanted = 0
        self._lingering: set[_Crew] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._too_late: str | None = None
        loop.call_later(politeness.longest_fetch, self._end)

    def add(self, picture: Picture) -> None:
        """Have a picture fetched."""
        url = parse_url(picture.uri)
        if url is None:
            self._deliver(missing(picture, "the picture can't be fetched: its URI is no http:// or https:// URL"), None)
        else:
            self._send(Request(picture, url))

    def _send(self, request: Request) -> None:
        host = self._host(host_of(request.url))
        if host.given_up is not None:
            self._refuse(request, host.given_up, may_pass=True)
            return
        if isinstance(request.wanted, Picture) and self._politeness.robots:
            robots = self._robots(request, host)
            if robots is None:
                return
            refusal = robots.refuses(str(request.url), self._politeness.product)
            if refusal is not None:
                self._refuse(request, f"{host.name}: {refusal}", may_pass=robots.may_pass)
                return
        host.add(request, first=isinstance(request.wanted, Origin))
        self._staff(host)

    def _host(self, name: str) -> Host:
        if name not in self._hosts:
            self._hosts[name] = host = Host(name, self._politeness, self._loop.time(), self._chance)
            host.given_up = self._too_late
            self._crews[host] = _Crew()
        return self._hosts[name]

    def _robots(self, request: Request, host: Host) -> Robots | None:
        """What the origin allows; None: that is still to come, and the request waits for it."""
        key = (request.url.scheme, host.name, request.url.port)
        origin = self._origins.get(key)
        if origin is None:
            self._origins[key] = origin = Origin(request.url.origin() / "robots.txt")
            self._send(Request(origin, origin.url))
        if origin.robots is None:
            origin.waiting.append(request)
        elif origin.robots.delay is not None:
            host.pace.slow_down(1 / origin.robots.delay, self._loop.time())
        return origin.robots

    # Workers

    def _staff(self, host: Host) -> None:
        """See to it that somebody asks the host, if anything waits and it may be asked."""
        crew = self._crews[host]
        crew.news.set()
        if host.waits and not crew.free and crew.workers < self._politeness.connections_a_host:
            crew.workers += 1
            crew.free += 1
            task = self._loop.create_task(self._work(host, crew))
            self._tasks.add(task)
            task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._crash(error)

    async def _work(self, host: Host, crew: _Crew) -> None:
        try:
            idle = _LINGER_SECONDS + _TURN_SECONDS
            async with self._seat(), open_session(self._politeness, self._tls, idle) as session:
                since = self._loop.time()
                while True:
                    share = await self._room.share(self._expected)
                    request = await self._next(host, crew, since)
                    if request is None:
                        share.free()
                        break
                    crew.free -= 1
                    if host.waits:
                        self._loop.call_later(host.wait(self._loop.time()), self._staff, host)
                    try:
                        await self._ask(session, host, request, share)
                    finally:
                        crew.free += 1
        finally:
            crew.workers -= 1
            crew.free -= 1
        if host.waits and not crew.workers:
            self._loop.call_later(host.wait(self._loop.time()), self._staff, host)

    @property
    def _expected(self) -> int:
        return min(EXPECTED_BYTES, self._politeness.most_bytes)

    @contextlib.asynccontextmanager
    async def _seat(self) -> AsyncIterator[None]:
        if self._seats.locked():
            for crew in self._lingering:
                crew.news.set()  # who has a seat and no work for it leaves
        self._seats_wanted += 1
        try:
            await self._seats.acquire()
        finally:
            self._seats_wanted -= 1
        try:
            yield
        finally:
            self._seats.release()

    @functools.cached_property
    def _tls(self) -> ssl.SSLContext:
        return ssl.create_default_context()

    async def _next(self, host: Host, crew: _Crew, since: float) -> Request | None:
        """Wait for the moment to send the next request; None: leave."""
        idle_since = self._loop.time()
        while True:
            now = self._loop.time()
            wait = host.wait(now)
            is_wanted = self._seats_wanted > 0
            if is_wanted and now - since > _TURN_SECONDS:
                return None
            if wait <= 0:
                return host.take(now)
            if is_wanted and (crew.workers > 1 or wait >= _LINGER_SECONDS / 2):
                return None
            if (wait if host.waits else now - idle_since) >= _LINGER_SECONDS:
                return None
            crew.news.clear()
            self._lingering.add(crew)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(wait, _LINGER_SECONDS)):
                    await crew.news.wait()
            self._lingering.discard(crew)

    # One request

    async def _ask(self, session: aiohttp.ClientSession, host: Host, request: Request, share: Share) -> None:
        answer, headers, data = await exchange(session, host, request, share, self._politeness)
        now = self._loop.time()
        if isinstance(answer, Failed):
            share.free()
            if not host.fails(request, now, answer.wait):
                self._lose(host, request, answer.reason)
            return
        if not isinstance(answer, Refused) or answer.status:
            host.answers(now)
        if isinstance(answer, Elsewhere):
            share.free()
            self._follow(request, answer)
        elif isinstance(answer, Refused):
            share.free()
            self._refuse(request, answer.reason, status=answer.status)
        elif isinstance(request.wanted, Origin):
            share.free()
            robots = read_robots(data, self._politeness.product, self._politeness.longest_pause)
            self._settle(request.wanted, robots)
        elif isinstance(answer, Unchanged):
            share.free()
            picture = request.wanted
            etag = validator(headers, "ETag") or picture.etag
            modified = validator(headers, "Last-Modified") or picture.modified
            self._deliver(Fetched(picture, picture.sha256, None, etag, modified, None), None)
        else:
            await share.resize(len(data))
            digest = hashlib.sha256(data).digest()
            etag, modified = validator(headers, "ETag"), validator(headers, "Last-Modified")
            self._deliver(Fetched(request.wanted, digest, data, etag, modified, None), share)

    # What becomes of a request

    def _follow(self, request: Request, answer: Elsewhere) -> None:
        if request.hops >= _HOPS:
            self._refuse(request, f"it was redirected more than {_HOPS} times", status=HTTPStatus.FOUND)
        else:
            self._send(dataclasses.replace(request, url=answer.url, hops=request.hops + 1))

    def _lose(self, host: Host, request: Request, reason: str) -> None:
        """All tries are used up."""
        times = "" if request.tries == 1 else f", {request.tries} times"
        self._refuse(request, reason + times, may_pass=True)
        if host.is_hopeless(request):
            self._give_up(host, f"{host.name} was given up for this time: so many requests failed, the last: {reason}")

    def _end(self) -> None:
        minutes = f"{self._politeness.longest_fetch / 60:g} minutes"
        self._too_late = f"it didn't come in the {minutes} that a shard has; its host is asked again next time"
        for host in list(self._hosts.values()):
            self._give_up(host, self._too_late)

    def _give_up(self, host: Host, because: str) -> None:
        for waiting in host.give_up(because):
            self._refuse(waiting, because, may_pass=True)

    def _refuse(self, request: Request, reason: str, *, may_pass: bool = False, status: int = 0) -> None:
        """It can't be had. status: of the answer, if there was one."""
        if isinstance(request.wanted, Picture):
            self._deliver(missing(request.wanted, f"the picture can't be fetched: {reason}", may_pass=may_pass), None)
        else:
            self._settle(request.wanted, EVERYTHING if status else unreachable(reason))

    def _settle(self, origin: Origin, robots: Robots) -> None:
        origin.robots = robots
        waiting, origin.waiting = origin.waiting, []
        for request in waiting:
            self._send(request)


@dataclass(eq=False, slots=True)
class _Crew:
    """The workers of a host. free: those that are in no request. news: something to do, or a reason to leave."""

    workers: int = 0
    free: int = 0
    news: asyncio.Event = field(default_factory=asyncio.Event)
