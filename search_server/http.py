"""HTTP/1.1 over httptools: requests in, answers out, and a connection that is always left in good order.

`docs/search-api.md` says why this isn't an ASGI server. What a request costs beside its search is most of what a caller
waits for, so a request is answered in the callback that read it; only pictures and batches become tasks. And a drain
without a failed request needs a say in when and how each connection is closed.

A connection is closed as RFC 9112, section 9.6, asks: we end our side, then read on until the client has ended its own.
To close at once with bytes unread would make the kernel send a reset, which can destroy an answer on its way.
"""

from __future__ import annotations

import asyncio
from collections import deque
from enum import Enum, auto
from http import HTTPStatus
from typing import cast

import httptools

from search_server.connections import Connections
from search_server.errors import (
    BodyTooLarge,
    HeadTooLarge,
    Overloaded,
    RequestMalformed,
    RequestRefused,
    RequestTooSlow,
)
from search_server.messages import READ_HEADERS, Request, Response, Service

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Stage(Enum):
    """Where the parser is: between two requests, in a head, or in a body."""

    BETWEEN = auto()
    HEAD = auto()
    BODY = auto()


_STATUS_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus}


def split_target(target: bytes) -> tuple[bytes, bytes]:
    """Path and query of a request's target; raises `httptools.HttpParserInvalidURLError`."""
    if target.startswith(b"/") and b"#" not in target:  # nearly every one
        path, _, query = target.partition(b"?")
        return path, query
    url = httptools.parse_url(target)
    return url.path or b"/", url.query or b""


