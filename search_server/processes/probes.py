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
from search_server.http.responses import NO_STORE, error_response, json_response, response
from search_server.metrics import exposition, read_pull
from search_server.processes.pod import PodState

_LIMITS = ConnectionLimits(body_bytes=4096, held_bytes=2**20, connections=64, idle_seconds=75)


class Probes:
    """Answers /livez, /readyz and /metrics. alive: whether every worker shows signs of life."""

    def __init__(self, pod: PodState, config: Config, alive: Callable[[], bool] = lambda: True) -> None:
        self._pod = pod
        self._alive = alive
        self._config = config
        self._pull = read_pull(config.pull_figures)

    def live(self) -> Response:
        """Whether a restart would help: no."""
        if self._alive():
            return json_response({"live": True})
        return error_response(HTTPStatus.SERVICE_UNAVAILABLE, "not-live", "a worker hangs, and can't be ended")

    def ready(self) -> Response:
        """Whether requests should be sent here, and if not, why."""
        because = self._pod.closed_because
        if because is None:
            return json_response({"ready": True, "generation": self._config.generation})
        return error_response(HTTPStatus.SERVICE_UNAVAILABLE, NotReady.code, because, (b"retry-after", b"1"))

    def metrics(self) -> Response:
        """The pod's metrics."""
        kind = (b"content-type", b"text/plain; version=0.0.4; charset=utf-8")
        said = exposition(self._pod, self._config.prefix, self._config.generation, self._pull)
        return response(HTTPStatus.OK, said, kind, NO_STORE)


class ProbeApplication:
    """The application behind the probes' port. It touches nothing but shared memory, so it is never late."""

    limits = _LIMITS

    def __init__(self, probes: Probes, pod: PodState, filters: FilterKeeper) -> None:
        self._filters = filters
        self.now = time.monotonic()
        self.held = ByteBudget(_LIMITS.held_bytes)
        self._counters = pod.supervisor.counters
        self._answers = {b"/livez": probes.live, b"/readyz": probes.ready, b"/metrics": probes.metrics}

    async def __call__(
        self,
        scope: dict[str, Any],
        receive: Callable[[], Awaitable[dict[str, Any]]],
        send: Callable[[dict[str, Any]], Awaitable[None]],
    ) -> None:
        """Answer a request, as ASGI has it."""
        begun = time.perf_counter()
        path: bytes = scope["raw_path"]
        route = path.decode()[1:] if path in self._answers else "none"
        if path == b"/v1/filter" and scope["method"] == "POST":
            route, answer = "filter", await self._look_at_filter(receive)
        elif path not in self._answers:
            known = "here are /livez, /readyz, /metrics and /v1/filter"
            answer = error_response(HTTPStatus.NOT_FOUND, "route-unknown", known)
        elif scope["method"] not in ("GET", "HEAD"):
            answer = error_response(HTTPStatus.METHOD_NOT_ALLOWED, "method-refused", "use GET", (b"allow", b"GET"))
        else:
            answer = self._answers[path]()
        await send({"type": "http.response.start", "status": answer.status, "headers": answer.headers})
        await send({"type": "http.response.body", "body": answer.body})
        self._counters.count(route, answer.status, time.perf_counter() - begun)

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
            return error_response(HTTPStatus.BAD_REQUEST, "body-malformed", 'say {"generation": 5}')
        except FilterUnavailable as error:
            return error_response(HTTPStatus.SERVICE_UNAVAILABLE, error.code, str(error))
        return json_response({"generation": generation})

    def refuse(self, refusal: RequestRefused) -> Response:
        """The answer to what was no whole request."""
        return error_response(refusal.status, refusal.code, str(refusal))
