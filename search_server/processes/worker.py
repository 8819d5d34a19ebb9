"""The life of a worker: open and prove the build, answer, and leave without dropping a request.

The supervisor starts it in the pod's environment, by ``python -m search_server.processes.worker <parent> <number>
<workers> <memory> <listener> <door>``. The last three, the pod's shared memory, a listening socket and the door to the
processes that embed, are descriptors that it inherits.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import os
import signal
import socket
import sys
import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import uvloop

from http_limits.listener import affordable_connections, raise_open_files
from model_repository.documents.detector_manifest import GoldenDetection
from model_repository.errors import PermanentError
from model_repository.exit_codes import ExitCode
from model_repository.telemetry.log import Log
from search_server.app import SearchApplication
from search_server.build import open_and_prove, open_and_prove_detector
from search_server.build.detector import BuildDetector
from search_server.build.index import MappedIndex
from search_server.build.model import Model
from search_server.config import Config
from search_server.filters.keeper import folder_of
from search_server.filters.mapped import keep_mapped, map_filter
from search_server.pictures.client import PictureClient
from search_server.processes.pod import PodState, ProcessState, microseconds
from search_server.processes.server import Server

_T = TypeVar("_T")

_BEAT_SECONDS = 1.0
_PICTURES_SECONDS = 5
"""After the drain: pictures that wait even then are refused."""
_COLLECT_AFTER = 50_000
"""New objects until the garbage collector looks at them; Python's own 700 are those of a few requests."""
_PR_SET_PDEATHSIG = 1


class Stopped(Exception):
    """A signal came before the worker was ready; nothing was promised to anybody."""


def main(arguments: Sequence[str], environment: Mapping[str, str]) -> ExitCode:
    """Work until told to leave; returns the exit status. Last words are left in the pod's memory."""
    parent, number, workers, memory, listener, door = map(int, arguments)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before the kernel was asked
        return ExitCode.TRY_AGAIN
    for inherited in (memory, listener, door):
        os.set_inheritable(inherited, False)  # noqa: FBT003 - its only argument
    config = Config.from_environment(environment)
    share = affordable_connections(-(-config.limits.connections // workers), raise_open_files())
    config = replace(config, limits=replace(config.limits, connections=share))
    pod = PodState(memory, workers)
    log = Log().bind(generation=config.generation, worker=number)
    try:
        sockets = {"listener": socket.socket(fileno=listener), "door": socket.socket(fileno=door)}
        uvloop.run(serve(config, pod, number, **sockets, log=log))
    except PermanentError as error:
        pod.workers[number].say_last(error.code, str(error), ExitCode.DATA)
        return ExitCode.DATA
    except Stopped:
        # the thread that proves is inside C++ code; to take the interpreter down around it would crash
        os._exit(ExitCode.OK)
    return ExitCode.OK


async def serve(
    config: Config, pod: PodState, number: int, *, listener: socket.socket, door: socket.socket, log: Log
) -> None:
    """Serve until SIGTERM or SIGINT.

    Raises `PermanentError` if the build can't be served, `Stopped` if the signal came before it was ready.
    """
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    own = pod.workers[number]
    app = SearchApplication(config, pod, own, log)
    server = Server(config, app, lambda: loop.call_soon_threadsafe(stop.set))
    app.connections = server.connections
    pictures = PictureClient(door)

    def patiently(ask: Callable[[], Awaitable[_T]]) -> _T:
        return asyncio.run_coroutine_threadsafe(pictures.patiently(ask), loop).result()

    def embed(model: Model, picture: bytes) -> list[float]:
        return patiently(lambda: pictures.embed(model, picture, remembered=False))

    def missed(detector: BuildDetector, golden: GoldenDetection, picture: bytes) -> str:
        return patiently(lambda: pictures.missed(detector, golden, picture))

    def opened_and_proved() -> tuple[MappedIndex, tuple[Model, ...], BuildDetector | None]:
        def opened() -> None:
            own.opened = microseconds()

        own.began = microseconds()
        way = None if config.embedding_url else embed
        index, models = open_and_prove(config.data, config.prefix, config.digest, way, log, on_opened=opened)
        detector = open_and_prove_detector(config.data, index, missed, log)
        own.proved = microseconds()
        return index, models, detector

    for each in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(each, stop.set)
    beating = asyncio.create_task(_beat(own, app))
    with contextlib.ExitStack() as running:
        serving: asyncio.Task[None] | None = None
        if not pod.was_ready:  # says why it isn't ready; whoever meets a replacement waits for it, and is answered then
            serving = running.enter_context(server.running(listener))
        index, models, detector = await _unless_stopped(stop, opened_and_proved)
        # what is here now stays, and requests leave no cycles: the collector need not look often
        gc.collect()
        gc.freeze()
        gc.set_threshold(_COLLECT_AFTER)
        folder = folder_of(os.getppid())
        await map_filter(index, pod, own, folder)
        filtering = asyncio.create_task(keep_mapped(index, pod, own, folder))
        app.open(index, models, detector, pictures)
        serving = serving or running.enter_context(server.running(listener))
        own.ready = 1
        await stop.wait()
        # leave in the order that docs/search-api.md explains
        app.drain()
        await asyncio.sleep(config.drain_seconds)
        loop.call_later(_PICTURES_SECONDS, pictures.close)
        await server.settle()
        server.should_exit = True
        await serving
        filtering.cancel()
    pictures.close()
    beating.cancel()


async def _beat(own: ProcessState, app: SearchApplication) -> None:
    """Show that the event loop turns, and how things are, until cancelled."""
    own.pid = os.getpid()
    while True:
        own.beats += 1
        connections = app.connections()
        own.connections = len(connections)
        own.answering = sum(connection.answering for connection in connections)
        own.pictures = app.pictures
        await asyncio.sleep(_BEAT_SECONDS)


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


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
