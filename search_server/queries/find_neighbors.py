"""Vertex AI Vector Search's FindNeighbors in its JSON form, so that its clients can ask here.

Names and meanings follow google.cloud.aiplatform.v1.MatchService. As protobuf's JSON has it, a field may be written in
lowerCamelCase or in snake_case, null means unset, and an unknown field is an error. The answer is in lowerCamelCase.
"""

from __future__ import annotations

from array import array
from collections.abc import AsyncGenerator, Callable, Iterable
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import Any

import numpy as np
import orjson

from http_limits.refusals import BodyTooLarge, RequestMalformed
from model_repository.fields import Fields
from search_server.build.index import MappedIndex, check_one_space
from search_server.build.partitions import Neighbors, Partition
from search_server.config import Limits
from search_server.errors import ParameterRefused
from search_server.filters.restricts import Restriction
from search_server.http.requests import DEFAULT_NEIGHBORS, TAGS_ASKED, parse_vector
from search_server.queries.searches import Searches

_CATEGORY = "category"

_GOOGLE_STATUS = {
    HTTPStatus.BAD_REQUEST: "INVALID_ARGUMENT",
    HTTPStatus.NOT_FOUND: "NOT_FOUND",
    HTTPStatus.METHOD_NOT_ALLOWED: "UNIMPLEMENTED",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "INVALID_ARGUMENT",
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: "INVALID_ARGUMENT",
    HTTPStatus.SERVICE_UNAVAILABLE: "UNAVAILABLE",
    HTTPStatus.INTERNAL_SERVER_ERROR: "INTERNAL",
}


_MOST_VALUES = 150_000
"""Of a body, weighed: 100 queries of 1,280 numbers and what is around them, or 3 milliseconds to read."""
_WEIGHTS = {ord(","): 1, ord('"'): 2, ord("["): 3, ord("{"): 3}
"""Of what a number, a text (twice), a list and an object are told by: 20 nanoseconds each, and more than 20 bytes."""
_AT_ONCE = 6_000
"""Numbers of full datapoints that are written in one turn: 120 KB, half a millisecond."""
_FULL = 150.0
"""Cost of a number of a full datapoint, which is looked up and written, as numbers compared."""


@dataclass(frozen=True, slots=True)
class Query:
    """One query.

    id: of its answer. vector: of length 1. looked_for: neighbours that are searched for, of which `neighbors` are
    given. partitions, restriction: where to look, and for what. full: vectors and restricts too. cost: of all that.
    """

    id: str
    vector: array[float]
    neighbors: int
    looked_for: int
    partitions: tuple[Partition, ...]
    restriction: Restriction
    full: bool
    cost: float


class _Message(Fields):
    """A protobuf message in JSON."""

    null_is_absent = True

    def error(self, path: str, what: str) -> ParameterRefused:
        return ParameterRefused(f"{path}: {what}" if path else what)

    def key(self, field: str) -> str:
        """The name in use; a field may be written in lowerCamelCase or in snake_case."""
        words = field.split("_")
        camel = words[0] + "".join(word.capitalize() for word in words[1:])
        if camel != field and camel in self._left and field in self._left:
            raise self.error(self.path, f"{camel} and {field} are the same field")
        return field if field in self._left else camel

    def any_text(self, field: str) -> str:
        """A string, whatever is in it: it may be an item's id. Empty if unset."""
        value = self.take(field, "")
        if not isinstance(value, str):
            self.refuse("expected a string", field)
        return value

    def count(self, field: str, most: int) -> int:
        """An int32, which may be written as a string; 0 if unset."""
        value = self.take(field, 0)
        if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 11:  # noqa: PLR2004 - 2^31
            value = int(value)
        if type(value) is not int or not 0 <= value <= most:
            self.refuse(f"expected a whole number from 1 to {most}", field)
        return value


class FindNeighbors:
    """Answers one request, in pieces between which others are answered. gone: whether nobody waits for it any more."""

    def __init__(self, index: MappedIndex, searches: Searches, limits: Limits, gone: Callable[[], bool]) -> None:
        self._index = index
        self._searches = searches
        self._limits = limits
        self._gone = gone

    async def pieces(self, body: bytes) -> AsyncGenerator[bytes, None]:
        """The answer to a body, in JSON.

        Raises, before the first piece, `RequestMalformed`, `ParameterRefused`, `ItemUnknown` or `Overloaded`; at any
        time `ClientGone`.
        """
        take, index = self._searches.turns.take, self._index
        full, messages = await take(partial(_parse_body, body, index, self._limits), self._gone)
        parse = partial(_parse_query, index=index, limits=self._limits, full=full)
        queries = [await take(partial(parse, message), self._gone) for message in messages]
        self._searches.long.check(sum(query.cost for query in queries))
        before = b'{"nearestNeighbors":['
        for number, query in enumerate(queries):
            partitions = await self._searches.restricted(
                query.partitions, query.restriction, self._gone, begun=number > 0
            )
            found = await self._searches.nearest(
                query.vector, query.looked_for, partitions, self._gone, begun=number > 0
            )
            found = found.part(0, query.neighbors)
            yield before + b'{"id":%b,"neighbors":[' % orjson.dumps(query.id)
            at_once = _AT_ONCE // len(query.vector) + 1 if query.full else self._limits.neighbors
            for start in range(0, len(found.ids), at_once):
                some = found.part(start, start + at_once)
                piece = await take(partial(_format, query, some, index), self._gone)
                yield b"," + piece if start else piece
            before = b"]},"
        yield b"]}]}"


