"""What can be asked, and who answers: the routes, and the state that decides whether they are open. Bare ASGI."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from functools import lru_cache, partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import orjson

from http_limits.budget import ByteBudget
from http_limits.refusals import RequestRefused, Response
from model_repository.documents.index_manifest import IndexManifest
from model_repository.telemetry.log import Log
from search_server.build.detector import BuildDetector
from search_server.build.index import MappedIndex
from search_server.build.model import Model
from search_server.build.partitions import Partition
from search_server.config import Config
from search_server.errors import MethodRefused, NotReady, RouteUnknown
from search_server.filters.masks import NOTHING_HIDDEN
from search_server.http.page import read_page
from search_server.http.requests import (
    ClientGone,
    Request,
    parse_item,
    parse_listing,
    parse_photo_query,
    parse_picture,
    parse_query,
    parse_search,
)
from search_server.http.responses import (
    Validity,
    error_response,
    json_response,
    json_stream_response,
    similar_json,
)
from search_server.pictures.client import PictureClient
from search_server.processes.pod import PodState, ProcessState
from search_server.processes.probes import Probes
from search_server.queries.find_neighbors import FindNeighbors, format_error
from search_server.queries.photo_search import Opened, PhotoSearch
from search_server.queries.searches import Searches

if TYPE_CHECKING:
    from http_limits.protocol import BoundedProtocol

_ITEM_HEAD = b"/v1/items/"
_ITEM_TAIL = b"/similar"
_ITEM_SHORTEST = len(_ITEM_HEAD) + 1 + len(_ITEM_TAIL)
_FIND_NEIGHBORS = "find-neighbors"
_VERTEX_PATH = re.compile(rb"/v1(beta1)?/projects/[^/]+/locations/[^/]+/indexEndpoints/[^/]+:findNeighbors")
_CLOSE = (b"connection", b"close")
_KNOWN_QUERY = 200
"""Bytes of the longest query that is read once and then known: there are thousands of them."""

Message = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Route:
    """name: in metrics. method: the one that is served (GET: HEAD too)."""

    name: str
    method: str
    answer: Callable[[Request], Awaitable[Response]]


class SearchApplication:
    """Answers requests about one build; closed until `open` is called with one that has proved itself.

    connections: tells those that are open; the server sets it. now: by `time.monotonic`, as of its last tick.
    """

    def __init__(self, config: Config, pod: PodState, own: ProcessState, log: Log) -> None:
        self.limits = config.limits
        self.now = time.monotonic()
        self.held = ByteBudget(config.limits.held_bytes)
        self._pod = pod
        self._own = own
        self._count = own.counters.count
        probes = Probes(pod, config)
        self.connections: Callable[[], list[BoundedProtocol]] = list
        self._config = config
        self._log = log
        self._opened: Opened | None = None
        self._served: dict[str, Any] = {}
        self._masks = NOTHING_HIDDEN
        self._valid = Validity(config.generation, 0, config.cache_seconds)
        self._draining = False
        self._know_tags(())
        self._similar = Route("similar", "GET", self._answer_similar)
        self._find_neighbors = Route(_FIND_NEIGHBORS, "POST", self._answer_find_neighbors)
        self._routes = {
            b"/v1/items": Route("items", "GET", self._answer_items),
            b"/v1/search": Route("search", "POST", self._answer_search),
            b"/v1/findNeighbors": self._find_neighbors,
            b"/v1/status": Route("status", "GET", self._answer_status),
            b"/livez": Route("livez", "GET", _at_once(probes.live)),
            b"/readyz": Route("readyz", "GET", _at_once(probes.ready)),
            b"/metrics": Route("metrics", "GET", _at_once(probes.metrics)),
        }
        self._page = read_page(config.item_image_url, config.item_names_url)
        self._routes |= dict.fromkeys(self._page, Route("page", "GET", self._answer_page))

    # the state

    def open(
        self,
        index: MappedIndex,
        models: tuple[Model, ...],
        detector: BuildDetector | None,
        pictures: PictureClient,
    ) -> None:
        """Answer about this build from now on. models: in the order of its manifest."""
        self._know_tags(index.restricts.names)
        self._opened = Opened(index, models, detector, pictures, Searches(index, self.limits))
        self._served = _served(self._config, self._opened)
        self._own.items = index.manifest.items

    def _know_tags(self, names: tuple[str, ...]) -> None:
        self._parse_search = partial(parse_search, limits=self.limits, tags=names)
        # callers ask in the same few ways again and again
        self._known_search = lru_cache(maxsize=4096)(self._parse_search)
        self._parse_photo_query = partial(parse_photo_query, limits=self.limits, tags=names)

    def drain(self) -> None:
        """Go on answering, but ask to be sent nothing new."""
        self._draining = True

    @property
    def pictures(self) -> int:
        """How many wait for the model, or are being embedded."""
        return self._opened.pictures.length if self._opened else 0

    def _open(self) -> Opened:
        if self._opened is None:
            raise NotReady("the index is being opened and proved")
        return self._opened

    # requests in, answers out

    async def __call__(
        self,
        scope: Message,
        receive: Callable[[], Awaitable[Message]],
        send: Callable[[Message], Awaitable[None]],
    ) -> None:
        """Answer a request, as ASGI has it. Raises nothing."""
        begun = time.perf_counter()
        request = Request(scope, receive)
        route: Route | None = None
        try:
            route = self._route(request)
            answer = await route.answer(request)
        except ClientGone:
            return
        except Exception as error:  # noqa: BLE001 - whatever it is, the client gets an answer
            answer = self._answer_error(request, error, route)
        headers = answer.headers
        connection = scope["extensions"]["connection"]
        if (self._draining and not connection.pipeline) or connection.unread:
            # a client that sent more requests at once gets all their answers before it is told to go
            headers = [*headers, _CLOSE]
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await send({"type": "http.response.body", "body": answer.body, "more_body": answer.rest is not None})
        if answer.rest is not None and not await self._send_rest(request, answer.rest, send):
            return
        self._count(route.name if route else "none", answer.status, time.perf_counter() - begun)

    async def _send_rest(
        self, request: Request, rest: AsyncGenerator[bytes, None], send: Callable[[Message], Awaitable[None]]
    ) -> bool:
        """Send what is made meanwhile; False if it can't be completed, and then the connection ends without its end."""
        try:
            async with aclosing(rest):
                async for piece in rest:
                    if request.gone():
                        return False
                    await send({"type": "http.response.body", "body": piece, "more_body": True})
        except ClientGone:
            return False
        except Exception as error:  # noqa: BLE001 - its status is sent: it can only be cut off
            self._log.error(f"an answer was cut off: {error!r}")
            return False
        await send({"type": "http.response.body", "body": b""})
        return True

    def _route(self, request: Request) -> Route:
        path = request.path
        if path.startswith(_ITEM_HEAD) and path.endswith(_ITEM_TAIL) and len(path) >= _ITEM_SHORTEST:
            route: Route | None = self._similar
        else:
            route = self._routes.get(path)
            if route is None and _VERTEX_PATH.fullmatch(path):
                route = self._find_neighbors
        if route is None:
            raise RouteUnknown("nothing is served at this path; docs/search-api.md lists what is")
        if request.method != route.method and not (request.method == "HEAD" and route.method == "GET"):
            raise MethodRefused(request.method, route.method)
        return route

    def refuse(self, refusal: RequestRefused) -> Response:
        """The answer to what was no whole request."""
        self._count("none", refusal.status, 0.0)
        return self._answer_error(None, refusal, None)

    def _answer_error(self, request: Request | None, error: Exception, route: Route | None) -> Response:
        headers = []
        if isinstance(error, RequestRefused):
            status, code, message = error.status, error.code, str(error)
            if isinstance(error, MethodRefused):
                headers = [(b"allow", error.allowed.encode())]
            elif status is HTTPStatus.SERVICE_UNAVAILABLE:
                headers = [(b"retry-after", b"1")]
        else:
            status, code = HTTPStatus.INTERNAL_SERVER_ERROR, "internal"
            message = "this is a fault of the server; see its log"
            trace = request.header(b"x-cloud-trace-context") if request else b""
            fields = {"logging.googleapis.com/trace": trace.partition(b"/")[0].decode("latin-1")}
            self._log.error(f"request failed: {error!r}", route=route.name if route else None, **fields)
        if route is not None and route.name == _FIND_NEIGHBORS:
            return json_response(format_error(status, message), status, *headers)
        return error_response(status, code, message, *headers)

    # the routes

    async def _answer_similar(self, request: Request) -> Response:
        opened = self._open()
        index = opened.index
        validity = self._validity(index)
        query = request.query
        search = self._known_search(query) if len(query) <= _KNOWN_QUERY else self._parse_search(query)
        item = parse_item(request.path[len(_ITEM_HEAD) : -len(_ITEM_TAIL)])
        home, position = index.place(item)
        partitions: Sequence[Partition] = index.comparable(home, search.category)
        if unchanged := validity.unchanged(request.header(b"if-none-match")):
            return unchanged
        if search.restriction:
            partitions = await opened.searches.restricted(partitions, search.restriction, request.gone)
        found = await opened.searches.similar(home, position, search.k, partitions, request.gone)
        return validity.response(similar_json(item, home.category, self._config.generation, found))

    async def _answer_items(self, request: Request) -> Response:
        opened = self._open()
        index = opened.index
        validity = self._validity(index)
        listing = parse_listing(request.query, self.limits)
        work = partial(index.listed, listing.category, listing.after, listing.limit + 1)
        found = await opened.searches.turns.take(work, request.gone)
        if unchanged := validity.unchanged(request.header(b"if-none-match")):
            return unchanged
        page = found[: listing.limit]
        value = {
            "generation": self._config.generation,
            "items": [{"id": item, "category": category} for item, category in page],
            "next": page[-1][0] if len(found) > listing.limit else None,
        }
        return validity.response(orjson.dumps(value))

    def _validity(self, index: MappedIndex) -> Validity:
        """Looked at before the search: an answer may be newer than its ETag says, and never older."""
        if index.masks is not self._masks:
            self._masks = index.masks
            self._valid = Validity(self._config.generation, index.masks.generation, self._config.cache_seconds)
        return self._valid

    async def _answer_search(self, request: Request) -> Response:
        opened = self._open()
        search = PhotoSearch(opened, self._parse_photo_query(request.query), request.gone)
        take = partial(opened.searches.turns.take, gone=request.gone)
        picture = await parse_picture(request.header(b"content-type"), await request.body(), take)
        return await json_stream_response(search.pieces(self._config.generation, picture))

    async def _answer_find_neighbors(self, request: Request) -> Response:
        opened = self._open()
        answer = FindNeighbors(opened.index, opened.searches, self.limits, request.gone)
        return await json_stream_response(answer.pieces(await request.body()))

    async def _answer_status(self, request: Request) -> Response:
        parse_query(request.query, ())
        masks = self._open().index.masks
        now = {
            "filter": {"generation": masks.generation, "hidden": masks.hidden, "here": masks.here},
            "ready": self._pod.closed_because is None,
        }
        return json_response(self._served | now)

    async def _answer_page(self, request: Request) -> Response:
        return self._page[request.path].answer(request)


