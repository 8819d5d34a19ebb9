"""The cluster's HTTP API: JSON, objects shaped as Kubernetes shapes them, errors as its Status objects."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from local_stack.cluster.cluster import Cluster, ObjectChanged, ObjectUnknown
from local_stack.cluster.deployment import Deployment
from local_stack.cluster.manifest import Json, ManifestRefused, read_manifest
from local_stack.cluster.pod import Pod
from local_stack.cluster.service import Service

_LONGEST_WAIT = 300.0
_BODY_LIMIT = 1024 * 1024


class _Malformed(Exception):
    """The request isn't what the API takes."""


_STATUSES = {
    _Malformed: (400, "BadRequest"),
    ObjectUnknown: (404, "NotFound"),
    ObjectChanged: (409, "Conflict"),
    ManifestRefused: (422, "Invalid"),
}


def application(cluster: Cluster) -> Starlette:
    """The API of `cluster`."""

    async def delete(request: Request) -> Response:
        return JSONResponse(cluster.delete(_name(request), _version(request)))

    async def changes(request: Request) -> Response:
        since, timeout = request.query_params.get("resourceVersion", "0"), request.query_params.get("timeout", "30")
        try:
            version, names = await cluster.changes(int(since), min(_LONGEST_WAIT, float(timeout)))
        except ValueError:
            raise _Malformed("resourceVersion, timeout: expected numbers") from None
        return JSONResponse({"resourceVersion": str(version), "deployments": names})

    async def apply(request: Request) -> Response:
        data = await request.body()
        try:
            manifest = json.loads(data) if len(data) <= _BODY_LIMIT else None
        except ValueError:
            manifest = None
        if manifest is None:
            raise _Malformed(f"expected a manifest in JSON, of at most {_BODY_LIMIT} bytes")
        if request.query_params.get("dryRun") == "All":
            return JSONResponse(read_manifest(manifest))
        return JSONResponse(await cluster.apply(manifest, _version(request)))

    def events(request: Request) -> Json:
        wanted = request.query_params.get("deployment")
        return {"items": [one for one in cluster.node.events if wanted in (None, one["deployment"])]}

    return Starlette(
        routes=[
            _get("/readyz", lambda _request: {}),
            _get("/deployments", lambda _request: _items(cluster.deployments.values())),
            _get("/deployments/{name}", lambda request: cluster.deployment(_name(request)).manifest()),
            _get("/deployments/{name}/pods", lambda request: _items(cluster.deployment(_name(request)).pods)),
            _get("/pods", lambda _request: _items(cluster.pods())),
            _get("/services", lambda _request: _items(cluster.services.values())),
            _get("/services/{name}", lambda request: cluster.service(_name(request)).manifest()),
            _get("/events", events),
            Route("/deployments/{name}", delete, methods=["DELETE"]),
            Route("/changes", changes),
            Route("/apply", apply, methods=["PATCH"]),
        ],
        exception_handlers=dict.fromkeys(_STATUSES, _refuse),
    )


def _get(path: str, answer: Callable[[Request], Json]) -> Route:
    async def endpoint(request: Request) -> Response:
        return JSONResponse(answer(request))

    return Route(path, endpoint)


def _items(found: Iterable[Deployment | Service | Pod]) -> Json:
    return {"items": [one.manifest() for one in found]}


def _name(request: Request) -> str:
    name: str = request.path_params["name"]
    return name


def _version(request: Request) -> str | None:
    return request.query_params.get("resourceVersion") or None


async def _refuse(_request: Request, error: Exception) -> Response:
    status, reason = _STATUSES[type(error)]
    body: Json = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": status, "reason": reason}
    body["message"] = str(error)
    if isinstance(error, ManifestRefused):
        causes = [{"reason": "FieldValueInvalid", "field": error.field, "message": str(error)}]
        body["details"] = {"causes": causes}
    return JSONResponse(body, status_code=status)
