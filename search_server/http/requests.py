"""A request, and what it asks for, read strictly: a typo must not be silently ignored."""

from __future__ import annotations

import math
import re
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import unquote_plus, unquote_to_bytes

import numpy as np
import python_multipart
from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import parse_options_header

from http_limits.refusals import RequestMalformed
from search_server.config import Limits
from search_server.errors import MediaUnsupported, ParameterRefused
from search_server.filters.restricts import Restriction

DEFAULT_NEIGHBORS = 10
"""k where none is asked for."""

TAGS_ASKED = 100
"""Most tags that one search may name."""

DEFAULT_LISTED = 100
"""Items of one page where no limit is asked for."""

_NUMBER = r"[0-9]{1,3}(\.[0-9]{0,30})?(e-?[0-9]{1,3})?"
_BOX = re.compile(rf"{_NUMBER}(,{_NUMBER}){{3}}", re.IGNORECASE)

_PARTS = 10
"""Most parts of a multipart body that are looked at."""
_TYPE_BYTES = 1000
"""Longest content type that is read: the time of each of its options adds up."""
_AT_ONCE = 256 * 1024
"""Bytes of a multipart body that are read in one turn."""

Take = Callable[[Callable[[], object]], Awaitable[object]]
"""Does a piece of work on the event loop, in its turn."""


class ClientGone(Exception):
    """The client went away, or was refused, before its request was whole: there is nobody to answer."""


class Request:
    """One request, as ASGI hands it over. path: as sent, percent-encoded. query: without the question mark."""

    __slots__ = ("_receive", "_scope", "method", "path", "query")

    def __init__(self, scope: dict[str, Any], receive: Callable[[], Awaitable[dict[str, Any]]]) -> None:
        self.method: str = scope["method"]
        self.path: bytes = scope["raw_path"]
        self.query: bytes = scope["query_string"]
        self._scope = scope
        self._receive = receive

    def gone(self) -> bool:
        """Whether nobody waits for the answer any more."""
        gone: bool = self._scope["extensions"]["connection"].gone
        return gone

    def header(self, name: bytes) -> bytes:
        """The fields of that name (in lower case) as one, or nothing."""
        return b", ".join([value for field, value in self._scope["headers"] if field == name])

    async def body(self) -> bytes:
        """The whole body, which the connection bounds. Raises `ClientGone`, and `MediaUnsupported` for a packed one."""
        coding = self.header(b"content-encoding").strip().lower()
        if coding not in (b"", b"identity"):
            raise MediaUnsupported(f"content-encoding {coding[:80].decode('latin-1')!r}: send the body as it is")
        body = bytearray()  # of single bytes, a list would have forty times as many
        while True:
            message = await self._receive()
            if message["type"] != "http.request":
                raise ClientGone
            body += message["body"]
            if not message["more_body"]:
                return bytes(body)


@dataclass(frozen=True, slots=True)
class Search:
    """How many neighbours, of which category (None: of all), and with which tags."""

    k: int
    category: str | None
    restriction: Restriction


@dataclass(frozen=True, slots=True)
class Listing:
    """Which items: of a category (None: all), following an item, at most so many."""

    category: str | None
    after: str | None
    limit: int


@dataclass(frozen=True, slots=True)
class PhotoQuery:
    """What is asked of a photo.

    k, category, restriction: see `Search`. detect: whether things are looked for in it; None: if the build has a
    detector. box: left, top, right, bottom of the only part that matters, as shares of the upright picture.
    """

    k: int
    category: str | None
    detect: bool | None
    box: tuple[float, float, float, float] | None
    restriction: Restriction


def parse_search(query: bytes, limits: Limits, tags: Sequence[str]) -> Search:
    """Read ?k=&category= and the names of tags; raises `ParameterRefused`."""
    values, restriction = _with_tags(query, ("k", "category"), tags)
    return Search(_neighbors(values, limits), values.get("category"), restriction)


def parse_photo_query(query: bytes, limits: Limits, tags: Sequence[str]) -> PhotoQuery:
    """Read ?k=&category=&detect=&box= and the names of tags; raises `ParameterRefused`."""
    values, restriction = _with_tags(query, ("k", "category", "detect", "box"), tags)
    detect, box = values.get("detect"), values.get("box")
    if detect not in (None, "true", "false"):
        raise ParameterRefused(f"detect={detect[:40]!r}: expected true or false")
    if box is not None and detect == "true":
        raise ParameterRefused("detect=true and box=: nothing is looked for where the box is given; leave one out")
    return PhotoQuery(
        _neighbors(values, limits),
        values.get("category"),
        None if detect is None else detect == "true",
        None if box is None else _box(box),
        restriction,
    )


def _with_tags(query: bytes, known: Sequence[str], tags: Sequence[str]) -> tuple[dict[str, str], Restriction]:
    """The values of names that are known, and what the others ask of tags: a name that stands twice means either."""
    allowed: dict[str, dict[str, None]] = {}
    values: dict[str, str] = {}
    for name, value in _pairs(query, (*known, *tags)):
        if name in tags:
            allowed.setdefault(name, {})[f"{name}={value}"] = None
        elif name in values:
            raise ParameterRefused(f"parameter {name!r} stands twice")
        else:
            values[name] = value
    if sum(map(len, allowed.values())) > TAGS_ASKED:
        raise ParameterRefused(f"more than {TAGS_ASKED} tags are asked for")
    return values, Restriction(tuple(tuple(sorted(group)) for _, group in sorted(allowed.items())))


def _neighbors(values: Mapping[str, str], limits: Limits) -> int:
    return whole("k", values["k"], limits.neighbors) if "k" in values else DEFAULT_NEIGHBORS


