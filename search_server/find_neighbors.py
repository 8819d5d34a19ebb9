"""Vertex AI Vector Search's FindNeighbors in its JSON form, so that its clients can ask here.

Names and meanings follow google.cloud.aiplatform.v1.MatchService. As protobuf's JSON has it, a field may be written in
lowerCamelCase or in snake_case, null means unset, and an unknown field is an error. The answer is in lowerCamelCase.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import orjson

from http_limits.refusals import RequestMalformed
from model_repository.fields import Fields
from search_server.build.index import MappedIndex, Neighbors, Partition, check_one_space
from search_server.config import Limits
from search_server.errors import ParameterRefused
from search_server.http.requests import DEFAULT_NEIGHBORS, parse_vector

_CATEGORY = "category"

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
    """One query. id: of its answer. vector: of length 1. partitions: where to look. full: vectors and restricts too."""

    id: str
    vector: list[float]
    neighbors: int
    partitions: tuple[Partition, ...]
    full: bool


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


def parse_find_neighbors(body: bytes, index: MappedIndex, limits: Limits) -> tuple[Query, ...]:
    """Read a request; raises `RequestMalformed`, `ParameterRefused` or `ItemUnknown`."""
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
    parsed = tuple(_parse_query(query, index, limits, full=full) for query in queries)
    message.done()
    if not parsed:
        message.refuse("queries: at least one is needed")
    return parsed


def _parse_query(query: _Message, index: MappedIndex, limits: Limits, *, full: bool) -> Query:
    neighbors = query.count("neighbor_count", limits.neighbors) or DEFAULT_NEIGHBORS
    # how hard to look is decided by the build, whose recall was measured; these only tune Vertex AI's own indexes
    query.ignore("approximate_neighbor_count", "fraction_leaf_nodes_to_search_override")
    datapoint = query.object("datapoint", default={})
    query.done()
    item = datapoint.any_text("datapoint_id")
    values = datapoint.take("feature_vector", [])
    partitions = _select(datapoint.objects("restricts", most=10, default=[]), index)
    datapoint.ignore("crowding_tag")
    datapoint.done()
    if values:
        _, dimensions = check_one_space(partitions)
        vector = parse_vector(values, dimensions, "featureVector")
    elif item:
        home, position = index.place(item)
        vector = home.vectors.vector(position)
        partitions = tuple(each for each in partitions if each.space == home.space)
    else:
        datapoint.refuse("featureVector, or the datapointId of an item of this index, is needed")
    return Query(item, vector, neighbors, partitions, full)


def _select(restricts: Iterable[_Message], index: MappedIndex) -> tuple[Partition, ...]:
    partitions = index.partitions
    for restrict in restricts:
        if restrict.text("namespace", default="") != _CATEGORY:
            restrict.refuse("the namespace 'category' is the only one here")
        allowed = restrict.texts("allow_list", default=())
        denied = restrict.texts("deny_list", default=())
        restrict.done()
        for category in (*allowed, *denied):
            index.select(category)
        partitions = tuple(p for p in partitions if (not allowed or p.category in allowed) and p.category not in denied)
    return partitions


def format_neighbors(query: Query, found: Neighbors, index: MappedIndex) -> dict[str, Any]:
    """One NearestNeighbors. distance: 1 - cosine similarity, Vertex AI's COSINE_DISTANCE, from 0 to 2."""
    ids = [item.decode() for item in found.ids]
    return {
        "id": query.id,
        "neighbors": [
            {
                "datapoint": {
                    "datapointId": item,
                    "crowdingTag": {"crowdingAttribute": category},
                    **(_full(item, category, index) if query.full else {}),
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
