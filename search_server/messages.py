"""Requests, answers, and what turns one into the other."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

import orjson

from search_server.config import Limits

READ_HEADERS = frozenset({b"content-type", b"if-none-match", b"x-cloud-trace-context"})
"""The header fields that anybody reads."""


class Request:
    """One whole request.

    path: as sent, percent-encoded. headers: those of `READ_HEADERS`, names in lower case.
    close: the connection ends with its answer. started: by `time.perf_counter`.
    """

    __slots__ = ("body", "close", "headers", "method", "path", "query", "started")

    def __init__(self, method: str, path: bytes, query: bytes, headers: dict[bytes, bytes], body: bytes) -> None:
        self.method = method
        self.path = path
        self.query = query
        self.headers = headers
        self.body = body
        self.close = False
        self.started = time.perf_counter()


class Response:
    """An answer.

    headers: whole lines, each with its CRLF; the connection adds those that every answer has.
    route: under which it is counted.
    """

    __slots__ = ("body", "headers", "route", "status")

    def __init__(self, status: int, body: bytes, headers: bytes, route: str = "none") -> None:
        self.status = status
        self.body = body
        self.headers = headers
        self.route = route


Reply = Callable[[Request, Response], None]
"""Takes the answer to a request."""


class Service(Protocol):
    """What answers requests, and is told about every answer."""

    limits: Limits

    def answer(self, request: Request, reply: Reply) -> None:
        """Answer a request: call `reply` once, now or later. Raises nothing."""

    def refuse_connection(self, refusal: Exception) -> Response:
        """Answer what was no whole request."""

    def answered(self, request: Request | None, response: Response) -> None:
        """Note that an answer was written."""


_JSON = b"content-type: application/json\r\ncache-control: no-store\r\n"


def json_response(value: object, status: int = 200, headers: bytes = b"") -> Response:
    """Answer with JSON, which no cache keeps: the next generation may be a moment away."""
    return Response(status, orjson.dumps(value), _JSON + headers)


def json_body_response(body: bytes) -> Response:
    """The same with a body that is JSON already."""
    return Response(200, body, _JSON)
