"""A run of the batch as a program, with what each of its steps takes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.batch.made_up import BUCKET, INDEX


@dataclass
class Step:
    """seconds: as the program says. held, resident: most KiB of the program and all of its processes."""

    seconds: float = 0.0
    held: int = 0
    resident: int = 0


@dataclass(frozen=True)
class Measured:
    """A run. seconds: by the clock, from the start of the program. cpu: seconds of it and its processes."""

    seconds: float
    cpu: float
    status: int
    steps: dict[str, Step]
    last: str
    """Line of its log."""


def run_batch(catalogue: Path, cache: Path, *options: str) -> Measured:
    """Run it to its end."""
    command = [sys.executable, "-m", "embedding_batch", "run", "--repository", f"gs://{BUCKET}", "--index", INDEX]
    command += ["--environment", "production", "--catalogue", str(catalogue), "--cache", str(cache), *options]
    steps: dict[str, Step] = {}
    last, began, before = "", time.perf_counter(), os.times()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as batch:
        sampler = _Sampler(batch.pid)
        thread = threading.Thread(target=sampler.sample)
        thread.start()
        for line in batch.stderr or ():
            last = line
            said = json.loads(line)
            if "seconds" in said:
                step = steps.setdefault(said["step"], Step())
                step.seconds += said["seconds"]
                sampler.take(step)
        sampler.ended.set()
        thread.join()
    after = os.times()
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return Measured(time.perf_counter() - began, cpu, batch.returncode, steps, last)


@dataclass
class _Sampler:
    """The memory of a process and those below it, since the last `take`."""

    pid: int
    held: int = 0
    resident: int = 0
    ended: threading.Event = field(default_factory=threading.Event)

    def sample(self) -> None:
        """Until it is ended."""
        while not self.ended.wait(0.1):
            sizes = [_memory(pid) for pid in _tree(self.pid)]
            self.held = max(self.held, sum(held for held, _ in sizes))
            self.resident = max(self.resident, sum(resident for _, resident in sizes))

    def take(self, into: Step) -> None:
        """Say what was seen, and begin anew."""
        into.held, into.resident = max(into.held, self.held), max(into.resident, self.resident)
        self.held = self.resident = 0


def _tree(pid: int) -> list[int]:
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    return [pid, *(below for child in children for below in _tree(int(child)))]


def _memory(pid: int) -> tuple[int, int]:
    """KiB that a process holds, and has resident."""
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0, 0
    found = {name: int(value.split()[0]) for name, _, value in (line.partition(":") for line in text.splitlines())
             if name in ("VmRSS", "RssAnon", "RssShmem")}  # fmt: skip
    return found.get("RssAnon", 0) + found.get("RssShmem", 0), found.get("VmRSS", 0)
