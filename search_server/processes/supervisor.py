"""The life of a pod: start the workers, answer the probes, replace what dies, and leave when told to.

Its event loop does nothing else but to pass pictures on, one at a time, to the process that embeds them, so probes are
answered whatever the workers do. It maps no index and embeds nothing.
It holds every worker's listening socket: who connects to one that just died waits for the one that replaces it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import threading
import time
from asyncio.subprocess import Process
from collections import deque
from collections.abc import Sequence
from typing import Any

from http_limits.listener import listen, share_port
from model_repository.exit_codes import ExitCode
from model_repository.telemetry.log import Log
from search_server.config import Config
from search_server.filters.keeper import FilterKeeper
from search_server.metrics import read_pull
from search_server.pictures.pod_pictures import PodPictures
from search_server.processes.pod import PodState, microseconds
from search_server.processes.probes import ProbeApplication, Probes
from search_server.processes.read_in import read_in
from search_server.processes.server import BACKLOG, Server
from search_server.processes.start_spans import Start, record_start

_WATCH_SECONDS = 1.0
_SILENT = 15
"""Seconds without a sign of life after which a worker is taken for hung. Whoever connects to it waits so long, and is
answered by the one that replaces it."""
_STARTING = 60
"""The same for one that has shown no sign yet: it loads its libraries, on a machine that may be busy."""
_AGAIN_SECONDS = 5.0
"""Until a worker that couldn't be started is tried again."""
_READY_SECONDS = 0.05
"""Between two looks whether a worker that replaces another is ready to leave."""
_MOST_DEATHS = 5
_DEATHS_SECONDS = 60.0
"""So many may be lost in so many seconds; with one more the pod fails, and Kubernetes waits longer each time."""
_TELL_SECONDS, _LEAVE_SECONDS = 30.0, 2.0
"""For a collector to take the spans of the pod's start: while it serves, and before it ends because it can't."""
_ALLOCATOR = {"MALLOC_ARENA_MAX": "2", "MALLOC_TRIM_THRESHOLD_": str(2**20), "MALLOC_MMAP_THRESHOLD_": str(2**20)}
"""glibc keeps what was freed, in an arena for each thread, unless it is told otherwise when a process starts."""


