"""uvicorn's HTTP/1.1 protocol, with bounds on what one client may cost.

uvicorn reads requests and writes answers. It leaves to others what a pod must not: how large and how slow a request may
be, how long a client may take to read its answer, and how a connection ends. That is here and in `transport`.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import time
from enum import Enum, auto
from typing import Any, Protocol, cast

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from http_limits.budget import ByteBudget, Holdings
from http_limits.limits import ConnectionLimits
from http_limits.refusals import (
    BodyTooLarge,
    HeadTooLarge,
    Overloaded,
    RequestMalformed,
    RequestRefused,
    RequestTooSlow,
    Response,
)
from http_limits.transport import CONTINUE, Flow, HalfClosing, Time

_TICK_SECONDS = 1.0
_SETTLE_SECONDS = 0.05


class Application(Time, Protocol):
    """What a connection asks of the application behind it, besides ASGI. held: what all connections hold."""

    held: ByteBudget

    @property
    def limits(self) -> ConnectionLimits:
        """The bounds."""
        ...

    def refuse(self, refusal: RequestRefused) -> Response:
        """The answer to what was no whole request."""


_HEAD_END = b"\r\n\r\n"
_HEAD_BYTES = 4 * 1024
"""A head that takes less belongs to what a connection has anyway, and isn't counted."""
_FIELD_BYTES, _TARGET_COPIES = 128, 6
"""What a field of a head takes besides its bytes; a target is kept whole, in parts, and as text of four bytes each."""
_QUEUED_BYTES = 3 * 1024
"""What a request takes, besides its bytes, that came before the one before it was answered."""
_ORDER = itertools.count()
"""What came before what, where the clock says the same of both."""
_LEAVING_SHARE = 64
"""Where there are too many connections, so large a part of the idle ones goes at once: looking for them takes time."""
_IN_ASCII = "What isn't ASCII in a path or a query must be percent-encoded, as UTF-8."


class _Stage(Enum):
    """Where the parser is: between two requests, in a head, or in a body (trailers belong to it)."""

    BETWEEN = auto()
    HEAD = auto()
    BODY = auto()


