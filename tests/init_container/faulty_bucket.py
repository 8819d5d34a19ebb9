"""A bucket that misbehaves on purpose: a real HTTP(S) server that speaks the part of GCS that a pull needs."""

from __future__ import annotations

import itertools
import re
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import parse_qs, unquote, urlsplit

import google_crc32c

from model_repository.digests import format_crc32c

_PATH = re.compile(r"/download/storage/v1/b/([^/]+)/o/([^/]+)")
_PIECE = 64 * 1024
_FALTER = 4096


@dataclass
class Stored:
    """An object: bytes and generation; crc32c: what the headers say of it."""

    data: bytes
    generation: int
    crc32c: str


@dataclass(frozen=True)
class Request:
    """What a client asked for. span: [start, end) or None."""

    path: str
    name: str
    query: dict[str, str]
    headers: dict[str, str]
    span: tuple[int, int] | None
    at: float


Fault = Callable[["Reply"], None]


class Hangup(Exception):
    """Ends the connection."""


@dataclass
class Rule:
    """A fault, how many more times it strikes, and at what: a part of the object's name."""

    fault: Fault
    times: float
    match: str


@dataclass
class Reply:
    """One answer in the making; faults use its methods."""

    request: Request
    stored: Stored | None
    bucket: FaultyBucket
    connection: socket.socket

    def send(self, data: bytes) -> None:
        """Send bytes, counting them, no faster than the bucket's rate allows."""
        for start in range(0, len(data), _PIECE):
            piece = data[start : start + _PIECE]
            self.connection.sendall(piece)
            if self.bucket.rate:
                time.sleep(len(piece) / self.bucket.rate)

    def status(self, status: int, headers: dict[str, str] | None = None, body: bytes = b"no") -> None:
        """Answer with a status and a short body."""
        lines = [f"HTTP/1.1 {status} Because", f"Content-Length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        self.send("\r\n".join([*lines, "", ""]).encode() + body)

    def right_head(self) -> tuple[str, dict[str, str]]:
        """The status and the headers of a right answer."""
        assert self.stored is not None
        size = len(self.stored.data)
        start, end = self.request.span or (0, size)
        headers = {
            "content-length": str(end - start),
            "x-goog-generation": str(self.stored.generation),
            "x-goog-hash": f"crc32c={self.stored.crc32c}",
        }
        if not self.request.span:
            return "200 OK", headers
        return "206 Partial Content", {**headers, "content-range": f"bytes {start}-{end - 1}/{size}"}

    def head(self, **changes: str | None) -> None:
        """Send the head of a right answer, with some headers changed (or, with None, left out)."""
        status, right = self.right_head()
        status = changes.pop("status", None) or status
        headers: dict[str, str | None] = {**right}
        headers |= {name.replace("_", "-").lower(): value for name, value in changes.items()}
        lines = [f"HTTP/1.1 {status}", *(f"{name}: {value}" for name, value in headers.items() if value is not None)]
        self.send("\r\n".join([*lines, "", ""]).encode("latin-1"))

    @property
    def body(self) -> bytes:
        """The bytes asked for."""
        assert self.stored is not None
        start, end = self.request.span or (0, len(self.stored.data))
        return self.stored.data[start:end]

    def body_part(self, data: bytes) -> None:
        """Send bytes of the object, counted as fetched."""
        for start in range(0, len(data), _PIECE):
            piece = data[start : start + _PIECE]
            self.send(piece)
            with self.bucket.lock:
                self.bucket.sent += len(piece)
            while self.bucket.sent >= self.bucket.holds_at and not self.bucket.closing.wait(0.01):
                pass

    def whole(self) -> None:
        """Answer as a good bucket does."""
        generation = self.request.query.get("generation")
        if self.stored is None or generation not in (None, str(self.stored.generation)):
            self.status(404)
            return
        self.head()
        self.body_part(self.body)


def status(code: int, **headers: str) -> Fault:
    """Answer with a status."""
    return lambda reply: reply.status(code, {name.replace("_", "-"): value for name, value in headers.items()})


def reset(after: float) -> Fault:
    """Reset the connection (TCP RST) after a share of the body."""

    def fault(reply: Reply) -> None:
        reply.head()
        reply.body_part(reply.body[: int(len(reply.body) * after)])
        reply.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        raise Hangup

    return fault


def close_early(reply: Reply) -> None:
    """Close in order, in the middle of the body."""
    reply.head()
    reply.body_part(reply.body[: len(reply.body) // 2])
    raise Hangup


def closing(reply: Reply) -> None:
    """Answer well, but only once on a connection."""
    reply.head(Connection="close")
    reply.body_part(reply.body)
    raise Hangup


def stall(reply: Reply) -> None:
    """Send half and then nothing any more."""
    reply.head()
    reply.body_part(reply.body[: len(reply.body) // 2])
    reply.bucket.closing.wait(30)
    raise Hangup


def silence(reply: Reply) -> None:
    """Never answer."""
    reply.bucket.closing.wait(30)
    raise Hangup


def drip(reply: Reply) -> None:
    """Send a byte now and then."""
    reply.head()
    for byte in reply.body:
        if reply.bucket.closing.wait(0.1):
            break
        reply.body_part(bytes([byte]))
    raise Hangup


def falter(reply: Reply) -> None:
    """Send half of it fast, then a second of small pieces, then the rest."""
    body, middle = reply.body, len(reply.body) // 2
    reply.head()
    reply.body_part(body[:middle])
    for piece in range(10):
        time.sleep(0.1)
        reply.body_part(body[middle + piece * _FALTER : middle + (piece + 1) * _FALTER])
    reply.body_part(body[middle + 10 * _FALTER :])


def wrong_range(reply: Reply) -> None:
    """Answer 206 with other bytes than asked for."""
    assert reply.request.span is not None
    start, end = reply.request.span
    reply.head(Content_Range=f"bytes {start + 1}-{end}/{len(reply.stored.data) if reply.stored else 0}")
    reply.body_part(reply.body)


def range_dropped(reply: Reply) -> None:
    """Answer 200 with the whole object to a ranged request."""
    assert reply.stored is not None
    reply.head(status="200 OK", Content_Range=None, Content_Length=str(len(reply.stored.data)))
    reply.body_part(reply.stored.data)


def wrong_length(reply: Reply) -> None:
    """Announce more bytes than were asked for."""
    reply.head(Content_Length=str(len(reply.body) + 10))
    reply.body_part(reply.body)
    raise Hangup


def transcoded(reply: Reply) -> None:
    """Answer with the unpacked bytes, as GCS does for gzip objects: no length, no range."""
    data = reply.stored.data if reply.stored else b""
    reply.head(status="200 OK", Content_Range=None, Content_Length=None, Transfer_Encoding="chunked")
    reply.send(f"{len(data):x}\r\n".encode() + data + b"\r\n0\r\n\r\n")


def flip(reply: Reply) -> None:
    """Flip a bit on the way."""
    body = bytearray(reply.body)
    body[len(body) // 2] ^= 4
    reply.head()
    reply.body_part(bytes(body))


def lie(**changes: str) -> Fault:
    """Answer as a good bucket does, but for some headers or the status."""

    def fault(reply: Reply) -> None:
        reply.head(**changes)
        reply.body_part(reply.body)

    return fault


def late_refusal(code: int, body: bytes) -> Fault:
    """Refuse, and give the reason only when the head has long arrived."""

    def fault(reply: Reply) -> None:
        reply.send(f"HTTP/1.1 {code} Because\r\nContent-Length: {len(body)}\r\n\r\n".encode())
        reply.bucket.closing.wait(0.2)
        reply.send(body[:10])
        reply.bucket.closing.wait(0.2)
        reply.send(body[10:])

    return fault


def nonsense(reply: Reply) -> None:
    """Answer something that isn't HTTP."""
    reply.send(b"SSH-2.0-OpenSSH_9.2\r\n\r\n")


class FaultyBucket:
    """The server.

    requests: what it was asked. sent: bytes of bodies it sent. rate: bytes/s a connection, or 0. most: connections at
    a time that there have been.
    """

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        self.objects: dict[str, Stored] = {}
        self.requests: list[Request] = []
        self.rules: list[Rule] = []
        self.tokens: set[str] | None = None
        self.sent = 0
        self.rate = 0.0
        self.holds_at = float("inf")
        self.most = 0
        self._connections = 0
        self.lock = threading.Lock()
        self.closing = threading.Event()
        self._generation = itertools.count(1_700_000_000_000_000)
        self._context = context
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port = int(self._listener.getsockname()[1])
        scheme, host = ("https", "localhost") if context else ("http", "127.0.0.1")
        self.url = f"{scheme}://{host}:{self.port}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Stop answering."""
        self.closing.set()
        self._listener.close()

    def put(self, name: str, data: bytes) -> None:
        """Write an object, with a new generation."""
        self.objects[name] = Stored(data, next(self._generation), format_crc32c(google_crc32c.value(data)))

    def reply(self, request: Request, connection: socket.socket) -> Reply:
        """The right answer, ready to be sent or spoiled."""
        return Reply(request, self.objects.get(request.name), self, connection)

    def fail(self, fault: Fault, times: float = 1, match: str = "") -> None:
        """Let a fault strike the next answers about objects whose name contains `match`."""
        self.rules.append(Rule(fault, times, match))

    def asked(self, match: str) -> list[Request]:
        """The requests about objects whose name contains `match`."""
        return [request for request in self.requests if match in request.name]

    def _accept(self) -> None:
        while not self.closing.is_set():
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._talk, args=(connection,), daemon=True).start()

    def _talk(self, connection: socket.socket) -> None:
        with self.lock:
            self._connections += 1
            self.most = max(self.most, self._connections)
        try:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._context:
                connection = self._context.wrap_socket(connection, server_side=True)
            stream = connection.makefile("rb")
            while not self.closing.is_set() and (request := _read(stream)):
                self._answer(request, connection)
            stream.close()
        except (OSError, Hangup, ValueError):
            pass
        finally:
            connection.close()
            with self.lock:
                self._connections -= 1

    def _answer(self, request: Request, connection: socket.socket) -> None:
        with self.lock:
            self.requests.append(request)
            rule = next((r for r in self.rules if r.times > 0 and r.match in request.name), None)
            if rule:
                rule.times -= 1
        reply = self.reply(request, connection)
        if rule:
            rule.fault(reply)
        elif self.tokens is not None and request.headers.get("authorization", "")[7:] not in self.tokens:
            reply.status(401)
        else:
            reply.whole()


def _read(stream) -> Request | None:  # type: ignore[no-untyped-def] # noqa: ANN001 - what makefile returns
    line = stream.readline().decode()
    if not line:
        return None
    headers = {}
    while (header := stream.readline().decode().strip()) != "":
        name, _, value = header.partition(":")
        headers[name.lower()] = value.strip()
    target = urlsplit(line.split(" ")[1])
    match = _PATH.fullmatch(target.path)
    span = None
    if found := re.fullmatch(r"bytes=(\d+)-(\d+)", headers.get("range", "")):
        span = int(found[1]), int(found[2]) + 1
    query = {name: values[0] for name, values in parse_qs(target.query).items()}
    name = unquote(match[2]) if match else target.path
    return Request(line.split(" ")[1], name, query, headers, span, time.monotonic())
