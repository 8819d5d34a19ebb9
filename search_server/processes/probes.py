"""The probes: asked of a port of their own, which the supervisor serves, or of any worker. All answer for the pod."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any

import orjson

from http_limits.budget import ByteBudget
from http_limits.limits import ConnectionLimits
from http_limits.refusals import RequestRefused, Response
from search_server.config import Config
from search_server.errors import NotReady
from search_server.filters.keeper import FilterKeeper, FilterUnavailable
from search_server.metrics import Serving, exposition, read_pull
from search_server.processes.pod import PodState

_LIMITS = ConnectionLimits(body_bytes=4096, held_bytes=2**20, connections=64, idle_seconds=75)
_ROUTES = {b"/livez": "livez", b"/readyz": "readyz", b"/metrics": "metrics"}
_JSON = (b"content-type", b"application/json")
_NO_STORE = (b"cache-control", b"no-store")


class Probes:
    """Answers /livez, /readyz and /metrics. alive: whether every worker shows signs of life."""

    def __init__(self, pod: PodState, config: Config, alive: Callable[[], bool] = lambda: True) -> None:
        self._pod = pod
        self._alive = alive
        self._generation = config.generation
        self._serving = Serving(config.prefix, config.generation, read_pull(config.pull_figures))

    def live(self) -> Response:
        """Whether a restart would help: no."""
        if self._alive():
            return _json(HTTPStatus.OK, {"live": True})
        return _json(HTTPStatus.SERVICE_UNAVAILABLE, _error("not-live", "a worker hangs, and can't be ended"))

    def ready(self) -> Response:
        """Whether requests should be sent here, and if not, why."""
        because = self._pod.closed_because
        if because is None:
            return _json(HTTPStatus.OK, {"ready": True, "generation": self._generation})
        return _json(HTTPStatus.SERVICE_UNAVAILABLE, _error(NotReady.code, because), (b"retry-after", b"1"))

    def metrics(self) -> Response:
        """The pod's metrics."""
        kind = (b"content-type", b"text/plain; version=0.0.4; charset=utf-8")
        return _response(HTTPStatus.OK, exposition(self._pod, self._serving), kind, _NO_STORE)


class ProbeApplication:
    """The application behind the probes' port. It touches nothing but shared memory, so it is never late."""

    limits = _LIMITS

    def __init__(self, probes: Probes, pod: PodState, filters: FilterKeeper) -> None:
        self._filters = filters
        self.now = time.monotonic()
        self.held = ByteBudget(_LIMITS.held_bytes)
        self._counters = pod.supervisor.counters
        self._answers = {"livez": probes.live, "readyz": probes.ready, "metrics": probes.metrics}

    async def __call__(
        self,
        scope: dict[str, Any],
        receive: Callable[[], Awaitable[dict[str, Any]]],
        send: Callable[[dict[str, Any]], Awaitable[None]],
    ) -> None:
        """Answer a request, as ASGI has it."""
        begun = time.perf_counter()
        route = _ROUTES.get(scope["raw_path"])
        if scope["raw_path"] == b"/v1/filter" and scope["method"] == "POST":
            route, answer = "filter", await self._look_at_filter(receive)
        elif route is None:
            answer = _json(
                HTTPStatus.NOT_FOUND, _error("route-unknown", "here are /livez, /readyz, /metrics and /v1/filter")
            )
        elif scope["method"] not in ("GET", "HEAD"):
            answer = _json(HTTPStatus.METHOD_NOT_ALLOWED, _error("method-refused", "use GET"), (b"allow", b"GET"))
        else:
            answer = self._answers[route]()
        await send({"type": "http.response.start", "status": answer.status, "headers": answer.headers})
        await send({"type": "http.response.body", "body": answer.body})
        self._counters.count(route or "none", answer.status, time.perf_counter() - begun)

    async def _look_at_filter(self, receive: Callable[[], Awaitable[dict[str, Any]]]) -> Response:
        """Have the live filter in force: somebody says that there is another one."""
        body, more = bytearray(), True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        try:
            told = orjson.loads(body)["generation"]
            generation = await self._filters.refresh(told if isinstance(told, int) else 0)
        except (ValueError, KeyError, TypeError):
            return _json(HTTPStatus.BAD_REQUEST, _error("body-malformed", 'say {"generation": 5}'))
        except FilterUnavailable as error:
            return _json(HTTPStatus.SERVICE_UNAVAILABLE, _error(error.code, str(error)))
        return _json(HTTPStatus.OK, {"generation": generation})

    def refuse(self, refusal: RequestRefused) -> Response:
        """The answer to what was no whole request."""
        return _json(refusal.status, _error(refusal.code, str(refusal)))


def _error(code: str, message: str) -> dict[str, Any]:
    return {"error": {"code": code, "message": message}}


def _json(status: int, value: object, *headers: tuple[bytes, bytes]) -> Response:
    return _response(status, orjson.dumps(value), _JSON, _NO_STORE, *headers)


def _response(status: int, body: bytes, *headers: tuple[bytes, bytes]) -> Response:
    return Response(status, body, [*headers, (b"content-length", b"%d" % len(body))])
