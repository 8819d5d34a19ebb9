"""``launch.py REPORT COMMAND...``: runs a command and writes its status, seconds, processor seconds and peak memory.

A process's peak (``ru_maxrss``) is never less than that of the process it was forked from, so a benchmark that has read
its results would lend its own size to whatever it starts. This process is small: it imports nothing.
"""

from __future__ import annotations

import os
import sys
import time


def main() -> None:
    """Write ``STATUS WALL CPU PEAK`` (seconds, bytes) into the report."""
    report, *command = sys.argv[1:]
    began = time.perf_counter()
    process = os.posix_spawnp(command[0], command, os.environ)
    _, status, usage = os.wait4(process, 0)
    wall = time.perf_counter() - began
    cpu = usage.ru_utime + usage.ru_stime
    with open(report, "w") as file:  # noqa: PTH123 - pathlib would double this process's size
        file.write(f"{os.waitstatus_to_exitcode(status)} {wall} {cpu} {usage.ru_maxrss * 1024}")


if __name__ == "__main__":
    main()
