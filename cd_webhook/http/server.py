"""The listener: uvicorn, with bounds on what a stranger may cost."""

from __future__ import annotations

import asyncio
import socket
import time

import uvicorn
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from http_limits.budget import ByteBudget
from http_limits.limits import ConnectionLimits
from http_limits.listener import BACKLOG, affordable_connections, listen, raise_open_files
from http_limits.protocol import BoundedProtocol, keep_time
from http_limits.refusals import RequestRefused, Response
from model_repository.deployment import PAYLOAD_LIMIT

_MOST_CONNECTIONS = 1024
_LEAVE_SECONDS = 25
"""For requests that are being answered, once it was told to stop."""


class BoundedApplication:
    """An ASGI application, and what `BoundedProtocol` asks of it."""

    def __init__(self, app: ASGIApp, limits: ConnectionLimits) -> None:
        self.limits = limits
        self.now = time.monotonic()
        self.held = ByteBudget(limits.held_bytes)
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, as ASGI has it."""
        await self._app(scope, receive, send)

    def refuse(self, refusal: RequestRefused) -> Response:
        """See `http_limits.protocol.Application.refuse`: no verdict, so it has no `outcome`."""
        said = {"eventProcessed": False, "detail": str(refusal), "code": refusal.code}
        answer = JSONResponse(said, refusal.status)
        return Response(answer.status_code, bytes(answer.body), answer.raw_headers)


def serve(app: ASGIApp, host: str, port: int) -> None:
    """Serve until SIGTERM or SIGINT; then finish what is being answered. Raises OSError if the port is taken."""
    limits = ConnectionLimits(
        body_bytes=PAYLOAD_LIMIT, connections=affordable_connections(_MOST_CONNECTIONS, raise_open_files())
    )
    with listen(host, port) as listener:
        asyncio.run(_serve(BoundedApplication(app, limits), listener))


async def _serve(app: BoundedApplication, listener: socket.socket) -> None:
    config = uvicorn.Config(
        app,
        http=BoundedProtocol,
        loop="asyncio",
        ws="none",
        lifespan="on",
        interface="asgi3",
        log_level="warning",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=_LEAVE_SECONDS,
        backlog=BACKLOG,
    )
    server = uvicorn.Server(config)
    keeping_time = asyncio.create_task(keep_time(app, server.server_state))
    try:
        await server.serve([listener])
    finally:
        keeping_time.cancel()