def _at_once(answer: Callable[[], Response]) -> Callable[[Request], Awaitable[Response]]:
    async def answering(request: Request) -> Response:
        del request
        return answer()

    return answering


def _served(config: Config, opened: Opened) -> dict[str, Any]:
    """What /v1/status says that stays: made once, as thousands of categories take a while."""
    index = opened.index.manifest
    models = [
        {"prefix": str(reference.prefix), "digest": reference.digest, "input_size": model.manifest.input.size}
        for reference, model in zip(index.models, opened.models, strict=True)
    ]
    return {
        "generation": config.generation,
        "index_prefix": str(index.prefix),
        "index_digest": opened.index.digest,
        "index": index.prefix.index,
        "build": index.prefix.build,
        "created": index.created,
        "items": index.items,
        "dimensions": _only(partition.dimensions for partition in index.partitions),
        "recall": {"at": index.recall.at, "value": index.recall.value},
        "categories": orjson.Fragment(orjson.dumps(_categories(index))),
        "model": _only(models),
        "models": models,
        "detector": _detector(opened.detector),
        "tags": opened.index.restricts.names,
        "item_image_url": config.item_image_url,
        "item_names_url": config.item_names_url,
    }


def _only(values: Iterable[Any]) -> Any:  # noqa: ANN401 - what JSON has
    """What all of them are; None if they differ, or there are none."""
    first, *others = [*values] or [None]
    return first if all(other == first for other in others) else None


def _detector(detector: BuildDetector | None) -> dict[str, Any] | None:
    if detector is None:
        return None
    reference = detector.reference
    return {"prefix": str(reference.prefix), "digest": reference.digest, "categories": sorted(detector.models)}


def _categories(index: IndexManifest) -> list[dict[str, Any]]:
    items: Counter[str] = Counter()
    for partition in index.partitions:
        items[partition.category] += partition.items
    return [{"category": category, "items": count} for category, count in sorted(items.items())]