class Connection(asyncio.Protocol):
    """One client's connection: reads its requests one after another and answers them in that order."""

    def __init__(self, service: Service, connections: Connections) -> None:
        self._service = service
        self._limits = service.limits
        self._connections = connections
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport = cast("asyncio.Transport", None)
        self._stage = Stage.BETWEEN
        self._since = connections.now
        self._patience = self._limits.head_seconds  # for the first request: nobody connects to ask later
        self._blocked_since: float | None = None
        self._head_bytes = 0
        self._waiting: deque[Request] = deque()
        self._busy = False  # a request is being answered
        self._paused = False  # we read no further, because more requests came than one
        self._catching_up = False
        self._close_after = False
        self._leaving = False
        self.on_message_begin()
        self._stage = Stage.BETWEEN

    # what the event loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection, or turn it away when there are too many."""
        self._transport = cast("asyncio.Transport", transport)
        self._connections.add(self)
        if len(self._connections) > self._limits.connections:
            self._refuse(Overloaded("too many connections; come back later"))

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection and whatever it still waited for."""
        del exc
        self._connections.discard(self)
        self._leaving = True
        self._waiting.clear()

    def data_received(self, data: bytes) -> None:
        """Read on; requests that become whole are answered on the way."""
        if self._leaving:
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._leave_after_answer()  # the request is answered as if it hadn't asked for another protocol
        except httptools.HttpParserError as error:
            self._refuse(RequestMalformed(f"not HTTP/1.1: {error}"))
        if self._stage is Stage.HEAD:
            self._head_bytes += len(data)
            if self._head_bytes > self._limits.head_bytes:
                self._refuse_head()

    def eof_received(self) -> bool:
        """The client ended its side; what it asked before is answered still."""
        self._close_after = True
        return self._busy  # False closes the transport when all is written

    def pause_writing(self) -> None:
        """The client takes its answers too slowly: read no more of its requests."""
        self._blocked_since = self._connections.now
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        """The client has taken what was waiting."""
        self._blocked_since = None
        if not self._paused:
            self._transport.resume_reading()

    # what the parser calls

    def on_message_begin(self) -> None:
        """Begin a request."""
        self._url = b""
        self._headers: dict[bytes, bytes] = {}
        self._parts: list[bytes] = []
        self._body_bytes = 0
        self._length = 0
        self._expects = False
        self._enter(Stage.HEAD, self._limits.head_seconds)

    def on_url(self, url: bytes) -> None:
        """Read a part of the target."""
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Read one header field."""
        lower = name.lower()
        if lower in READ_HEADERS:
            self._headers[lower] = value
        elif lower == b"content-length":
            self._length = int(value)  # the parser has checked that it is a number, and the only one
        elif lower == b"expect":
            self._expects = value.lower() == b"100-continue"

    def on_headers_complete(self) -> None:
        """Refuse what can be refused before the body comes."""
        self._head_bytes = 0
        self._enter(Stage.BODY, self._limits.body_seconds)
        if self._leaving:
            return
        if len(self._url) > self._limits.target_bytes:
            self._refuse_head()
        elif self._length > self._limits.body_bytes:
            self._refuse_body()
        elif self._expects and not self._busy:
            self._transport.write(_CONTINUE)

    def on_body(self, body: bytes) -> None:
        """Read a part of the body, chunked or not."""
        if not self._leaving:
            self._parts.append(body)
            self._body_bytes += len(body)
            if self._body_bytes > self._limits.body_bytes:
                self._refuse_body()

    def on_message_complete(self) -> None:
        """Answer the request, or let it wait for the one before it."""
        self._enter(Stage.BETWEEN, self._limits.idle_seconds)
        if self._leaving:
            return
        try:
            path, query = split_target(self._url)
        except httptools.HttpParserInvalidURLError:
            self._refuse(RequestMalformed("the request's target is no URL"))
            return
        method = self._parser.get_method().decode("ascii")
        request = Request(method, path, query, self._headers, b"".join(self._parts))
        request.close = (
            not self._parser.should_keep_alive()
            or self._parser.should_upgrade()
            or self._parser.get_http_version() != "1.1"
        )
        if self._busy:
            self._waiting.append(request)
            self._paused = True
            self._transport.pause_reading()
        else:
            self._busy = True
            self._service.answer(request, self.reply)

    # answering

    def reply(self, request: Request, response: Response) -> None:
        """Write the answer to a request that was handed over, and hand over the next one."""
        self._busy = False
        self._since = self._connections.now  # the client's time begins anew
        if self._transport.is_closing():
            return
        self._write(request, response)
        if self._paused and not self._catching_up:
            self._catch_up()

    def _catch_up(self) -> None:
        """Hand over the requests that waited, then read on. A loop: answers that come at once must not nest."""
        self._catching_up = True
        while self._waiting and not self._busy:
            self._busy = True
            self._service.answer(self._waiting.popleft(), self.reply)
        self._catching_up = False
        if not self._busy:
            self._paused = False
            if self._blocked_since is None and not self._transport.is_closing():
                self._transport.resume_reading()

    def _write(self, request: Request | None, response: Response) -> None:
        # a client that sent more requests at once gets all their answers before it is told to go
        last = self._connections.draining or self._close_after
        closes = request is None or request.close or (last and not self._waiting)
        self._transport.write(
            b"".join(
                (
                    _STATUS_LINES[response.status],
                    self._connections.common_headers,
                    response.headers,
                    b"connection: close\r\n" if closes else b"",
                    b""
                    if response.status == HTTPStatus.NOT_MODIFIED
                    else b"content-length: %d\r\n" % len(response.body),
                    b"\r\n",
                    b"" if request is not None and request.method == "HEAD" else response.body,
                )
            )
        )
        self._service.answered(request, response)
        if closes:
            self._leave()

    def _refuse_head(self) -> None:
        limits = self._limits
        self._refuse(HeadTooLarge(f"a head may have {limits.head_bytes} bytes, its target {limits.target_bytes}"))

    def _refuse_body(self) -> None:
        self._refuse(BodyTooLarge(f"a body may have {self._limits.body_bytes} bytes"))

    def _refuse(self, refusal: RequestRefused) -> None:
        """Answer what is no whole request; after it nobody can tell where the next one would begin."""
        if self._busy:
            self._leave_after_answer()  # an earlier request's answer comes first, and is then the last one
        elif not self._leaving:
            self._write(None, self._service.refuse_connection(refusal))

    # the connection's life

    def _enter(self, stage: Stage, patience: float) -> None:
        self._stage = stage
        self._patience = patience
        self._since = self._connections.now

    def _leave_after_answer(self) -> None:
        if self._busy:
            self._close_after = True
        else:
            self._leave()

    def _leave(self) -> None:
        """End our side; `tick` closes the connection if the client doesn't."""
        if not self._leaving:
            self._leaving = True
            self._since = self._connections.now
            self._waiting.clear()
            if not self._transport.is_closing():
                self._transport.resume_reading()
                self._transport.write_eof()

    @property
    def answering(self) -> bool:
        """Whether a request is being answered, or is on its way in."""
        return not self._leaving and (self._busy or self._stage is not Stage.BETWEEN)

    def leave_unless_answering(self) -> None:
        """End our side now if nothing is going on."""
        if not self.answering:
            self._leave()

    def tick(self, now: float) -> None:
        """Give up on a client that has had its time; called every second or so."""
        if self._blocked_since is not None and now - self._blocked_since > self._limits.write_seconds:
            self._transport.abort()
        elif self._leaving:
            if now - self._since > self._limits.linger_seconds:
                self._transport.close()
        elif not self._busy and now - self._since > self._patience:
            if self._stage is Stage.BETWEEN:
                self._leave()
            else:
                self._refuse(RequestTooSlow(f"the request's {self._stage.name.lower()} didn't come in time"))