def _box(text: str) -> tuple[float, float, float, float]:
    if _BOX.fullmatch(text):
        left, top, right, bottom = map(float, text.split(","))
        if 0 <= left < right <= 1 and 0 <= top < bottom <= 1:
            return left, top, right, bottom
    raise ParameterRefused(
        f"box={text[:80]!r}: expected left,top,right,bottom as shares of the picture's width and height, from 0 to 1"
    )


def parse_listing(query: bytes, limits: Limits) -> Listing:
    """Read ?category=&after=&limit=; raises `ParameterRefused`."""
    values = parse_query(query, ("category", "after", "limit"))
    limit = whole("limit", values["limit"], limits.listed) if "limit" in values else DEFAULT_LISTED
    return Listing(values.get("category"), values.get("after"), limit)


def parse_query(query: bytes, known: Sequence[str]) -> dict[str, str]:
    """Read a query string; raises `ParameterRefused` for names that are unknown or stand twice."""
    return _with_tags(query, known, ())[0]


def _pairs(query: bytes, known: Collection[str]) -> Iterator[tuple[str, str]]:
    if not query.isascii():
        raise ParameterRefused("the query has bytes that aren't ASCII: write them percent-encoded, as UTF-8")
    for pair in query.decode().split("&"):
        if pair:
            name, _, value = pair.partition("=")
            if name not in known:
                raise ParameterRefused(f"unknown parameter {name[:80]!r}; known here: {', '.join(known) or 'none'}")
            yield name, unquote_plus(value)


def whole(name: str, text: str, most: int) -> int:
    """Read a whole number from 1 to `most`; raises `ParameterRefused`."""
    if not (text.isascii() and text.isdigit() and len(text) <= len(str(most)) and 1 <= int(text) <= most):
        raise ParameterRefused(f"{name}={text[:40]!r}: expected a whole number from 1 to {most}")
    return int(text)


def parse_item(path: bytes) -> str:
    """Read an item's id from its part of a path; raises `RequestMalformed` if it isn't UTF-8."""
    try:
        return (unquote_to_bytes(path) if b"%" in path else path).decode()
    except UnicodeDecodeError:
        raise RequestMalformed("the item's id isn't percent-encoded UTF-8") from None


def parse_vector(values: object, dimensions: int, name: str) -> list[float]:
    """Check a vector of a JSON body; raises `ParameterRefused` unless its numbers are `dimensions` finite ones."""
    if not isinstance(values, list) or not all(type(value) in (float, int) for value in values):
        raise ParameterRefused(f"{name}: expected a list of numbers")
    if len(values) != dimensions:
        raise ParameterRefused(f"{name}: has {len(values)} numbers, this index has {dimensions} dimensions")
    with np.errstate(over="ignore"):
        try:
            vector = np.array(values, dtype=np.float64).astype(np.float32)
        except OverflowError:
            vector = np.array([math.inf], dtype=np.float32)
    norm = float(np.linalg.norm(vector.astype(np.float64)))
    if not math.isfinite(norm) or norm == 0.0:
        raise ParameterRefused(f"{name}: expected finite numbers in the range of float32, not all of them 0")
    # Annoy compares directions alone; of length 1, no vector overflows on the way
    unit: list[float] = (vector.astype(np.float64) / norm).tolist()
    return unit


async def parse_picture(content_type: bytes, body: bytes, take: Take) -> bytes:
    """The encoded picture in a body of image/* or multipart/form-data.

    Raises `MediaUnsupported` or `RequestMalformed`, and what `take` does.
    """
    kind, options = parse_options_header(content_type) if len(content_type) <= _TYPE_BYTES else (b"", {})
    if kind.startswith(b"image/"):
        picture = body
    elif kind == b"multipart/form-data":
        picture = await _only_file(body, options.get(b"boundary", b""), take)
    else:
        raise MediaUnsupported(
            f"content type {content_type[:80].decode('latin-1')!r}: send a picture as image/*, or as the one file of "
            "multipart/form-data"
        )
    if not picture:
        raise RequestMalformed("the body is empty; send a picture")
    return picture


async def _only_file(body: bytes, boundary: bytes, take: Take) -> bytes:
    """The content of the one part that has a file name."""
    parts: list[tuple[bytearray, list[bytes]]] = []  # (head, content)

    def begin() -> None:
        parts.append((bytearray(), []))

    def head(data: bytes, start: int, end: int) -> None:
        parts[-1][0].extend(data[start:end])

    def head_end() -> None:
        parts[-1][0].extend(b"\n")

    def content(data: bytes, start: int, end: int) -> None:
        parts[-1][1].append(data[start:end])

    def parse(start: int) -> None:
        piece = body[start : start + _AT_ONCE]
        # what only begins like the end of a part takes the parser a microsecond
        if len(parts) + piece.count(b"\r\n--" + boundary) > _PARTS:
            raise RequestMalformed(f"more than {_PARTS} parts, or lines that begin as one does; send one file")
        parser.write(piece)

    try:
        parser = python_multipart.MultipartParser(
            boundary,
            {"on_part_begin": begin, "on_header_value": head, "on_header_end": head_end, "on_part_data": content},
        )
        for start in range(0, len(body), _AT_ONCE):
            await take(partial(parse, start))
    except (MultipartParseError, ValueError) as error:
        raise RequestMalformed(f"the body isn't multipart/form-data: {error}") from None
    files = [data for lines, data in parts if b"filename" in lines]
    if len(files) != 1:
        raise RequestMalformed(f"the form has {len(files)} files; send one")
    return b"".join(files[0])
