"""uvicorn, with our bounds, as the supervisor and its workers run it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import uvicorn

from http_limits.protocol import Application, BoundedProtocol, connections_of, keep_time, settle
from search_server.config import Config

BACKLOG = 1024
"""Connections that wait to be accepted."""
_OWING_SECONDS = 33
"""For what was asked before the end of the drain: longer than a body may take, or an answer that isn't read."""
_LEAVE_SECONDS = 4
"""After the listener is closed: longer than a client may take to close after we did. With the above less than the 40
that a pod's grace has besides its drain."""


class Server(uvicorn.Server):
    """uvicorn, but a signal asks us instead of ending it, and its connections are bounded."""

    def __init__(self, config: Config, app: Any, stop: Callable[[], object]) -> None:  # noqa: ANN401 - ASGI and Application
        super().__init__(
            uvicorn.Config(
                app,
                http=BoundedProtocol,
                ws="none",
                lifespan="off",
                interface="asgi3",
                log_config=None,
                log_level="critical",  # what is wrong with a request is in its answer, and in our log
                access_log=False,
                proxy_headers=False,
                server_header=False,
                timeout_graceful_shutdown=_LEAVE_SECONDS,
                backlog=BACKLOG,
                headers=[
                    ("x-indexpush-generation", str(config.generation)),
                    ("x-indexpush-prefix", str(config.prefix)),
                    ("x-content-type-options", "nosniff"),
                ],
            )
        )
        self._stop = stop
        self._app: Application = app

    def connections(self) -> list[BoundedProtocol]:
        """All that are open."""
        return connections_of(self.server_state)

    async def settle(self) -> None:
        """Answer what was asked, within `_OWING_SECONDS`."""
        await settle(self.server_state, _OWING_SECONDS)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """A signal came."""
        del sig, frame
        self._stop()

    @contextlib.contextmanager
    def running(self, listener: socket.socket) -> Iterator[asyncio.Task[None]]:
        """Serve, and look at every connection's time, until the block ends; gives the task that serves."""
        serving = asyncio.create_task(self.serve([listener]))
        ticking = asyncio.create_task(keep_time(self._app, self.server_state))
        try:
            yield serving
        finally:
            ticking.cancel()
            serving.cancel()
