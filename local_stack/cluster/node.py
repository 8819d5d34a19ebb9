"""What all pods share: folders, images, addresses, the clock, and the list of what happened."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from local_stack.cluster.addresses import Addresses
from local_stack.cluster.changes import Changes
from local_stack.cluster.specification import Json

NODE = "this-machine"


@dataclass(frozen=True, slots=True)
class NodeOptions:
    """How this node runs pods. Times are in seconds.

    state: a folder that is ours. images: name to interpreter; ``*`` is any. first_restart_wait: of CrashLoopBackOff,
    which doubles up to longest_restart_wait (a kubelet's: 10 and 300; the first restart comes at once).
    """

    state: Path
    images: Mapping[str, str]
    first_restart_wait: float = 1.0
    longest_restart_wait: float = 30.0

    @property
    def pods(self) -> Path:
        """Where pods have their folders, which go when they go."""
        return self.state / "pods"

    @property
    def logs(self) -> Path:
        """Where the logs of containers stay."""
        return self.state / "logs"


@dataclass(slots=True)
class Node:
    """The one node."""

    options: NodeOptions
    addresses: Addresses = field(default_factory=Addresses)
    changes: Changes = field(default_factory=Changes)
    events: deque[Json] = field(default_factory=lambda: deque(maxlen=10_000))

    def record(self, deployment: str, pod: str, reason: str, **more: object) -> None:
        """Remember that something happened, with its time in seconds since the epoch."""
        self.events.append({"time": time.time(), "deployment": deployment, "pod": pod, "reason": reason, **more})

    def restart_wait(self, restarts: int) -> float:
        """Seconds before restart number `restarts` (1 is the first)."""
        if restarts <= 1:
            return 0.0
        return min(self.options.longest_restart_wait, self.options.first_restart_wait * 2.0 ** min(restarts - 2, 30))
