"""What happens when: listen, open and prove the build, answer, and leave without dropping a request."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
import threading
import time
from collections.abc import AsyncIterator, Callable
from email.utils import formatdate
from typing import Any, TypeVar

from search_server.app import Application
from search_server.config import Config
from search_server.connections import Connections
from search_server.http import Connection
from search_server.index import MappedIndex, open_index
from search_server.logs import log
from search_server.model import Model, open_model
from search_server.prove import prove

_T = TypeVar("_T")

_TICK_SECONDS = 1.0
_POLL_SECONDS = 0.05
_COLLECT_AFTER = 50_000
"""New objects until the garbage collector looks at them; Python's own 700 are those of a few requests."""


class Stopped(Exception):
    """A signal came before the server was ready; nothing was promised to anybody."""


def open_and_prove(config: Config) -> tuple[MappedIndex, Model]:
    """Open the build and its model and let them prove themselves; raises `PermanentError` if they can't."""
    begun = time.monotonic()
    index = open_index(config.data / "index", config.prefix, config.digest)
    model = open_model(config.data / "model", index.manifest.model)
    opened = time.monotonic()
    proof = prove(index, model)
    log(
        "INFO",
        f"{config.prefix} proved itself",
        generation=config.generation,
        items=index.manifest.items,
        golden_queries=proof.golden_queries,
        golden_images=proof.golden_images,
        lowest_cosine=round(proof.lowest_cosine, 6),
        open_seconds=round(opened - begun, 3),
        proof_seconds=round(time.monotonic() - opened, 3),
    )
    return index, model


async def serve(config: Config) -> None:
    """Serve until SIGTERM or SIGINT.

    Raises `PermanentError` if the build can't be served, `Stopped` if the signal came before it was ready, OSError if
    the port is taken.
    """
    connections = Connections()
    app = Application(config, connections)
    stop = _stop_event()
    async with _listening(config, app, connections) as close_listener:
        index, model = await _unless_stopped(stop, lambda: open_and_prove(config))
        app.open(index, model)
        # what is here now stays, and requests leave no cycles: the collector need not look often
        gc.collect()
        gc.freeze()
        gc.set_threshold(_COLLECT_AFTER)
        log("NOTICE", f"serving {config.prefix}", generation=config.generation, host=config.host, port=config.port)
        await stop.wait()
        await _drain(config, app, connections, close_listener)


async def _drain(
    config: Config, app: Application, connections: Connections, close_listener: Callable[[], None]
) -> None:
    """Leave in the order that `docs/search-api.md` explains."""
    app.drain()
    log("NOTICE", "leaving: answering on, each answer the last of its connection", seconds=config.drain_seconds)
    await asyncio.sleep(config.drain_seconds)
    while connections.answering:  # noqa: ASYNC110 - an event would cost every request something
        await asyncio.sleep(_POLL_SECONDS)
    close_listener()
    connections.leave_unless_answering()
    patience = time.monotonic() + config.limits.linger_seconds
    while connections.answering or (len(connections) and time.monotonic() < patience):  # noqa: ASYNC110
        await asyncio.sleep(_POLL_SECONDS)
    log("NOTICE", "left", generation=config.generation, connections=len(connections))


def _stop_event() -> asyncio.Event:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    return stop


@contextlib.asynccontextmanager
async def _listening(config: Config, app: Application, connections: Connections) -> AsyncIterator[Callable[[], None]]:
    """Accept connections; gives what closes the listener."""
    identity = (
        f"x-indexpush-generation: {config.generation}\r\nx-indexpush-prefix: {config.prefix}\r\n"
        "x-content-type-options: nosniff\r\n"
    )

    def tick() -> None:
        connections.common_headers = f"date: {formatdate(usegmt=True)}\r\n{identity}".encode()
        connections.tick()

    async def tick_on() -> None:
        while True:
            await asyncio.sleep(_TICK_SECONDS)
            tick()

    tick()
    server = await asyncio.get_running_loop().create_server(
        lambda: Connection(app, connections), config.host, config.port, backlog=1024, reuse_address=True
    )
    ticking = asyncio.create_task(tick_on())
    try:
        yield server.close
    finally:
        ticking.cancel()
        server.close()


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