def _parse_body(body: bytes, index: MappedIndex, limits: Limits) -> tuple[bool, list[_Message]]:
    """Whether full datapoints are asked for, and the queries.

    Raises `BodyTooLarge`, `RequestMalformed` or `ParameterRefused`.
    """
    if len(body) > limits.json_bytes:
        raise BodyTooLarge(f"a body in JSON may have {limits.json_bytes} bytes: ask in several, of fewer queries each")
    marks = np.frombuffer(body, np.uint8)
    if sum(weight * np.count_nonzero(marks == mark) for mark, weight in _WEIGHTS.items()) > _MOST_VALUES:
        raise ParameterRefused("the body has more numbers and texts than are read at once: ask in several")
    try:
        message = _Message(orjson.loads(body), "the body")
    except orjson.JSONDecodeError as error:
        raise RequestMalformed(f"the body isn't JSON: {error}") from None
    deployed = message.text("deployed_index_id", default="")
    # Vertex AI's ids have underscores where ours have hyphens
    if deployed and deployed.replace("_", "-") != index.manifest.prefix.index:
        message.refuse(f"deployedIndexId {deployed[:80]!r}: {index.manifest.prefix.index!r} is served here")
    message.ignore("index_endpoint")
    full = message.flag("return_full_datapoint", default=False)
    queries = message.objects("queries", most=limits.queries, default=[])
    message.done()
    if not queries:
        message.refuse("queries: at least one is needed")
    return full, list(queries)


def _parse_query(query: _Message, *, index: MappedIndex, limits: Limits, full: bool) -> Query:
    neighbors = query.count("neighbor_count", limits.neighbors) or DEFAULT_NEIGHBORS
    # how hard to look is decided by the build, whose recall was measured; more candidates may be asked for
    looked_for = max(neighbors, query.count("approximate_neighbor_count", limits.neighbors))
    query.ignore("fraction_leaf_nodes_to_search_override")  # tunes Vertex AI's own indexes
    datapoint = query.object("datapoint", default={})
    query.done()
    item = datapoint.any_text("datapoint_id")
    values = datapoint.take("feature_vector", [])
    partitions, restriction = _select(datapoint.objects("restricts", most=10, default=[]), index)
    datapoint.ignore("crowding_tag")
    datapoint.done()
    if values:
        _, dimensions = check_one_space(partitions or index.blocks[:1])  # restricts may leave no category
        vector = parse_vector(values, dimensions, "featureVector")
    elif item:
        home, position = index.place(item)
        vector = home.vectors.vector(position)
        partitions = tuple(each for each in partitions if each.space == home.space)
    else:
        datapoint.refuse("featureVector, or the datapointId of an item of this index, is needed")
    cost = index.cost(partitions, looked_for) + index.restricts.cost(restriction)
    cost += neighbors * len(vector) * _FULL if full else 0.0
    return Query(item, array("d", vector), neighbors, looked_for, partitions, restriction, full, cost)


def _select(restricts: Iterable[_Message], index: MappedIndex) -> tuple[tuple[Partition, ...], Restriction]:
    """Where to look, and for which tags, as they are written."""
    names = index.restricts.names
    categories: set[str] | None = None
    without: set[str] = set()
    allowed_tags: set[tuple[str, ...]] = set()
    denied_tags: set[str] = set()
    for restrict in restricts:
        namespace = restrict.text("namespace", default="")
        allowed = restrict.texts("allow_list", most=TAGS_ASKED, default=())
        denied = restrict.texts("deny_list", most=TAGS_ASKED, default=())
        if namespace in names:
            allowed_tags |= {tuple(sorted({f"{namespace}={each}" for each in allowed}))} if allowed else set()
            denied_tags |= {f"{namespace}={each}" for each in denied}
        elif namespace != _CATEGORY:
            restrict.refuse(f"namespace {namespace[:80]!r}: this index knows {', '.join((_CATEGORY, *names))}")
        else:
            for category in (*allowed, *denied):
                index.select(category)
            if allowed:
                categories = {*allowed} if categories is None else categories & {*allowed}
            without |= {*denied}
        restrict.done()
    if (tags := len(denied_tags) + sum(map(len, allowed_tags))) > TAGS_ASKED:
        raise ParameterRefused(f"restricts: {tags} tags are asked for, at most {TAGS_ASKED} are in a query")
    partitions, places = index.select_several(categories, without)
    return partitions, Restriction(tuple(sorted(allowed_tags)), tuple(sorted(denied_tags)), places)


def _format(query: Query, found: Neighbors, index: MappedIndex) -> bytes:
    """Neighbours in JSON. distance: 1 - cosine similarity, Vertex AI's COSINE_DISTANCE, from 0 to 2."""
    return orjson.dumps(
        [
            {
                "datapoint": {
                    "datapointId": item,
                    "crowdingTag": {"crowdingAttribute": category},
                    **(_full(item, category, index) if query.full else {}),
                },
                "distance": distance * distance / 2.0,
            }
            for distance, item, category in zip(
                found.distances, [item.decode() for item in found.ids], found.categories, strict=True
            )
        ]
    )[1:-1]


def _full(item: str, category: str, index: MappedIndex) -> dict[str, Any]:
    return {
        "featureVector": index.vector(item),
        "restricts": [{"namespace": _CATEGORY, "allowList": [category]}],
    }


def format_error(status: HTTPStatus, message: str) -> dict[str, Any]:
    """An error as Google's APIs write it."""
    return {"error": {"code": status.value, "message": message, "status": _GOOGLE_STATUS.get(status, "UNKNOWN")}}