class PodFailed(Exception):
    """The pod can't go on. code, exit_code: for last words and the exit status."""

    def __init__(self, code: str, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.code = code
        self.exit_code = exit_code


class Supervisor:
    """The workers of a pod, and the probes."""

    def __init__(self, config: Config, log: Log) -> None:
        """Take the ports; raises OSError if one is taken."""
        self._config = config
        self._log = log
        self._began = microseconds()
        self._pod = PodState.create(config.workers)
        self._listeners = share_port(config.host, config.port, config.workers, BACKLOG)
        self._probe_listener = listen(config.host, config.probe_port, BACKLOG)
        self._processes: dict[int, Process] = {}
        self._pictures = PodPictures(config, self._pod, log)
        self._filters = FilterKeeper(config, self._pod, log)
        self._deaths: deque[float] = deque(maxlen=_MOST_DEATHS + 1)
        self._silent = [0] * config.workers
        self._stop = asyncio.Event()
        self._failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT; raises `PodFailed`."""
        config, pod, loop = self._config, self._pod, asyncio.get_running_loop()
        pod.supervisor.pid = os.getpid()
        app = ProbeApplication(Probes(pod, config, self._alive), pod, self._filters)
        server = Server(config, app, lambda: loop.call_soon_threadsafe(self._stop.set))
        # a daemon: nobody waits for the disk when the pod leaves
        threading.Thread(target=self._read_in, name="read in", daemon=True).start()
        watching = asyncio.create_task(self._watch())
        filtering = asyncio.create_task(self._filters.begin())
        self._pictures.open()
        with server.running(self._probe_listener):
            keeping = [asyncio.create_task(self._keep(number)) for number in range(config.workers)]
            stopped = asyncio.ensure_future(self._stop.wait())
            ends: set[asyncio.Future[Any]] = {stopped, self._failure}
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            stopped.cancel()
            if pod.was_ready:
                await self._leave(keeping)
            else:
                await self._end(keeping)
                self._tell_start(_LEAVE_SECONDS)
        watching.cancel()
        filtering.cancel()
        self._filters.close()
        await self._pictures.close()
        if self._failure.done():
            self._failure.result()

    def _read_in(self) -> None:
        try:
            read_in(self._config.data, self._log)
        except OSError as error:  # what is wrong with a file, the workers say
            self._log.warning(f"can't read the build into memory: {error}")
        self._pod.read_in = 1

    def _tell_start(self, seconds: float) -> None:
        """Have the pod's start recorded; a pod that was asked to leave before it was ready has nothing to tell."""
        config, error = self._config, self._failure.exception() if self._failure.done() else None
        if config.traceparent and (self._pod.was_ready or isinstance(error, PodFailed)):
            failure = (error.code, str(error)) if isinstance(error, PodFailed) else None
            start = Start.of(self._began, self._pod.workers, read_pull(config.pull_figures), failure)
            record_start(config, start, os.environ, self._log, seconds)

    # the workers

    async def _keep(self, number: int) -> None:
        """Let a worker of that number run until the pod leaves."""
        own = self._pod.workers[number]
        while not self._pod.draining:
            own.begin()
            self._silent[number] = 0
            try:
                process = self._processes[number] = await self._spawn(number)
            except OSError as error:  # memory, files or places for a process are used up
                self._note_death(number, f"can't be started: {error}")
                await asyncio.sleep(_AGAIN_SECONDS)
                continue
            status = await process.wait()
            own.ready = 0
            if self._pod.draining:
                return
            if words := own.last_words():
                self._fail(*words)
                return
            how = signal.Signals(-status).name if status < 0 else f"exit status {status}"
            self._note_death(number, f"ended by {how}")

    async def _spawn(self, number: int) -> Process:
        listener = self._listeners[number].fileno()
        inherited = self._pod.file, listener, self._pictures.file
        arguments = map(str, (os.getpid(), number, self._config.workers, *inherited))
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "search_server.processes.worker", *arguments),
            env={**_ALLOCATOR, **os.environ},
            pass_fds=inherited,
        )

    def _note_death(self, number: int, how: str) -> None:
        self._pod.deaths += 1
        self._deaths.append(now := time.monotonic())
        self._log.error(f"worker {number} {how}", worker=number, deaths=self._pod.deaths)
        if len(self._deaths) > _MOST_DEATHS and now - self._deaths[0] < _DEATHS_SECONDS:
            self._fail(
                "workers-keep-dying",
                f"{len(self._deaths)} workers were lost within {_DEATHS_SECONDS:g} s, the last one {how}; see the log",
                ExitCode.SOFTWARE,
            )

    def _fail(self, code: str, message: str, exit_code: int) -> None:
        self._pod.draining = 1
        if not self._failure.done():
            self._failure.set_exception(PodFailed(code, message, exit_code))

    def _alive(self) -> bool:
        return all(silent <= 2 * self._patience(number) for number, silent in enumerate(self._silent))

    def _patience(self, number: int) -> int:
        return _SILENT if self._pod.workers[number].beats else _STARTING

    async def _watch(self) -> None:
        """Look for signs of life, and for the moment in which the pod is ready."""
        pod, beats = self._pod, [0] * self._config.workers
        while True:
            await asyncio.sleep(_WATCH_SECONDS if pod.was_ready else _WATCH_SECONDS / 20)
            if pod.all_ready and not pod.was_ready:
                pod.was_ready = 1
                # another daemon: a collector that hangs holds up nothing
                threading.Thread(
                    target=self._tell_start, args=(_TELL_SECONDS,), name="start spans", daemon=True
                ).start()
                where = {"host": self._config.host, "port": self._config.port, "probe_port": self._config.probe_port}
                self._log.info(f"serving {self._config.prefix}", workers=self._config.workers, **where)
            if not pod.was_ready:
                continue  # Kubernetes has a deadline of its own for those that start
            for number, own in enumerate(pod.workers):
                seen, beats[number] = beats[number], own.beats
                runs = self._processes[number].returncode is None
                self._silent[number] = self._silent[number] + 1 if runs and own.beats == seen else 0
                if self._silent[number] == (seconds := self._patience(number)):
                    self._log.error(f"worker {number} hangs: ending it", worker=number, seconds=seconds)
                    self._signal(signal.SIGKILL, number)

    def _signal(self, which: signal.Signals, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._processes[number].send_signal(which)

    # leaving

    async def _leave(self, keeping: Sequence[asyncio.Task[None]]) -> None:
        """In the order that docs/search-api.md explains: each worker drains, and ends by itself."""
        self._pod.draining = 1
        seconds = self._config.drain_seconds
        self._log.info("leaving: answering on, each answer the last of its connection", seconds=seconds)
        self._close()
        await asyncio.gather(*(self._dismiss(number, time.monotonic() + seconds) for number in self._processes))
        await asyncio.wait(keeping)
        self._log.info("left")

    async def _dismiss(self, number: int, latest: float) -> None:
        """Tell a worker to leave; one that replaces another gets ready first, for whoever connected meanwhile."""
        while not self._pod.workers[number].ready and time.monotonic() < latest:  # noqa: ASYNC110 - its own process says
            await asyncio.sleep(_READY_SECONDS)
        self._signal(signal.SIGTERM, number)

    async def _end(self, keeping: Sequence[asyncio.Task[None]]) -> None:
        """At once: nobody was promised anything."""
        self._pod.draining = 1
        for number in self._processes:
            self._signal(signal.SIGKILL, number)
        await asyncio.wait(keeping)
        if not self._failure.done():
            self._log.info("asked to leave before the index was ready: left at once")

    def _close(self) -> None:
        """Leave the listening sockets to the workers alone, so that they are closed when those close them."""
        for listener in self._listeners:
            listener.close()


async def supervise(config: Config, log: Log) -> None:
    """Serve until SIGTERM or SIGINT; raises OSError if a port is taken, `PodFailed` if the pod can't go on."""
    await Supervisor(config, log).run()
