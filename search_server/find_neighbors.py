"""Vertex AI Vector Search's FindNeighbors in its JSON form, so that its clients can ask here.

Names and meanings follow google.cloud.aiplatform.v1.MatchService. As protobuf's JSON has it, a field may be written in
lowerCamelCase or in snake_case, null means unset, and an unknown field is an error. The answer is in lowerCamelCase.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, NoReturn, TypeVar

import orjson

from search_server.config import Limits
from search_server.errors import ParameterRefused, RequestMalformed
from search_server.index import MappedIndex, Neighbors, Partition
from search_server.requests import DEFAULT_NEIGHBORS, parse_vector

_CATEGORY = "category"
_T = TypeVar("_T")

_GOOGLE_STATUS = {
    HTTPStatus.BAD_REQUEST: "INVALID_ARGUMENT",
    HTTPStatus.NOT_FOUND: "NOT_FOUND",
    HTTPStatus.METHOD_NOT_ALLOWED: "UNIMPLEMENTED",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "INVALID_ARGUMENT",
    HTTPStatus.SERVICE_UNAVAILABLE: "UNAVAILABLE",
    HTTPStatus.INTERNAL_SERVER_ERROR: "INTERNAL",
}


@dataclass(frozen=True, slots=True)
class Query:
    """One query. id: what its answer is named. vector: of length 1. partitions: where to look."""

    id: str
    vector: list[float]
    neighbors: int
    partitions: tuple[Partition, ...]


@dataclass(frozen=True, slots=True)
class FindNeighbors:
    """A whole request. full: answer with vectors and restricts too."""

    queries: tuple[Query, ...]
    full: bool


class _Message:
    """A protobuf message in JSON, read field by field."""

    def __init__(self, value: object, path: str) -> None:
        self._path = path
        if not isinstance(value, dict):
            self.refuse("expected an object")
        self._fields = {key: field for key, field in value.items() if field is not None}

    def refuse(self, what: str) -> NoReturn:
        raise ParameterRefused(f"{self._path}: {what}" if self._path else what)

    def _take(self, name: str) -> tuple[Any, str]:
        words = name.split("_")
        camel = words[0] + "".join(word.capitalize() for word in words[1:])
        found = [key for key in dict.fromkeys((camel, name)) if key in self._fields]
        if len(found) > 1:
            self.refuse(f"{camel} and {name} are the same field")
        path = f"{self._path}.{camel}" if self._path else camel
        return (self._fields.pop(found[0]) if found else None), path

    def typed(self, name: str, kind: type[_T], default: _T) -> _T:
        value, path = self._take(name)
        if value is None:
            return default
        if not isinstance(value, kind):
            raise ParameterRefused(f"{path}: expected a value of type {kind.__name__}")
        return value

    def whole(self, name: str, most: int) -> int:
        """An int32, which may be written as a string; 0 if unset."""
        value, path = self._take(name)
        if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 11:  # noqa: PLR2004 - 2^31
            value = int(value)
        if value is None:
            return 0
        if type(value) is not int or not 0 <= value <= most:
            raise ParameterRefused(f"{path}: expected a whole number from 1 to {most}")
        return value

    def message(self, name: str) -> _Message:
        value, path = self._take(name)
        return _Message({} if value is None else value, path)

    def messages(self, name: str, most: int) -> list[_Message]:
        value, path = self._take(name)
        if not isinstance(value or [], list) or len(value or []) > most:
            raise ParameterRefused(f"{path}: expected a list of at most {most}")
        return [_Message(entry, f"{path}[{i}]") for i, entry in enumerate(value or [])]

    def ignore(self, *names: str) -> None:
        for name in names:
            self._take(name)

    def done(self) -> None:
        if self._fields:
            self.refuse(f"unknown or unsupported field {min(self._fields)[:80]!r}")


def parse_find_neighbors(body: bytes, index: MappedIndex, limits: Limits) -> FindNeighbors:
    """Read a request; raises `RequestMalformed`, `ParameterRefused` or `ItemUnknown`."""
    try:
        message = _Message(orjson.loads(body), "")
    except orjson.JSONDecodeError as error:
        raise RequestMalformed(f"the body isn't JSON: {error}") from None
    deployed = message.typed("deployed_index_id", str, "")
    # Vertex AI's ids have underscores where ours have hyphens
    if deployed and deployed.replace("_", "-") != index.manifest.prefix.index:
        message.refuse(f"deployedIndexId {deployed[:80]!r}: {index.manifest.prefix.index!r} is served here")
    message.ignore("index_endpoint")
    full = message.typed("return_full_datapoint", bool, default=False)
    queries = tuple(_parse_query(query, index, limits) for query in message.messages("queries", limits.queries))
    message.done()
    if not queries:
        message.refuse("queries: at least one is needed")
    return FindNeighbors(queries, full)


def _parse_query(query: _Message, index: MappedIndex, limits: Limits) -> Query:
    neighbors = query.whole("neighbor_count", limits.neighbors) or DEFAULT_NEIGHBORS
    # how hard to look is decided by the build, whose recall was measured; these only tune Vertex AI's own indexes
    query.ignore("approximate_neighbor_count", "fraction_leaf_nodes_to_search_override")
    datapoint = query.message("datapoint")
    query.done()
    item = datapoint.typed("datapoint_id", str, "")
    values = datapoint.typed("feature_vector", list, [])
    partitions = _select(datapoint.messages("restricts", 10), index)
    datapoint.ignore("crowding_tag")
    datapoint.done()
    if values:
        vector = parse_vector(values, index.manifest.dimensions, "featureVector")
    elif item:
        vector = index.vector(item)
    else:
        datapoint.refuse("featureVector, or the datapointId of an item of this index, is needed")
    return Query(item, vector, neighbors, partitions)


def _select(restricts: Iterable[_Message], index: MappedIndex) -> tuple[Partition, ...]:
    partitions = index.partitions
    for restrict in restricts:
        if restrict.typed("namespace", str, "") != _CATEGORY:
            restrict.refuse("the namespace 'category' is the only one here")
        allowed = restrict.typed("allow_list", list, [])
        denied = restrict.typed("deny_list", list, [])
        restrict.done()
        for category in (*allowed, *denied):
            index.select(str(category))
        partitions = tuple(p for p in partitions if (not allowed or p.category in allowed) and p.category not in denied)
    return partitions


def format_neighbors(query: Query, found: Neighbors, index: MappedIndex, *, full: bool) -> dict[str, Any]:
    """One NearestNeighbors. distance: 1 - cosine similarity, Vertex AI's COSINE_DISTANCE, from 0 to 2."""
    ids = [item.decode() for item in found.ids]
    return {
        "id": query.id,
        "neighbors": [
            {
                "datapoint": {
                    "datapointId": item,
                    "crowdingTag": {"crowdingAttribute": category},
                    **(_full(item, category, index) if full else {}),
                },
                "distance": distance * distance / 2.0,
            }
            for distance, item, category in zip(found.distances, ids, found.categories, strict=True)
        ],
    }


def _full(item: str, category: str, index: MappedIndex) -> dict[str, Any]:
    return {
        "featureVector": index.vector(item),
        "restricts": [{"namespace": _CATEGORY, "allowList": [category]}],
    }


def format_error(status: HTTPStatus, message: str) -> dict[str, Any]:
    """An error as Google's APIs write it."""
    return {"error": {"code": status.value, "message": message, "status": _GOOGLE_STATUS.get(status, "UNKNOWN")}}
