"""One container of one pod: its process, its state as Kubernetes tells it, its last words."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path

from local_stack.cluster.manifest import Json, port_of
from local_stack.cluster.node import timestamp
from local_stack.cluster.probes import verdicts
from local_stack.processes import ending_with_us, kill_session

_MESSAGE_LIMIT = 4096
_LOG_LINES, _LOG_BYTES = 80, 2048
_KILLED_BY_SIGNAL = 128


class ContainerRuns:
    """Runs a container's process again and again, as told; knows what state it is in.

    log: gets what all runs print. init: it is ready when it has ended well, and not before.
    grace: seconds from a failed probe to SIGKILL. changed: called after every change.
    """

    def __init__(
        self, spec: Json, log: Path, last_words: Path, *, init: bool, grace: float, changed: Callable[[], None]
    ) -> None:
        self.spec = spec
        self.log = log
        self.last_words = last_words
        self.state: Json = {"waiting": {"reason": "ContainerCreating"}}
        self.restarts = 0
        self.ready = False
        self._init = init
        self._grace = grace
        self._changed = changed
        self._last_state: Json = {}
        self._started = False
        self._process: asyncio.subprocess.Process | None = None
        self._starting = asyncio.Lock()
        self._exited = asyncio.Event()
        self._exited.set()

    def wait_for(self, reason: str, message: str = "") -> None:
        """Enter the state waiting."""
        self._enter({"waiting": {"reason": reason} | ({"message": message} if message else {})})

    def _enter(self, state: Json) -> None:
        if "terminated" in self.state:
            self._last_state = self.state
        self.state = state
        self._changed()

    async def run(self, command: tuple[str, ...], environment: Mapping[str, str], folder: Path, address: str) -> int:
        """Run the process once, with its probes, and return its exit code; a failed liveness probe ends it.

        The code is as Kubernetes has it: 128 and its number for a signal.
        """
        self.last_words.write_bytes(b"")
        self._exited.clear()
        async with self._starting:
            with self.log.open("ab") as log:
                log_start = log.tell()
                process = await asyncio.create_subprocess_exec(
                    *ending_with_us(command, signal.SIGKILL),
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env=dict(environment),
                    cwd=folder,
                    start_new_session=True,
                )
            self._process = process
        began = timestamp()
        self._enter({"running": {"startedAt": began}})
        probing = asyncio.create_task(self._probe(address))
        code = await process.wait()
        probing.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await probing
        kill_session(process.pid)  # what it started goes with it
        self.ready, self._started = self._init and code == 0, False
        self._exited.set()
        exit_code = code if code >= 0 else _KILLED_BY_SIGNAL - code
        ended: Json = {"exitCode": exit_code, "reason": "Completed" if code == 0 else "Error"}
        if code < 0:
            ended["signal"] = -code
        if message := self._message(failed=code != 0, log_start=log_start):
            ended["message"] = message
        self._enter({"terminated": {**ended, "startedAt": began, "finishedAt": timestamp()}})
        return exit_code

    async def stop(self, grace: float, *, pre_stop: bool = True) -> None:
        """End the process: preStop, SIGTERM, and SIGKILL when `grace` seconds are over; returns when it is gone."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + grace
        if pre_stop and "lifecycle" in self.spec:
            sleep = self.spec["lifecycle"].get("preStop", {}).get("sleep", {})
            await self._gone(min(sleep.get("seconds", 0), grace))
        async with self._starting:  # a process that is just being started has to be there to get it
            self._signal(signal.SIGTERM)
        if not await self._gone(max(0.0, deadline - loop.time())):
            self._signal(signal.SIGKILL)
            await self._exited.wait()

    async def _gone(self, within: float) -> bool:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within):
                await self._exited.wait()
        return self._exited.is_set()

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and not self._exited.is_set():
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(number)

    async def _probe(self, address: str) -> None:
        if "startupProbe" in self.spec and not await anext(self._verdicts("startupProbe", address)):
            await self._unhealthy("Startup")
            return
        self._started = True
        self._report_ready("readinessProbe" not in self.spec and not self._init)
        async with asyncio.TaskGroup() as watches:
            if "readinessProbe" in self.spec:
                watches.create_task(self._watch_readiness(address))
            if "livenessProbe" in self.spec:
                watches.create_task(self._watch_liveness(address))

    async def _watch_readiness(self, address: str) -> None:
        async for ready in self._verdicts("readinessProbe", address):
            self._report_ready(ready)

    async def _watch_liveness(self, address: str) -> None:
        async for alive in self._verdicts("livenessProbe", address):
            if not alive:
                await self._unhealthy("Liveness")

    def _verdicts(self, name: str, address: str) -> AsyncIterator[bool]:
        probe: Json = self.spec[name]
        port = port_of(self.spec, probe["httpGet"]["port"]) or 0  # there is one: the manifest was checked
        return verdicts(address, port, probe)

    async def _unhealthy(self, kind: str) -> None:
        with self.log.open("a") as log:
            log.write(f"local cluster: {kind} probe failed; the container will be restarted\n")
        # Shielded: the end of the process cancels the probes, and so this.
        await asyncio.shield(asyncio.ensure_future(self.stop(self._grace)))

    def _report_ready(self, ready: bool) -> None:  # noqa: FBT001 - what a probe reports
        if self.ready != ready:
            self.ready = ready
            self._changed()

    def _message(self, *, failed: bool, log_start: int) -> str:
        written = self.last_words.read_bytes()[:_MESSAGE_LIMIT]
        if written or not failed or self.spec.get("terminationMessagePolicy") != "FallbackToLogsOnError":
            return written.decode(errors="replace")
        with self.log.open("rb") as log:
            log.seek(log_start)
            printed = log.read()
        return b"\n".join(printed[-_LOG_BYTES:].splitlines()[-_LOG_LINES:]).decode(errors="replace")

    def status(self) -> Json:
        """The containerStatus of this container."""
        return {
            "name": self.spec["name"],
            "image": self.spec["image"],
            "imageID": "",
            "state": self.state,
            "lastState": self._last_state,
            "ready": self.ready,
            "started": self._started,
            "restartCount": self.restarts,
        }
