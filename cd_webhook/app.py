"""The door: Spinnaker's webhook contract, a status for people, and the probes. Thin on purpose."""

from __future__ import annotations

import traceback
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool

from cd_webhook.auth import Check, NotAllowed, Unauthenticated
from cd_webhook.cluster import Cluster, name_of
from cd_webhook.deliver import Answer, Clock, Delivery
from cd_webhook.log import Log, tracing
from cd_webhook.metrics import Metrics
from cd_webhook.status import describe
from cd_webhook.watcher import Watcher
from manifests.metadata import canary_name, is_canary
from model_repository.deployment import AnswerOutcome, DeploymentRequest
from model_repository.errors import DeliveryError, DocumentMalformed, NameRefused, PermanentError, TransientError
from model_repository.fields import parse_document
from model_repository.names import check_label

_BODY_LIMIT = 64 * 1024
_PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"

STATUS: tuple[tuple[type[DeliveryError], HTTPStatus], ...] = (
    (Unauthenticated, HTTPStatus.UNAUTHORIZED),
    (NotAllowed, HTTPStatus.FORBIDDEN),
    (PermanentError, HTTPStatus.UNPROCESSABLE_ENTITY),
    (TransientError, HTTPStatus.SERVICE_UNAVAILABLE),
)
"""What each error becomes; the first that fits. A sender retries 5xx and nothing else."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What the door opens to."""

    environment: str
    project: str
    check: Check
    delivery: Delivery
    watcher: Watcher
    cluster: Cluster
    clock: Clock
    metrics: Metrics
    log: Log


