"""Answers: neighbours as JSON, written without making an object of each, and errors.

A search touches a megabyte of vectors, so whatever comes after it finds cold caches, and there twenty dicts and forty
strings cost a fifth of the search itself. Here ids stay the bytes that they are in the mapped file, all numbers are
written by one call, and one format string makes the whole list.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Sequence
from functools import lru_cache
from http import HTTPStatus
from typing import TYPE_CHECKING

import orjson

from http_limits.refusals import Response

if TYPE_CHECKING:
    from search_server.build.partitions import Neighbors  # which loads numpy, and the supervisor has none

Headers = list[tuple[bytes, bytes]]

_WHOLE_BYTES = 64 * 1024
"""An answer of more bytes is sent as it is made."""
_NOT_PLAIN = re.compile(rb"[^ !#-\[\]-~]")
"""What can't stand in a JSON string as it is, or isn't ASCII."""
_TYPE = (b"content-type", b"application/json")
NO_STORE = (b"cache-control", b"no-store")
_JSON = (_TYPE, NO_STORE)
"""No cache keeps an answer, but for those that `Validity` is said of: the next generation may be a moment away."""


def response(status: int, body: bytes, *headers: tuple[bytes, bytes]) -> Response:
    """An answer with its length."""
    return Response(status, body, [*headers, (b"content-length", b"%d" % len(body))])


def json_response(value: object, status: int = 200, *headers: tuple[bytes, bytes]) -> Response:
    """An answer in JSON."""
    return json_body_response(orjson.dumps(value), status, *headers)


def json_body_response(body: bytes, status: int = 200, *headers: tuple[bytes, bytes]) -> Response:
    """The same with a body that is JSON already."""
    return response(status, body, *_JSON, *headers)


def error_response(status: int, code: str, message: str, *headers: tuple[bytes, bytes]) -> Response:
    """An error. code: stable, for programs."""
    return json_response({"error": {"code": code, "message": message}}, status, *headers)


def matches(etag: bytes, if_none_match: bytes) -> bool:
    """Whether a cache that sends this field has what `etag`, quoted, names: it may list several, and call them weak."""
    return etag in if_none_match or if_none_match.strip() == b"*"


class Validity:
    """Until when an answer about the index is the same: as long as commit and filter are, which its ETag names.

    See https://www.rfc-editor.org/rfc/rfc9110#section-13.1.2 and rfc9111.
    """

    __slots__ = ("_headers", "_tag")

    def __init__(self, generation: int, filter_generation: int, cache_seconds: int) -> None:
        """cache_seconds: for which a cache may answer without asking; 0: it asks each time."""
        self._tag = b'"%d-%d"' % (generation, filter_generation)
        control = b"public, max-age=%d" % cache_seconds if cache_seconds else b"no-cache"
        self._headers = ((b"etag", self._tag), (b"cache-control", control))

    def unchanged(self, if_none_match: bytes) -> Response | None:
        """The answer to a cache that has this one already: no search is needed. None: it hasn't."""
        if if_none_match and matches(self._tag, if_none_match):
            return Response(HTTPStatus.NOT_MODIFIED, b"", list(self._headers))
        return None

    def response(self, body: bytes) -> Response:
        """An answer in JSON that caches may keep."""
        return response(HTTPStatus.OK, body, _TYPE, *self._headers)


async def json_stream_response(pieces: AsyncGenerator[bytes, None]) -> Response:
    """The same with a body that is made piece by piece: with its length if it is short, else while it is sent."""
    body = bytearray()
    async for piece in pieces:
        body += piece
        if len(body) > _WHOLE_BYTES:
            return Response(HTTPStatus.OK, bytes(body), list(_JSON), pieces)
    return json_body_response(bytes(body))


def similar_json(item: str, category: str, generation: int, found: Neighbors) -> bytes:
    """The answer about an item of the index."""
    form = b'{"item":%b,"category":%b,"generation":%d,"neighbors":%b}'
    return form % (orjson.dumps(item), _category(category), generation, neighbors_json(found))


def search_json(generation: int, found: Neighbors) -> bytes:
    """The answer about a picture."""
    return b'{"generation":%d,"neighbors":%b}' % (generation, neighbors_json(found))


def region_json(box: Sequence[float], category: str, score: float, found: Neighbors) -> bytes:
    """A part of a picture, and what is like it."""
    form = b'{"box":%b,"category":%b,"score":%b,"neighbors":%b}'
    return form % (orjson.dumps(box), _category(category), orjson.dumps(score), neighbors_json(found))


def neighbors_json(found: Neighbors) -> bytes:
    """A list of {"id", "category", "score", "distance"}; score: the cosine similarity, 1 - distance^2 / 2."""
    count = len(found.ids)
    if not count:
        return b"[]"
    values: list[bytes] = [b""] * (4 * count)
    values[0::4] = _strings(found.ids)
    values[1::4] = [_category(category) for category in found.categories]
    values[2::4] = _numbers([1.0 - distance * distance / 2.0 for distance in found.distances])
    values[3::4] = _numbers(found.distances)
    return _form(count) % tuple(values)


def _strings(ids: list[bytes]) -> list[bytes]:
    """What stands between the quotes."""
    if _NOT_PLAIN.search(b"".join(ids)):
        return [orjson.dumps(item.decode())[1:-1] for item in ids]
    return ids


def _numbers(values: list[float]) -> list[bytes]:
    return orjson.dumps(values)[1:-1].split(b",")


@lru_cache(maxsize=20_000)
def _category(category: str) -> bytes:
    return orjson.dumps(category)


@lru_cache(maxsize=64)  # of a thousand neighbours it has 50 KB
def _form(count: int) -> bytes:
    return b"[" + b",".join([b'{"id":"%b","category":%b,"score":%b,"distance":%b}'] * count) + b"]"
