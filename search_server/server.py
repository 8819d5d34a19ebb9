"""The life of a server: listen, open and prove the build, answer, and leave without dropping a request."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import socket
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, TypeVar

import uvicorn

from http_limits.listener import listen
from http_limits.protocol import BoundedProtocol, connections_of, keep_time
from model_repository.log import Log
from search_server.app import SearchApplication
from search_server.build import open_and_prove
from search_server.config import Config

_T = TypeVar("_T")

_POLL_SECONDS = 0.05
_BACKLOG = 1024
_LEAVE_SECONDS = 35
"""After the listener is closed: longer than a body may take, and nothing is left by then."""
_COLLECT_AFTER = 50_000
"""New objects until the garbage collector looks at them; Python's own 700 are those of a few requests."""


class Stopped(Exception):
    """A signal came before the server was ready; nothing was promised to anybody."""


class Server(uvicorn.Server):
    """uvicorn, but a signal asks us instead of ending it, and its connections are bounded."""

    def __init__(self, config: Config, app: SearchApplication, stop: Callable[[], object]) -> None:
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
                backlog=_BACKLOG,
                headers=[
                    ("x-indexpush-generation", str(config.generation)),
                    ("x-indexpush-prefix", str(config.prefix)),
                    ("x-content-type-options", "nosniff"),
                ],
            )
        )
        self._stop = stop
        self._app = app
        app.connections = self.connections

    def connections(self) -> list[BoundedProtocol]:
        """All that are open."""
        return connections_of(self.server_state)

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


async def serve(config: Config, log: Log) -> None:
    """Serve until SIGTERM or SIGINT.

    Raises `PermanentError` if the build can't be served, `Stopped` if the signal came before it was ready, OSError if
    the port is taken.
    """
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    app = SearchApplication(config, log)
    server = Server(config, app, lambda: loop.call_soon_threadsafe(stop.set))
    with server.running(listen(config.host, config.port, _BACKLOG)) as serving:
        index, models = await _unless_stopped(
            stop, lambda: open_and_prove(config.data, config.prefix, config.digest, log)
        )
        app.open(index, models)
        # what is here now stays, and requests leave no cycles: the collector need not look often
        gc.collect()
        gc.freeze()
        gc.set_threshold(_COLLECT_AFTER)
        log.info(f"serving {config.prefix}", host=config.host, port=config.port, pid=os.getpid())
        await stop.wait()
        # leave in the order that docs/search-api.md explains
        app.drain()
        log.info("leaving: answering on, each answer the last of its connection", seconds=config.drain_seconds)
        await asyncio.sleep(config.drain_seconds)
        while any(connection.answering for connection in server.connections()):  # noqa: ASYNC110 - an event costs requests
            await asyncio.sleep(_POLL_SECONDS)
        server.should_exit = True
        await serving
        log.info("left", connections=len(server.connections()))


async def _unless_stopped(stop: asyncio.Event, work: Callable[[], _T]) -> _T:
    """The result of `work`, done in a thread; raises `Stopped` at once if the signal comes first."""
    loop = asyncio.get_running_loop()
    result: asyncio.Future[_T] = loop.create_future()

    def settle(value: _T | None, error: BaseException | None) -> None:
        if not result.done():
            result.set_exception(error) if error else result.set_result(value)  # type: ignore[arg-type]

    def run() -> None:
        try:
            value = work()
        except BaseException as error:  # noqa: BLE001 - raised where the result is awaited
            outcome: tuple[_T | None, BaseException | None] = (None, error)
        else:
            outcome = (value, None)
        with contextlib.suppress(RuntimeError):  # the loop is gone: so is whoever waited
            loop.call_soon_threadsafe(settle, *outcome)

    # a daemon, unlike an executor's thread: nobody waits for it when the process leaves
    threading.Thread(target=run, name="prove", daemon=True).start()
    stopped = asyncio.ensure_future(stop.wait())
    waited: set[asyncio.Future[Any]] = {result, stopped}
    await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    if result.done():
        return result.result()
    result.cancel()
    raise Stopped