def create_app(parts: Parts) -> FastAPI:
    """The application. It watches rollouts from its start to its end."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        parts.watcher.start()
        yield
        await run_in_threadpool(parts.watcher.stop)

    app = FastAPI(title="indexpush CD webhook", lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)

    @app.exception_handler(DeliveryError)
    async def failed(request: Request, error: DeliveryError) -> JSONResponse:
        return _failure(parts, request, error)

    @app.post("/webhooks/webhook/{source}")
    async def webhook(source: str, request: Request) -> JSONResponse:
        with tracing(_trace(request, parts.project)):
            body = await _body(request)
            return await run_in_threadpool(_guarded, parts, request, lambda: _deliver(parts, source, body))

    @app.get("/v1/deployments")
    async def deployments(request: Request) -> JSONResponse:
        return await run_in_threadpool(_guarded, parts, request, lambda: _all_deployments(parts))

    @app.get("/v1/deployments/{index}")
    async def deployment(index: str, request: Request) -> JSONResponse:
        return await run_in_threadpool(_guarded, parts, request, lambda: _one_deployment(parts, index))

    @app.get("/livez")
    async def livez() -> Response:
        return Response("ok\n", media_type="text/plain")

    @app.get("/readyz")
    async def readyz() -> Response:
        if parts.watcher.swept:
            return Response("ok\n", media_type="text/plain")
        return Response("the cluster has not answered yet\n", HTTPStatus.SERVICE_UNAVAILABLE, media_type="text/plain")

    @app.get("/metrics")
    async def metrics() -> Response:
        return Response(parts.metrics.text(parts.watcher.watching), media_type=_PROMETHEUS)

    return app


def _guarded(parts: Parts, request: Request, act: Callable[[], JSONResponse]) -> JSONResponse:
    """Check the caller, act, and turn whatever happens into an answer."""
    try:
        parts.check(request.headers.get("authorization", ""))
        return act()
    except DeliveryError as error:
        return _failure(parts, request, error)
    except Exception as error:  # noqa: BLE001 - the sender must learn that it was not done
        parts.log.line("ERROR", f"{request.url.path}: {error!r}", traceback=traceback.format_exc())
        return _answer(HTTPStatus.INTERNAL_SERVER_ERROR, {"detail": "unexpected; the log says more"}, processed=False)


def _deliver(parts: Parts, source: str, body: bytes) -> JSONResponse:
    request = parse_webhook(body)
    answer = parts.delivery.deliver(request)
    if answer.outcome in {AnswerOutcome.ACCEPTED, AnswerOutcome.ALREADY_DEPLOYED}:
        parts.watcher.watch(request.target.index)
    parts.metrics.delivered(answer.outcome.value)
    parts.log.line(
        "INFO",
        f"{request.target} commit {request.generation}: {answer.outcome.value}: {answer.detail}",
        source=source[:100],
        index=request.target.index,
        generation=str(request.generation),
        outcome=answer.outcome.value,
    )
    return _answer(HTTPStatus.OK, _said(answer), processed=True)


def parse_webhook(body: bytes) -> DeploymentRequest:
    """Read the body of a webhook; raises `DocumentMalformed`.

    Of the artifacts only the reference counts, as in Spinnaker, and it must name what the parameters name; so must
    environment and index at the top, by which a Spinnaker chooses its pipeline.
    """
    document = parse_document(body, "the request", limit=_BODY_LIMIT)
    request = DeploymentRequest.from_parameters(document.strings("parameters"))
    for field, said in (("environment", request.target.environment), ("index", request.target.index)):
        if document.has(field) and document.text(field) != said:
            raise DocumentMalformed("the request", f"{field}: expected {said!r}, as the parameters say")
    expected = request.to_payload()["artifacts"][0]["reference"]
    artifacts = document.objects("artifacts", most=10) if document.has("artifacts") else []
    if any(artifact.text("reference", longest=2000) != expected for artifact in artifacts):
        raise DocumentMalformed("the request", f"artifacts: expected {expected}, as the parameters say")
    document.done()
    return request


def _all_deployments(parts: Parts) -> JSONResponse:
    found = [_described(parts, live) for live in parts.cluster.deployments() if not is_canary(name_of(live))]
    return JSONResponse({"deployments": found})


def _one_deployment(parts: Parts, index: str) -> JSONResponse:
    try:
        live = parts.cluster.deployment(check_label("index", index))
    except NameRefused:
        live = None
    if live is None:
        said = f"no index {index[:80]!r} here; /v1/deployments lists them"
        return JSONResponse({"detail": said}, HTTPStatus.NOT_FOUND)
    return JSONResponse(_described(parts, live))


def _described(parts: Parts, live: dict[str, Any]) -> dict[str, Any]:
    canary = canary_name(name_of(live))
    pods = [*parts.cluster.pods(name_of(live)), *parts.cluster.pods(canary)]
    return describe(parts.environment, live, parts.cluster.deployment(canary), pods, parts.clock.now())


def _failure(parts: Parts, request: Request, error: DeliveryError) -> JSONResponse:
    status = next(status for family, status in STATUS if isinstance(error, family))
    permanent = isinstance(error, PermanentError)
    if request.method == "POST":
        parts.metrics.delivered(AnswerOutcome.REJECTED.value if permanent else "try-again")
    severity = "ERROR" if permanent else "WARNING"
    parts.log.line(severity, f"{request.url.path}: {error}", code=error.code, status=int(status))
    said = {"detail": str(error), "code": error.code}
    if permanent:
        said = {"outcome": AnswerOutcome.REJECTED.value, **said}
    return _answer(status, said, processed=False)


def _said(answer: Answer) -> dict[str, str]:
    return {"outcome": answer.outcome.value, "detail": answer.detail}


def _answer(status: HTTPStatus, said: dict[str, str], *, processed: bool) -> JSONResponse:
    return JSONResponse({"eventProcessed": processed, "eventId": str(uuid.uuid4()), **said}, status)


async def _body(request: Request) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > _BODY_LIMIT:
            raise DocumentMalformed("the request", f"more than the {_BODY_LIMIT} bytes allowed")
    return bytes(body)


def _trace(request: Request, project: str) -> str:
    parent = request.headers.get("traceparent", "").split("-")
    trace = parent[1] if len(parent) > 1 else request.headers.get("x-cloud-trace-context", "").split("/")[0]
    trace = trace[:64] if trace.isascii() and trace.isalnum() else ""
    return f"projects/{project}/traces/{trace}" if trace and project else trace
