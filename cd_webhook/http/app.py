"""The door: Spinnaker's webhook contract, a status for people, and the probes. Thin on purpose."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import TypeVar

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from cd_webhook.check import Checked
from cd_webhook.delivery.deliver import Delivery, Rejected
from cd_webhook.delivery.watcher import Watcher
from cd_webhook.filters import Filters
from cd_webhook.http.auth import Check, Checks, NotAllowed, Unauthenticated
from cd_webhook.status import describe_all, describe_one, describe_rollouts
from cd_webhook.telemetry.metrics import Metrics
from model_repository import CONTRACT, __version__
from model_repository.deployment import PAYLOAD_LIMIT, AnswerOutcome, parse_payload
from model_repository.errors import DeliveryError, NameRefused, PermanentError, TransientError
from model_repository.names import check_label
from model_repository.telemetry.log import tracing

T = TypeVar("T")

_PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"

STATUS: tuple[tuple[type[Exception], HTTPStatus], ...] = (
    (Unauthenticated, HTTPStatus.UNAUTHORIZED),
    (NotAllowed, HTTPStatus.FORBIDDEN),
    (PermanentError, HTTPStatus.UNPROCESSABLE_ENTITY),
    (TransientError, HTTPStatus.SERVICE_UNAVAILABLE),
)
"""What each error becomes; the first that fits. A sender retries 5xx and nothing else."""


@dataclass(frozen=True, slots=True)
class Dependencies:
    """What the door opens to.

    project: of the traces that log lines link to; may be empty. may: who calls. checks: tries the set-up, see
    `check.check`.
    revision: the commit that this is made of; may be empty. pods: their namespace and service account, by a slash.
    """

    project: str
    may: Checks
    delivery: Delivery
    filters: Filters
    watcher: Watcher
    metrics: Metrics
    checks: Callable[[], list[Checked]]
    revision: str = ""
    pods: str = ""


def create_app(given: Dependencies) -> Starlette:
    """The application. It watches rollouts from its start to its end."""
    door = _Door(given)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        given.watcher.start()
        yield
        await run_in_threadpool(given.watcher.stop)

    return Starlette(
        lifespan=lifespan,
        routes=[
            Route("/webhooks/webhook/{source}", door.webhook, methods=["POST"]),
            Route("/v1/filters/{index}", door.filter, methods=["POST"]),
            Route("/v1/deployments", door.deployments),
            Route("/v1/deployments/{index}", door.deployment),
            Route("/v1/deployments/{index}", door.withdraw, methods=["DELETE"]),
            Route("/v1/rollouts", door.rollouts),
            Route("/v1/check", door.installation),
            Route("/livez", door.livez),
            Route("/readyz", door.readyz),
            Route("/metrics", door.metrics),
        ],
        exception_handlers={HTTPException: _no_such_door},
    )


class _Door:
    """The endpoints. Those that ask the cluster are plain functions, which Starlette calls on a thread."""

    def __init__(self, given: Dependencies) -> None:
        self._given = given
        self._delivery = given.delivery

    async def webhook(self, request: Request) -> Response:
        with tracing({}, request.headers, self._given.project):
            # Before a byte of the body is read: nobody makes us keep what a stranger sends.
            caller = await run_in_threadpool(self._guarded, request, lambda: self._check(request, self._given.may.call))
            if isinstance(caller, JSONResponse):
                caller.headers["connection"] = "close"
                return caller
            body = bytearray()
            try:
                async for chunk in request.stream():
                    body += chunk
                    if len(body) > PAYLOAD_LIMIT:
                        break  # `parse_payload` says so
            except ClientDisconnect:
                return Response(status_code=HTTPStatus.BAD_REQUEST)  # which nobody reads
            return await run_in_threadpool(self._guarded, request, lambda: self._deliver(request, caller, bytes(body)))

    def filter(self, request: Request) -> Response:
        with tracing({}, request.headers, self._given.project):
            return self._guarded(request, lambda: self._apply_filter(request))

    def withdraw(self, request: Request) -> Response:
        with tracing({}, request.headers, self._given.project):
            return self._guarded(request, lambda: self._withdraw(request))

    def deployments(self, request: Request) -> Response:
        return self._guarded(request, lambda: self._all_deployments(request))

    def deployment(self, request: Request) -> Response:
        return self._guarded(request, lambda: self._one_deployment(request))

    def rollouts(self, request: Request) -> Response:
        return self._guarded(request, lambda: self._all_rollouts(request))

    def installation(self, request: Request) -> Response:
        return self._guarded(request, lambda: self._say_what_is_wrong(request))

    async def livez(self, _: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def readyz(self, _: Request) -> Response:
        if self._given.watcher.swept:
            return PlainTextResponse("ok\n")
        return PlainTextResponse("the cluster has not answered yet\n", HTTPStatus.SERVICE_UNAVAILABLE)

    async def metrics(self, _: Request) -> Response:
        return Response(self._given.metrics.text(self._given.watcher.watching), media_type=_PROMETHEUS)

    def _check(self, request: Request, check: Check) -> str:
        """The caller's name; raises as `Check` does."""
        return check(request.headers.get("authorization", ""))

    def _guarded(self, request: Request, act: Callable[[], T]) -> T | JSONResponse:
        """Act, and turn whatever is raised into an answer."""
        try:
            return act()
        except DeliveryError as error:
            return self._failure(request, error)
        except Exception as error:  # noqa: BLE001 - the sender must learn that it was not done
            self._delivery.log.crash(f"{request.url.path}: {error!r}", error)
            said = {"detail": "unexpected; the log says more"}
            return _answer(HTTPStatus.INTERNAL_SERVER_ERROR, said, processed=False)

    def _deliver(self, http: Request, caller: str, body: bytes) -> JSONResponse:
        # Who asks is known by the header. The body has it for a Spinnaker, which shows its pipeline no header.
        request = replace(parse_payload(body), traceparent="")
        result = self._delivery.deliver(request)
        outcome = result.outcome.value
        if result.outcome is not AnswerOutcome.SUPERSEDED:
            self._given.watcher.watch(request.target.index)
        self._given.metrics.delivered(outcome)
        self._delivery.log.info(
            f"{request.target} commit {request.generation}: {outcome}: {result.detail}",
            source=http.path_params["source"][:100],
            caller=caller,
            index=request.target.index,
            generation=str(request.generation),
            outcome=outcome,
        )
        return _answer(HTTPStatus.OK, {"outcome": outcome, "detail": result.detail}, processed=True)

    def _apply_filter(self, request: Request) -> JSONResponse:
        self._check(request, self._given.may.call)
        index = check_label("index", request.path_params["index"])
        receipt = self._given.filters.apply(index)
        if receipt is None:
            said = {"outcome": "none", "detail": f"no filter stands for {index} in the bucket"}
        else:
            said = {"outcome": receipt.outcome.value, "detail": receipt.detail}
        return _answer(HTTPStatus.OK, said, processed=True)

    def _withdraw(self, request: Request) -> JSONResponse:
        self._check(request, self._given.may.call)
        detail = self._delivery.withdraw(check_label("index", request.path_params["index"]))
        return _answer(HTTPStatus.OK, {"detail": detail}, processed=True)

    def _all_deployments(self, request: Request) -> JSONResponse:
        self._check(request, self._given.may.call)  # it counts as a sweep
        it = self._delivery
        described = describe_all(it.cluster, it.environment)
        self._given.metrics.swept()
        return JSONResponse({"deployments": described})

    def _one_deployment(self, request: Request) -> JSONResponse:
        self._check(request, self._given.may.look)
        it, index = self._delivery, request.path_params["index"]
        try:
            found = describe_one(it.cluster, it.environment, check_label("index", index))
        except NameRefused:
            found = None
        if found is None:
            said = f"no index {index[:80]!r} here; /v1/deployments lists them"
            return JSONResponse({"detail": said}, HTTPStatus.NOT_FOUND)
        return JSONResponse(found)

    def _all_rollouts(self, request: Request) -> JSONResponse:
        # people's boards ask every few seconds: no sweep, which is what `/v1/deployments` counts as
        self._check(request, self._given.may.look)
        it = self._delivery
        found = describe_rollouts(it.cluster, it.clock.now(), it.canaries.figures)
        return JSONResponse({"environment": it.environment, "rollouts": found})

    def _say_what_is_wrong(self, request: Request) -> JSONResponse:
        self._check(request, self._given.may.look)
        it = self._delivery
        checks = [{"what": each.what, "ok": each.ok, "text": each.text} for each in self._given.checks()]
        said = {
            "version": __version__,
            "revision": self._given.revision,
            "contract": CONTRACT,
            "pods": self._given.pods,
        }
        return JSONResponse(said | {"environment": it.environment, "bucket": it.store.bucket, "checks": checks})

    def _failure(self, request: Request, error: DeliveryError) -> JSONResponse:
        status, said = refusal(error)
        permanent = isinstance(error, PermanentError)
        if request.method == "POST":
            refused = AnswerOutcome.REJECTED.value if isinstance(error, Rejected) else "refused"
            self._given.metrics.delivered(refused if permanent else "try-again")
        severity = "ERROR" if permanent else "WARNING"
        self._delivery.log.line(severity, f"{request.url.path}: {error}", code=said["code"], status=int(status))
        return _answer(status, said, processed=False)


def refusal(error: DeliveryError) -> tuple[HTTPStatus, dict[str, str]]:
    """What a sender is told in place of yes. Only what says `outcome: rejected` is a verdict on the commit."""
    status = next(status for family, status in STATUS if isinstance(error, family))
    if isinstance(error, Rejected):
        return status, {"outcome": AnswerOutcome.REJECTED.value, "detail": str(error), "code": error.why.code}
    return status, {"detail": str(error), "code": error.code}


def _answer(status: HTTPStatus, said: dict[str, str], *, processed: bool) -> JSONResponse:
    return JSONResponse({"eventProcessed": processed, "eventId": str(uuid.uuid4()), **said}, status)


def _no_such_door(_: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else HTTPStatus.INTERNAL_SERVER_ERROR
    return JSONResponse({"detail": HTTPStatus(status).phrase}, status)
