"""What can be asked, and who answers: the routes, and the state that decides whether they are open."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from functools import lru_cache, partial
from http import HTTPStatus
from typing import Any

from search_server.answers import search_json
from search_server.config import Config
from search_server.connections import Connections
from search_server.errors import MethodRefused, NotReady, RequestRefused, RouteUnknown, status_of
from search_server.find_neighbors import format_error, format_neighbors, parse_find_neighbors
from search_server.index import MappedIndex, neighbors
from search_server.logs import log
from search_server.messages import Reply, Request, Response, json_body_response, json_response
from search_server.metrics import Metrics, Reading
from search_server.model import Model
from search_server.page import read_page
from search_server.pictures import PictureQueue
from search_server.requests import parse_item, parse_listing, parse_picture, parse_query, parse_search
from search_server.turns import ItemSearch, Turns

Answer = Response | ItemSearch | Coroutine[Any, Any, Response]

_ITEM_HEAD = b"/v1/items/"
_ITEM_TAIL = b"/similar"
_ITEM_SHORTEST = len(_ITEM_HEAD) + 1 + len(_ITEM_TAIL)
_FIND_NEIGHBORS = "find-neighbors"
_VERTEX_PATH = re.compile(rb"/v1/projects/[^/]+/locations/[^/]+/indexEndpoints/[^/]+:findNeighbors")


@dataclass(frozen=True, slots=True)
class Serving:
    """A build that has proved itself."""

    index: MappedIndex
    model: Model
    pictures: PictureQueue
    turns: Turns


@dataclass(frozen=True, slots=True)
class Route:
    """name: in metrics. method: the one that is served (GET: HEAD too)."""

    name: str
    method: str
    answer: Callable[[Request], Answer]


class Application:
    """Answers requests about one build; closed until `open` is called with one that has proved itself."""

    def __init__(self, config: Config, connections: Connections) -> None:
        self.limits = config.limits
        self.metrics = Metrics(self._read)
        self._config = config
        self._connections = connections
        self._serving: Serving | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed_because = "the index is being opened and proved"
        self._page = read_page(config.item_image_url)
        # callers ask in the same few ways again and again
        self._parse_search = lru_cache(maxsize=4096)(partial(parse_search, limits=config.limits))
        self._similar = Route("similar", "GET", self._answer_similar)
        self._find_neighbors = Route(_FIND_NEIGHBORS, "POST", self._answer_find_neighbors)
        self._routes = {
            b"/v1/items": Route("items", "GET", self._answer_items),
            b"/v1/search": Route("search", "POST", self._answer_search),
            b"/v1/findNeighbors": self._find_neighbors,
            b"/v1/status": Route("status", "GET", self._answer_status),
            b"/livez": Route("livez", "GET", lambda _: json_response({"live": True})),
            b"/readyz": Route("readyz", "GET", self._answer_ready),
            b"/metrics": Route("metrics", "GET", self._answer_metrics),
            **{path: Route("page", "GET", file.answer) for path, file in self._page.items()},
        }

    # the state

    def open(self, index: MappedIndex, model: Model) -> None:
        """Answer about this build from now on."""
        answer_error = partial(self._answer_error, route=self._similar)
        turns = Turns(index, self._config.generation, self._similar.name, answer_error)
        self._serving = Serving(index, model, PictureQueue(model, self.limits.pictures), turns)

    def drain(self) -> None:
        """Go on answering, but ask to be sent nothing new."""
        self._connections.draining = True
        self._closed_because = "the server is leaving"

    @property
    def ready(self) -> bool:
        """Whether new requests should be sent here."""
        return self._serving is not None and not self._connections.draining

    def _open(self) -> Serving:
        if self._serving is None:
            raise NotReady(self._closed_because)
        return self._serving

    # requests in, answers out

    def answer(self, request: Request, reply: Reply) -> None:
        """Answer a request: call `reply` once, now or later. Raises nothing."""
        route: Route | None = None
        try:
            route = self._route(request)
            answer = route.answer(request)
        except Exception as error:  # noqa: BLE001 - whatever it is, the client gets an answer
            reply(request, self._answer_error(request, error, route))
            return
        if isinstance(answer, ItemSearch):
            self._open().turns.add(answer, request, reply)
        elif isinstance(answer, Response):
            answer.route = route.name
            reply(request, answer)
        else:
            task = asyncio.get_running_loop().create_task(self._answer_later(request, reply, route, answer))
            self._tasks.add(task)  # the loop itself holds no more than a weak reference
            task.add_done_callback(self._tasks.discard)

    async def _answer_later(
        self, request: Request, reply: Reply, route: Route, answer: Coroutine[Any, Any, Response]
    ) -> None:
        try:
            response = await answer
        except Exception as error:  # noqa: BLE001
            response = self._answer_error(request, error, route)
        response.route = route.name
        reply(request, response)

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

    def refuse_connection(self, refusal: Exception) -> Response:
        """Answer what was no whole request."""
        return self._answer_error(None, refusal)

    def answered(self, request: Request | None, response: Response) -> None:
        """Note that an answer was written."""
        seconds = time.perf_counter() - request.started if request else 0.0
        self.metrics.count(response.route, response.status, seconds)

    def _answer_error(self, request: Request | None, error: Exception, route: Route | None = None) -> Response:
        headers = b""
        if isinstance(error, RequestRefused):
            status, code, message = status_of(error), error.code, str(error)
            if isinstance(error, MethodRefused):
                headers = b"allow: %b\r\n" % error.allowed.encode()
            elif status is HTTPStatus.SERVICE_UNAVAILABLE:
                headers = b"retry-after: 1\r\n"
        else:
            status, code, message = (
                HTTPStatus.INTERNAL_SERVER_ERROR,
                "internal",
                "this is a fault of the server; see its log",
            )
            trace = request.headers.get(b"x-cloud-trace-context", b"") if request else b""
            log(
                "ERROR",
                f"request failed: {error!r}",
                route=route.name if route else None,
                **{"logging.googleapis.com/trace": trace.partition(b"/")[0].decode("latin-1")},
            )
        google = route is not None and route.name == _FIND_NEIGHBORS
        body = format_error(status, message) if google else {"error": {"code": code, "message": message}}
        response = json_response(body, status, headers)
        response.route = route.name if route else "none"
        return response

    # the routes

    def _answer_similar(self, request: Request) -> ItemSearch:
        index = self._open().index
        search = self._parse_search(request.query)
        item = parse_item(request.path[len(_ITEM_HEAD) : -len(_ITEM_TAIL)])
        partitions = index.select(search.category)
        home, position = index.place(item)
        return ItemSearch(item, home, position, search.k, partitions)

    def _answer_items(self, request: Request) -> Response:
        index = self._open().index
        listing = parse_listing(request.query, self.limits)
        found = index.listed(listing.category, listing.after, listing.limit + 1)
        page = found[: listing.limit]
        return json_response(
            {
                "generation": self._config.generation,
                "items": [{"id": item, "category": category} for item, category in page],
                "next": page[-1][0] if len(found) > listing.limit else None,
            }
        )

    async def _answer_search(self, request: Request) -> Response:
        serving = self._open()
        search = self._parse_search(request.query)
        partitions = serving.index.select(search.category)
        vector = await serving.pictures.embed(parse_picture(request))
        found = neighbors(serving.index.nearest(vector, search.k, partitions), search.k)
        return json_body_response(search_json(self._config.generation, found))

    async def _answer_find_neighbors(self, request: Request) -> Response:
        index = self._open().index
        wanted = parse_find_neighbors(request.body, index, self.limits)
        answers: list[dict[str, Any]] = []
        for query in wanted.queries:
            if answers:
                await asyncio.sleep(0)  # others are waiting, the probes among them
            found = neighbors(index.nearest(query.vector, query.neighbors, query.partitions), query.neighbors)
            answers.append(format_neighbors(query, found, index, full=wanted.full))
        return json_response({"nearestNeighbors": answers})

    def _answer_status(self, request: Request) -> Response:
        parse_query(request.query, ())
        serving = self._open()
        index, model = serving.index.manifest, serving.model.manifest
        return json_response(
            {
                "generation": self._config.generation,
                "index_prefix": str(index.prefix),
                "index_digest": serving.index.digest,
                "index": index.prefix.index,
                "build": index.prefix.build,
                "created": index.created,
                "items": index.items,
                "dimensions": index.dimensions,
                "recall": {"at": index.recall.at, "value": index.recall.value},
                "categories": [{"category": p.category, "items": p.items} for p in index.partitions],
                "model": {
                    "prefix": str(model.prefix),
                    "digest": index.model.digest,
                    "input_size": model.input_size,
                },
                "item_image_url": self._config.item_image_url,
                "ready": self.ready,
            }
        )

    def _answer_ready(self, request: Request) -> Response:
        del request
        if not self.ready:
            raise NotReady(self._closed_because)
        return json_response({"ready": True, "generation": self._config.generation})

    def _answer_metrics(self, request: Request) -> Response:
        del request
        return Response(200, self.metrics.exposition(), b"content-type: text/plain; version=0.0.4; charset=utf-8\r\n")

    def _read(self) -> Reading:
        serving = self._serving
        return Reading(
            ready=self.ready,
            connections=len(self._connections),
            answering=self._connections.answering,
            pictures=serving.pictures.length if serving else 0,
            items=serving.index.manifest.items if serving else 0,
            labels={"generation": str(self._config.generation), "index_prefix": str(self._config.prefix)},
        )
