"""The cluster's HTTP API: JSON, objects shaped as Kubernetes shapes them, errors as its Status objects."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from local_stack.cluster.cluster import Cluster, ObjectChanged, ObjectUnknown
from local_stack.cluster.manifest import ManifestRefused

_LONGEST_WAIT = 300.0
_BODY_LIMIT = 1024 * 1024
_REASONS = {400: "BadRequest", 404: "NotFound", 409: "Conflict", 422: "Invalid"}


class _Malformed(Exception):
    """The request isn't what the API takes."""


def application(cluster: Cluster) -> Starlette:  # noqa: C901 - one function for each route
    """The API of `cluster`."""

    async def ready(_request: Request) -> Response:
        return PlainTextResponse("ok")

    async def deployments(_request: Request) -> Response:
        return JSONResponse({"items": [found.manifest() for found in cluster.deployments.values()]})

    async def deployment(request: Request) -> Response:
        return JSONResponse(cluster.deployment(request.path_params["name"]).manifest())

    async def delete(request: Request) -> Response:
        return JSONResponse(cluster.delete(request.path_params["name"], _version(request)))

    async def pods(request: Request) -> Response:
        found = cluster.deployment(request.path_params["name"]).pods
        return JSONResponse({"items": [pod.manifest() for pod in found if not pod.finished]})

    async def changes(request: Request) -> Response:
        since, timeout = request.query_params.get("resourceVersion", "0"), request.query_params.get("timeout", "30")
        try:
            version, names = await cluster.changes(int(since), min(_LONGEST_WAIT, float(timeout)))
        except ValueError:
            raise _Malformed("resourceVersion, timeout: expected numbers") from None
        return JSONResponse({"resourceVersion": str(version), "deployments": names})

    async def all_pods(_request: Request) -> Response:
        return JSONResponse({"items": [pod.manifest() for pod in cluster.pods() if not pod.finished]})

    async def services(_request: Request) -> Response:
        return JSONResponse({"items": [found.manifest() for found in cluster.services.values()]})

    async def service(request: Request) -> Response:
        return JSONResponse(cluster.service(request.path_params["name"]).manifest())

    async def apply(request: Request) -> Response:
        data = await request.body()
        try:
            manifest = json.loads(data) if len(data) <= _BODY_LIMIT else None
        except ValueError:
            manifest = None
        if manifest is None:
            raise _Malformed(f"expected a manifest in JSON, of at most {_BODY_LIMIT} bytes")
        return JSONResponse(await cluster.apply(manifest, _version(request)))

    async def logs(request: Request) -> Response:
        path = cluster.log_file(request.path_params["name"], request.query_params.get("container"))
        return PlainTextResponse(path.read_text(errors="replace"))

    async def events(request: Request) -> Response:
        wanted = request.query_params.get("deployment")
        return JSONResponse({"items": [one for one in cluster.node.events if wanted in (None, one["deployment"])]})

    return Starlette(
        routes=[
            Route("/readyz", ready),
            Route("/deployments", deployments),
            Route("/deployments/{name}", deployment),
            Route("/deployments/{name}", delete, methods=["DELETE"]),
            Route("/deployments/{name}/pods", pods),
            Route("/changes", changes),
            Route("/pods", all_pods),
            Route("/services", services),
            Route("/services/{name}", service),
            Route("/apply", apply, methods=["PATCH"]),
            Route("/pods/{name}/logs", logs),
            Route("/events", events),
        ],
        exception_handlers={
            _Malformed: _answering(400),
            ObjectUnknown: _answering(404),
            ObjectChanged: _answering(409),
            ManifestRefused: _answering(422),
        },
    )


def _version(request: Request) -> str | None:
    return request.query_params.get("resourceVersion") or None


def _answering(status: int) -> Callable[[Request, Exception], Awaitable[Response]]:
    async def answer(_request: Request, error: Exception) -> Response:
        body = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": status}
        body |= {"reason": _REASONS[status], "message": str(error)}
        if isinstance(error, ManifestRefused):
            causes = [{"reason": "FieldValueInvalid", "field": error.field, "message": str(error)}]
            return JSONResponse({**body, "details": {"causes": causes}}, status_code=status)
        return JSONResponse(body, status_code=status)

    return answer