class BoundedProtocol(HttpToolsProtocol):
    """One client's connection. `tick` must be called every second or so: `keep_time` does it."""

    _application: Application
    _half_closing: HalfClosing

    # what the event loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection; where there are too many, in place of one that nobody would miss."""
        self._application = cast("Application", self.app)
        self._limits = self._application.limits
        self._half_closing = HalfClosing(cast("asyncio.Transport", transport), self._application)
        self._stage = _Stage.BETWEEN
        self._note_time()
        self._blocked_since: float | None = None
        self._asked = self._finished = False
        self._refused = self._ended = False
        self._head_bytes = self._body_bytes = self._length = 0
        self._progress = self._unfinished_bytes = 0
        self._answered: RequestResponseCycle | None = None
        self._held = self._application.held
        self._holds = Holdings(self._held)
        super().connection_made(cast("asyncio.Transport", self._half_closing))
        self.flow = Flow(self.transport, self.pipeline)
        if len(self.connections) > self._limits.connections:
            self._make_room()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection, and at once what it holds: cycles would keep it until a collection."""
        super().connection_lost(exc)
        self._holds.clear()
        self.pipeline.clear()
        self.cycle = self.scope = self._answered = None  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        """Read on, as long as the client may say more."""
        if self._refused or self.transport.is_closing():
            return
        progress, order, self._read_bodies = self._progress, self._order, 0
        try:
            self._parse(data)
        except httptools.HttpParserError:
            self.send_400_response("Invalid HTTP request received.")
        else:
            count = len(data)
            if self._stage is _Stage.HEAD and self._order != order:  # it began behind what else came
                count -= max(data.rfind(_HEAD_END) + len(_HEAD_END), self._read_bodies)
            self._bound_unfinished(count, progress)
        if self._refused:
            self._holds.set_head(0)
            if self.headers:  # all that came is parsed
                self.headers.clear()

    def _bound_unfinished(self, count: int, progress: int) -> None:
        """Refuse what goes on for too long. count: bytes of it that came; progress: as it was before them."""
        limits = self._limits
        if self._stage is _Stage.HEAD:
            self._head_bytes += count
            if (size := self._head_bytes + len(self.headers) * _FIELD_BYTES) > _HEAD_BYTES:
                self._holds.set_head(size)
            if self._head_bytes > limits.head_bytes or len(self.headers) > limits.fields:
                self._refuse_head()
            elif self._holds.head and not self._held.fits(0):
                self._refuse_for_now()
        elif self._stage is _Stage.BODY:  # neither a chunk's extension nor a trailer may go on for ever
            self._unfinished_bytes = count + (self._unfinished_bytes if progress == self._progress else 0)
            if progress == self._progress and self._unfinished_bytes > limits.head_bytes:
                self._refuse_head()

    def _parse(self, data: bytes) -> None:
        """Have it parsed as HTTP/1.1, whatever else a client would rather speak.

        Java's client and curl --http2 ask for HTTP/2 with their first request. The parser takes what follows such a
        head for the other protocol, a body too; so another one is given that head without the question.
        """
        left = memoryview(data)
        while left:
            try:
                self.parser.feed_data(left)
            except httptools.HttpParserUpgrade as upgrade:
                left = left[upgrade.args[0] :]
                head = [
                    b"%b %b HTTP/%b" % (self.parser.get_method(), self.url, self.parser.get_http_version().encode())
                ]
                head += [b"%b: %b" % field for field in self.headers if field[0] != b"upgrade"]
                self.parser = httptools.HttpRequestParser(self)
                self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn has it
                self.parser.feed_data(b"\r\n".join(head) + b"\r\n\r\n")
            else:
                return

    def _asks_for_another_protocol(self) -> bool:
        return self.parser.should_upgrade() and self.parser.get_method() != b"CONNECT"

    def eof_received(self) -> bool:  # type: ignore[override]
        """The client ended its side; what it asked before is answered still. False closes the transport."""
        if self._stage is not _Stage.BETWEEN or not self._busy:
            return False
        self.cycle.keep_alive = False
        self._ended = True
        return True

    def pause_writing(self) -> None:
        """The client takes its answers too slowly."""
        self._blocked_since = self._application.now
        self._holds.set_unsent(self._half_closing.unsent())
        super().pause_writing()
        if not self._held.fits(0):
            self._leave_slowest_reader()

    def resume_writing(self) -> None:
        """The client has taken what was waiting."""
        self._blocked_since = None
        self._holds.set_unsent(0)
        super().resume_writing()

    # what the parser calls

    def on_message_begin(self) -> None:
        """Begin a request."""
        super().on_message_begin()
        self.scope["extensions"] = {"connection": self}  # type: ignore[dict-item]
        self._asked = True
        self._head_bytes = self._body_bytes = self._length = 0
        self._enter(_Stage.HEAD)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Read one header field, or a trailer, which nobody reads."""
        self._progress += 1
        if self._stage is _Stage.BODY:
            self._head_bytes += len(name) + len(value) + 4  # a colon, a space and the end of the line
            if self._head_bytes > self._limits.head_bytes:
                self._refuse_head()
            return
        super().on_header(name, value)
        if self.headers[-1][0] == b"content-length":
            self._length = int(value)  # the parser has checked that it is a number, and the only one

    def on_headers_complete(self) -> None:
        """Refuse what can be refused before the body comes; let the application begin with the rest."""
        self._head_bytes = 0
        if self._holds.head:
            self._holds.set_head(0)
        if self._asks_for_another_protocol():
            return
        self._enter(_Stage.BODY)
        if self._refused:
            return
        limits, target, count = self._limits, len(self.url), len(self.headers)
        fields = sum(len(name) + len(value) for name, value in self.headers)  # all may have come in one read
        if target > limits.target_bytes or fields > limits.head_bytes or count > limits.fields:
            self._refuse_head()
            return
        size = fields + count * _FIELD_BYTES + target * _TARGET_COPIES
        if self._busy:
            size += _QUEUED_BYTES
        elif size <= _HEAD_BYTES:
            size = 0
        if self._length > limits.body_bytes:
            self._refuse_body()
        elif (self._length or size) and not self._held.fits(self._length + size):
            self._refuse_for_now()
        else:
            super().on_headers_complete()
            if size:
                self._holds.add(self.cycle, size)

    def on_chunk_header(self) -> None:
        """Note that a chunk begins."""
        self._progress += 1

    def on_body(self, body: bytes) -> None:
        """Read a part of the body, chunked or not."""
        self._progress += 1
        self._body_bytes += len(body)
        self._read_bodies += len(body)
        if self._body_bytes > self._limits.body_bytes:
            self._refuse_body()
        elif not self._refused and not self.cycle.response_complete:
            if not self._held.fits(len(body)):
                self._refuse_for_now()
                return
            self._holds.add(self.cycle, len(body))
            super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is whole."""
        if self._asks_for_another_protocol():
            return
        self._enter(_Stage.BETWEEN)
        if not self._refused:
            super().on_message_complete()

    # answering

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:  # noqa: ANN401 - uvicorn's own type
        self._answered = cycle
        super()._start_asgi_task(cycle, app)

    def on_response_complete(self) -> None:
        """Begin with the next request, or wait for one; the client's time begins anew."""
        self.server_state.total_requests += 1
        self._finished = True
        if self._answered is not None and self._answered in self._holds:
            self._forget_head(self._answered)
            self._holds.forget(self._answered)
        self._half_closing.flush()
        self._note_time()
        if not self.transport.is_closing():
            if self.pipeline:
                self._start_asgi_task(*self.pipeline.pop())
            self.flow.resume_reading()

    def send_400_response(self, msg: str) -> None:
        """Answer what isn't HTTP."""
        self._refuse(RequestMalformed(f"not HTTP/1.1: {msg} {_IN_ASCII}"))

    def _refuse_head(self) -> None:
        limits = self._limits
        of = f"{limits.head_bytes} bytes and {limits.fields} fields, its target {limits.target_bytes} bytes"
        self._refuse(HeadTooLarge(f"a head may have {of}"))

    def _refuse_body(self) -> None:
        self._refuse(BodyTooLarge(f"a body may have {self._limits.body_bytes} bytes"))

    def _refuse_for_now(self) -> None:
        self._refuse(Overloaded("too many bytes of requests and answers are held already; come back later"))

    def _refuse(self, refusal: RequestRefused) -> None:
        """Answer what is no whole request; after it nobody can tell where the next one would begin."""
        if self._refused:
            return
        self._refused = True
        mine = self.cycle if self.cycle is not None and self.cycle.scope is self.scope else None
        if mine is not None and self.pipeline and self.pipeline[0][0] is mine:
            self.pipeline.popleft()
        if self._busy and self._answered is not mine:
            # the answers to earlier requests come first, and the last of them ends the connection
            last = self.pipeline[0][0] if self.pipeline else cast("RequestResponseCycle", self._answered)
            last.keep_alive = False
            return
        if mine is not None:
            mine.disconnected = True  # nobody waits for what the application says now
            mine.message_event.set()
            mine.body = bytearray()
            self._holds.forget(mine)
            if mine.response_started:
                self.transport.close()
                return
        response = self._application.refuse(refusal)
        fields = [*self.server_state.default_headers, *response.headers, (b"connection", b"close")]
        head = b"".join(b"%b: %b\r\n" % field for field in fields)
        self.transport.write(b"%b%b\r\n%b" % (STATUS_LINE[response.status], head, response.body))
        self.transport.close()

    def _forget_head(self, cycle: RequestResponseCycle) -> None:
        """Keep nothing of what was asked at length: the connection may be idle for ten minutes."""
        if cycle.scope is self.scope:  # the next head hasn't begun
            self.headers, self.url = [], b""
        cycle.scope["headers"] = []
        cycle.scope["path"], cycle.scope["raw_path"], cycle.scope["query_string"] = "", b"", b""

    def _leave_slowest_reader(self) -> None:
        """End the connection whose client has not read for the longest time; it may be this one."""
        blocked = [one for one in connections_of(self.server_state) if one._holds.unsent]  # noqa: SLF001 - ours
        slowest = min(blocked, key=lambda one: one._blocked_since or 0.0)  # noqa: SLF001
        slowest._holds.set_unsent(0)  # noqa: SLF001 - the event loop tells of its end only later
        slowest.transport.abort()

    # the connection's life

    @property
    def unread(self) -> bool:
        """Whether the client still asks if it may send its body: nobody knows whether it will, once it is answered."""
        return self.cycle is not None and self.cycle.waiting_for_100_continue

    @property
    def gone(self) -> bool:
        """Whether nobody is there any more who could take an answer."""
        return self.parser is None or self.transport.is_closing()

    @property
    def _busy(self) -> bool:
        return self._answered is not None and not self._answered.response_complete

    @property
    def answering(self) -> bool:
        """Whether a request is being answered, or is on its way in."""
        return not self.transport.is_closing() and (self._busy or self._stage is not _Stage.BETWEEN)

    @property
    def owing(self) -> bool:
        """Whether that is so, or an answer isn't all on its way yet."""
        return self.answering or self._half_closing.unsent() > 0

    def _make_room(self) -> None:
        """End the longest idle connections at once, those that never got an answer first; if all are busy, our own."""
        idle = [one for one in connections_of(self.server_state) if one is not self and not one._busy]  # noqa: SLF001 - ours
        if not idle:
            self._refuse(Overloaded("too many connections; come back later"))
            return
        count = max(1, min(len(idle), self._limits.connections) // _LEAVING_SHARE)
        for longest in heapq.nsmallest(count, idle, key=lambda one: (one._finished, one._order)):  # noqa: SLF001
            longest.transport.abort()
            self.connections.discard(longest)  # the event loop tells of its end only later

    def _enter(self, stage: _Stage) -> None:
        self._stage = stage
        self._note_time()

    def _note_time(self) -> None:
        self._since = self._application.now
        self._order = next(_ORDER)

    def tick(self) -> None:
        """Give up on a client that has had its time."""
        now, limits = self._application.now, self._limits
        waited = now - self._since
        if self._blocked_since is not None and now - self._blocked_since > limits.write_seconds:
            self.transport.abort()
        elif self._half_closing.closing_since is not None:
            patience = limits.write_seconds if self._half_closing.unsent() else limits.linger_seconds
            if now - self._half_closing.closing_since > patience:
                self.transport.abort()
        elif self._busy and (self._stage is _Stage.BETWEEN or self._answered is not self.cycle):
            self._look_for_client()  # it is our turn
        elif self._stage is not _Stage.BETWEEN:
            if waited > (limits.head_seconds if self._stage is _Stage.HEAD else limits.body_seconds):
                self._refuse(RequestTooSlow(f"the request's {self._stage.name.lower()} didn't come in time"))
        elif waited > (limits.idle_seconds if self._asked else limits.head_seconds):
            self.transport.close()  # nobody connects to ask later: the first request has less time

    def _look_for_client(self) -> None:
        """Tell a client that ended its side that we are at it: if it has closed, the kernel says so next time."""
        answered = self._answered
        if self._ended and answered and not answered.response_started and answered.scope["http_version"] == "1.1":
            self.transport.write(CONTINUE)


def connections_of(state: ServerState) -> list[BoundedProtocol]:
    """All connections that are open."""
    return [one for one in state.connections if isinstance(one, BoundedProtocol)]


async def settle(state: ServerState, seconds: float) -> None:
    """Wait until nothing is owed to anybody any more; who takes longer than that is left.

    Whoever asks again and again, or takes a large answer slowly, would never be done.
    """
    end = time.monotonic() + seconds
    while owing := [one for one in connections_of(state) if one.owing]:
        if time.monotonic() >= end:
            for one in owing:
                one.transport.abort()
            return
        await asyncio.sleep(_SETTLE_SECONDS)


async def keep_time(application: Application, state: ServerState) -> None:
    """Look at every connection's time until cancelled."""
    while True:
        await asyncio.sleep(_TICK_SECONDS)
        application.now = time.monotonic()
        for connection in connections_of(state):
            connection.tick()
