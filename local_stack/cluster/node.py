"""What all pods share: folders, images, addresses, versions, and the list of what happened."""

from __future__ import annotations

import asyncio
import random
import socket
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from itertools import cycle
from pathlib import Path

from local_stack.cluster.manifest import Json
from model_repository.errors import PermanentError

NODE = "this-machine"
_LAST = 254
_LONGEST_RESTART_WAIT = 30.0
"""Seconds; a kubelet's is 300."""


class NoPodAddresses(PermanentError, code="no-pod-addresses"):
    """This machine gives pods no addresses of their own."""


class Node:
    """The one node. Pods have addresses 127.x.y.1 to 127.x.y.254 in turn; x and y are drawn for each cluster.

    images: name to interpreter; ``*`` is any. pods: where they have their folders, which go when they go.
    logs: where those of containers stay.
    """

    def __init__(self, state: Path, images: Mapping[str, str], *, first_restart_wait: float = 1.0) -> None:
        """state: a folder that is ours. first_restart_wait: of CrashLoopBackOff, in seconds (a kubelet's: 10)."""
        self.images = images
        self.pods, self.logs = state / "pods", state / "logs"
        self._first_restart_wait = first_restart_wait
        self.events: deque[Json] = deque(maxlen=10_000)
        drawn = random.Random()  # noqa: S311 - keeps clusters apart, no secret
        self.network = f"127.{drawn.randint(16, 126)}.{drawn.randint(0, 255)}"
        self._last = cycle(range(1, _LAST + 1))
        # from the time of day, so that versions of an earlier cluster are never met again
        self._version = int(time.time() * 1000)
        self._moved = asyncio.Event()
        if not _free(f"{self.network}.1", [0]):
            raise NoPodAddresses(
                f"can't bind {self.network}.1: the local cluster gives every pod an address in 127.0.0.0/8, which "
                "works on Linux; macOS only has 127.0.0.1 (run it in a Linux virtual machine)"
            )

    def address(self, ports: Iterable[int]) -> str:
        """An address on which `ports` are free now; raises `NoPodAddresses`."""
        wanted = list(ports)
        for _ in range(_LAST):
            address = f"{self.network}.{next(self._last)}"
            if _free(address, wanted):
                return address
        raise NoPodAddresses(f"ports {wanted} are in use on all of {self.network}.1-{_LAST}")

    def restart_wait(self, restarts: int) -> float:
        """Seconds before restart number `restarts`: the first comes at once, then the wait doubles."""
        waits = self._first_restart_wait * 2.0 ** min(restarts - 2, 30)
        return 0.0 if restarts <= 1 else min(_LONGEST_RESTART_WAIT, waits)

    def next_version(self) -> str:
        """Something changed: its new resource version. Wakes whoever waits for a change."""
        self._version += 1
        moved, self._moved = self._moved, asyncio.Event()
        moved.set()
        return str(self._version)

    async def until(self, wanted: Callable[[], bool], timeout: float) -> None:  # noqa: ASYNC109 - part of the API
        """Return as soon as `wanted` says so, looking after every change, or after `timeout` seconds."""
        try:
            async with asyncio.timeout(timeout):
                while not wanted():
                    await self._moved.wait()
        except TimeoutError:
            return

    def record(self, deployment: str, pod: str, reason: str, **more: object) -> None:
        """Remember that something happened, with its time in seconds since the epoch."""
        self.events.append({"time": time.time(), "deployment": deployment, "pod": pod, "reason": reason, **more})


def _free(address: str, ports: Iterable[int]) -> bool:
    for port in ports:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((address, port))
            except OSError:
                return False
    return True


def timestamp(moment: datetime | None = None) -> str:
    """RFC 3339 with seconds, as Kubernetes writes times."""
    return (moment or datetime.now(UTC)).strftime("%Y-%m-%dT%H:%M:%SZ")
