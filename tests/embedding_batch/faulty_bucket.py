"""A proxy in front of the real bucket server, which answers some requests as a bucket that is in trouble does."""

from __future__ import annotations

import http.client
import re
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal
from urllib.parse import urlsplit

Fault = int | Literal["silent", "reset", "cut", "lost", "page", "keyed"]
"""A status; no answer; a connection that is closed at once; half of the answer's body; an answer that is lost after
the bucket did what was asked; 200 with a page that no bucket sends; an answer without checksums, as listings are of
objects that a customer's key encrypts."""

_CHECKSUM = re.compile(rb'"crc32c":\s*"[^"]*",?')

_OF_A_CONNECTION = ("transfer-encoding", "content-length", "connection", "date", "server")


@dataclass(frozen=True, slots=True)
class Asked:
    """A request that came. number: from 0 on."""

    number: int
    method: str
    path: str


@dataclass
class FaultyBucket:
    """url: to reach it by. fault: of a request; None: it is passed on. asked: all requests, in their order.

    answered: path and bytes of each answer that was passed on.
    """

    url: str
    fault: Callable[[Asked], Fault | None] = lambda _: None
    asked: list[Asked] = field(default_factory=list)
    answered: list[tuple[str, int]] = field(default_factory=list)

    def begin(self, fault: Callable[[Asked], Fault | None] = lambda _: None) -> None:
        """Forget what was asked, and go on with these faults."""
        self.asked, self.answered, self.fault = [], [], fault


@contextmanager
def faulty_bucket(real: str) -> Iterator[FaultyBucket]:
    """Stand in front of the bucket server at a URL. Whoever gets no answer waits until this ends."""
    server = _Proxy(urlsplit(real).netloc)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.bucket
    finally:
        server.over.set()
        server.shutdown()
        server.server_close()
        thread.join()


class _Proxy(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, real: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.real, self.over, self._lock = real, threading.Event(), threading.Lock()
        self.bucket = FaultyBucket(f"http://127.0.0.1:{self.server_port}")

    def fault(self, method: str, path: str) -> Fault | None:
        with self._lock:
            one = Asked(len(self.bucket.asked), method, path)
            self.bucket.asked.append(one)
            return self.bucket.fault(one)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Proxy

    def handle(self) -> None:
        with suppress(OSError):  # whoever asked is gone
            super().handle()

    def log_message(self, *_: object) -> None:
        """Nobody reads it."""

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        match self.server.fault(self.command, self.path):
            case "silent":
                self.server.over.wait()
                self.close_connection = True
            case "reset":
                self.close_connection = True
            case "page":
                self._send(200, {"Content-Type": "text/html"}, b"<html>please log in</html>")
            case int(status):
                self._send(status, {"Content-Type": "application/json"}, b'{"error": {"message": "in trouble"}}')
            case fault:
                self._pass_on(body, fault)

    do_GET = do_POST = do_PUT = do_DELETE = _answer  # noqa: N815 - as http.server calls them

    def _pass_on(self, body: bytes, fault: Fault | None) -> None:
        connection = http.client.HTTPConnection(self.server.real, timeout=60)
        connection.request(self.command, self.path, body, _kept(self.headers.items()))
        answer = connection.getresponse()
        data = answer.read()
        connection.close()
        if fault == "keyed":
            data = _CHECKSUM.sub(b"", data)
        self.server.bucket.answered.append((self.path, len(data)))
        if fault == "lost":
            self.close_connection = True
        else:
            self._send(answer.status, _kept(answer.getheaders()), data, sent=len(data) // (2 if fault == "cut" else 1))

    def _send(self, status: int, headers: dict[str, str], data: bytes, sent: int | None = None) -> None:
        self.send_response_only(status)
        for name, value in {**headers, "Content-Length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data[:sent])
        self.close_connection |= sent is not None and sent < len(data)


def _kept(headers: Iterable[tuple[str, str]]) -> dict[str, str]:
    return {name: value for name, value in headers if name.lower() not in _OF_A_CONNECTION}
