"""The cluster's HTTP API: JSON, objects shaped as Kubernetes shapes them, errors as its Status objects."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from local_stack.cluster.cluster import Cluster, ObjectChanged, ObjectUnknown
from local_stack.cluster.fields import ManifestRefused
from local_stack.cluster.specification import Json

_LONGEST_WAIT = 300.0
_BODY_LIMIT = 1024 * 1024

_REASONS = {400: "BadRequest", 404: "NotFound", 409: "Conflict", 413: "RequestEntityTooLarge", 422: "Invalid"}


def application(cluster: Cluster) -> Starlette:
    """The API of `cluster`."""
    api = _Api(cluster)
    return Starlette(
        routes=[
            Route("/readyz", api.ready),
            Route("/deployments", api.deployments),
            Route("/deployments/{name}", api.deployment),
            Route("/deployments/{name}", api.delete, methods=["DELETE"]),
            Route("/deployments/{name}/pods", api.pods),
            Route("/deployments/{name}/wait", api.wait),
            Route("/deployments/{name}/scale", api.scale, methods=["PUT"]),
            Route("/services/{name}", api.service),
            Route("/apply", api.apply, methods=["PATCH"]),
            Route("/pods/{name}/logs", api.logs),
            Route("/events", api.events),
        ],
        exception_handlers={
            ObjectUnknown: _answering(404),
            ObjectChanged: _answering(409),
            ManifestRefused: _answering(422),
            _NotJson: _answering(400),
        },
    )


class _Api:
    """The requests, one method each."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    async def ready(self, _request: Request) -> Response:
        return PlainTextResponse("ok")

    async def deployments(self, request: Request) -> Response:
        selector = request.query_params.get("labelSelector", "")
        labels = dict(pair.split("=", 1) for pair in selector.split(",") if "=" in pair)
        return JSONResponse({"items": [found.manifest() for found in self._cluster.deployments(labels)]})

    async def deployment(self, request: Request) -> Response:
        return JSONResponse(self._cluster.deployment(request.path_params["name"]).manifest())

    async def delete(self, request: Request) -> Response:
        version = request.query_params.get("resourceVersion") or None
        return JSONResponse(self._cluster.delete(request.path_params["name"], version))

    async def pods(self, request: Request) -> Response:
        found = self._cluster.deployment(request.path_params["name"]).pods
        return JSONResponse({"items": [pod.manifest() for pod in found if not pod.finished]})

    async def wait(self, request: Request) -> Response:
        try:
            timeout = min(_LONGEST_WAIT, float(request.query_params.get("timeout", "30")))
        except ValueError:
            return _failure(400, "timeout: expected seconds")
        since = request.query_params.get("resourceVersion", "")
        return JSONResponse({"resourceVersion": await self._cluster.wait(request.path_params["name"], since, timeout)})

    async def scale(self, request: Request) -> Response:
        replicas = (await _body(request)).get("replicas")
        if type(replicas) is not int or replicas < 0:
            raise ManifestRefused("replicas", "expected a whole number, at least 0")
        found = self._cluster.deployment(request.path_params["name"])
        found.scale(replicas)
        return JSONResponse(found.manifest())

    async def service(self, request: Request) -> Response:
        return JSONResponse(self._cluster.service(request.path_params["name"]).manifest())

    async def apply(self, request: Request) -> Response:
        version = request.query_params.get("resourceVersion") or None
        return JSONResponse(await self._cluster.apply(await _body(request), version))

    async def logs(self, request: Request) -> Response:
        path = self._cluster.log_file(request.path_params["name"], request.query_params.get("container"))
        return PlainTextResponse(path.read_text(errors="replace") if path.exists() else "")

    async def events(self, request: Request) -> Response:
        wanted = request.query_params.get("deployment")
        recorded = self._cluster.node.events
        return JSONResponse({"items": [event for event in recorded if wanted in (None, event["deployment"])]})


class _NotJson(Exception):
    """The body isn't a JSON object."""


async def _body(request: Request) -> Json:
    data = await request.body()
    if len(data) > _BODY_LIMIT:
        raise _NotJson(f"the body has more than {_BODY_LIMIT} bytes")
    try:
        body = json.loads(data)
    except ValueError as error:
        raise _NotJson(f"the body isn't JSON: {error}") from None
    if not isinstance(body, dict):
        raise _NotJson("the body isn't a JSON object")
    return body


def _answering(status: int) -> Callable[[Request, Exception], Awaitable[Response]]:
    async def answer(_request: Request, error: Exception) -> Response:
        field = error.field if isinstance(error, ManifestRefused) else ""
        return _failure(status, str(error), field)

    return answer


def _failure(status: int, message: str, field: str = "") -> Response:
    body: Json = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": status}
    body |= {"reason": _REASONS[status], "message": message}
    if field:
        body["details"] = {"causes": [{"reason": "FieldValueInvalid", "field": field, "message": message}]}
    return JSONResponse(body, status_code=status)
