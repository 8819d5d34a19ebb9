"""How many processors a program may use, in a container or out of one."""

from __future__ import annotations

import os
from pathlib import Path


def processors(limit: Path = Path("/sys/fs/cgroup/cpu.max")) -> int:
    """Processors that this process may use: those of its affinity, as far as its cgroup's limit goes.

    limit: the cgroup's file, version 2: microseconds of processor time and of the period in which they may be used.
    """
    available = len(os.sched_getaffinity(0))
    try:
        quota, period = limit.read_text().split()
        return max(1, min(available, int(quota) // int(period)))
    except (OSError, ValueError):  # no such file, or no limit: "max"
        return available
