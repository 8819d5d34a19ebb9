"""One request on one connection, and what its answer is."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

import aiohttp

from embedding_batch.pictures.answers import Answer, Body, Failed, Refused, judge, too_large
from embedding_batch.pictures.hosts import Host, Request
from embedding_batch.pictures.picture import Picture
from embedding_batch.pictures.politeness import Politeness
from embedding_batch.pictures.robots import ROBOTS_BYTES
from embedding_batch.pictures.room import Share

_DRAINED_BYTES: Final = 64 * 1024
"""An answer that isn't a picture is read if it is no longer than this, since its connection can be used again then."""


def open_session(politeness: Politeness, tls: ssl.SSLContext, idle_seconds: float) -> aiohttp.ClientSession:
    """One connection, opened when it is needed. idle_seconds: for which it is kept without work."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=1, ssl=tls, keepalive_timeout=idle_seconds),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        headers={"User-Agent": politeness.user_agent, "Accept-Encoding": "identity"},
        timeout=aiohttp.ClientTimeout(total=None, connect=politeness.connect_seconds),
        middlewares=(_once,),
    )


async def exchange(
    session: aiohttp.ClientSession, host: Host, request: Request, share: Share, politeness: Politeness
) -> tuple[Answer, Mapping[str, str], bytes]:
    """Send a request; returns what its answer is, its headers, and its bytes, where they are worth reading.

    share: of the room; it grows to what the answer says that it has.
    """
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(politeness.whole_seconds) as limit:
            try:
                response = await session.get(request.url, headers=_conditions(request), allow_redirects=False)
            finally:
                host.pace.answered(loop.time())
            async with response:
                answer, data = await _read(response, request, share, limit, politeness)
                return answer, response.headers, data
    except (TimeoutError, aiohttp.ClientError, OSError, ValueError) as error:
        return _fault(error, host.name, politeness), {}, b""


async def _read(
    response: aiohttp.ClientResponse, request: Request, share: Share, limit: asyncio.Timeout, politeness: Politeness
) -> tuple[Answer, bytes]:
    loop = asyncio.get_running_loop()
    is_picture = isinstance(request.wanted, Picture)
    answer = judge(
        response.status,
        response.headers,
        request.url,
        conditional=bool(_conditions(request)),
        most_bytes=politeness.most_bytes if is_picture else None,
        now=datetime.now(UTC),
    )
    if not isinstance(answer, Body):
        if (response.content_length or _DRAINED_BYTES + 1) <= _DRAINED_BYTES:
            await response.read()
        return answer, b""
    if not is_picture:
        return answer, await _read_up_to(response, ROBOTS_BYTES)
    most = politeness.most_bytes
    left = politeness.whole_seconds if (when := limit.when()) is None else when - loop.time()
    limit.reschedule(None)  # that others' bytes wait to be taken isn't the host's fault
    await share.resize(most if answer.length is None else answer.length)
    limit.reschedule(loop.time() + left)
    data = await _read_up_to(response, most + 1)
    return (answer, data) if len(data) <= most else (too_large(request.url, most), b"")


class _Broken(aiohttp.ClientError):
    """The connection ended before the answer."""


async def _once(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    """Keep aiohttp from sending a request again by itself, at once, when a connection breaks: the host has a pace."""
    try:
        return await handler(request)
    except aiohttp.ClientConnectorError:
        raise
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
        raise _Broken from error


async def _read_up_to(response: aiohttp.ClientResponse, most: int) -> bytes:
    """The body, or about `most` bytes of it where there are more."""
    chunks, size = [], 0
    async for chunk in response.content.iter_any():
        chunks.append(chunk)
        size += len(chunk)
        if size >= most:
            break
    return b"".join(chunks)


def _conditions(request: Request) -> dict[str, str]:
    """The headers that make the answer 304 where the bytes are those of before."""
    picture = request.wanted
    if not isinstance(picture, Picture) or picture.sha256 is None:
        return {}
    stated = {"If-None-Match": picture.etag, "If-Modified-Since": picture.modified}
    return {name: value for name, value in stated.items() if value and _is_header(value)}


def validator(headers: Mapping[str, str], name: str) -> str | None:
    """What can be sent back another time; a host may have said anything, bytes that are no text included."""
    value = headers.get(name)
    return value if value and _is_header(value) else None


def _is_header(value: str) -> bool:
    return value.isascii() and value.isprintable()


def _fault(error: Exception, host: str, politeness: Politeness) -> Answer:
    """What an error says of the host, without a URL, which may hold credentials."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return Refused(f"{host} shows a certificate that isn't valid ({_verification(error.certificate_error)})")
    if isinstance(error, ValueError):  # aiohttp.InvalidURL is one
        return Refused("its URL can't be asked for")
    match error:
        case aiohttp.ConnectionTimeoutError():
            reason = f"{host} couldn't be connected within {politeness.connect_seconds:g} s"
        case TimeoutError():
            reason = f"{host} didn't answer, or not to the end, within {politeness.whole_seconds:g} s"
        case aiohttp.ClientConnectorDNSError():
            reason = f"the name {host} couldn't be resolved"
        case aiohttp.ClientConnectorError():
            reason = f"{host} couldn't be connected ({error.os_error.strerror or 'no cause is given'})"
        case _:
            reason = f"{host} broke the connection, or its answer isn't HTTP"
    return Failed(reason)


def _verification(error: Exception) -> str:
    return error.verify_message if isinstance(error, ssl.SSLCertVerificationError) else type(error).__name__
