"""Why something is no request that an application is asked, and the status that says so."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from http import HTTPStatus
from typing import ClassVar, NamedTuple


class Response(NamedTuple):
    """An answer. headers: as ASGI has them; those that every answer has are added by the server.

    rest: what follows `body`, made while it is sent; its client takes it as fast as it can.
    """

    status: int
    body: bytes
    headers: list[tuple[bytes, bytes]]
    rest: AsyncGenerator[bytes, None] | None = None


class RequestRefused(Exception):
    """The request can't be answered. The message tells the caller what to change.

    code: stable, for programs. status: what it is answered with.
    """

    code: ClassVar[str] = "request-refused"
    status: ClassVar[HTTPStatus] = HTTPStatus.BAD_REQUEST


class RequestMalformed(RequestRefused):
    """The request isn't HTTP, or its body isn't what its content type says."""

    code = "request-malformed"


class BodyTooLarge(RequestRefused):
    """The body has more bytes than are read."""

    code = "body-too-large"
    status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE


class HeadTooLarge(RequestRefused):
    """The request's head has more bytes than are read."""

    code = "head-too-large"
    status = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE


class RequestTooSlow(RequestRefused):
    """The client didn't send the rest of the request in time."""

    code = "request-too-slow"
    status = HTTPStatus.REQUEST_TIMEOUT


class Overloaded(RequestRefused):
    """Too much is waiting already: another try, later or at another pod, may pass."""

    code = "overloaded"
    status = HTTPStatus.SERVICE_UNAVAILABLE
