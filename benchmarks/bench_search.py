"""What the search server adds to its engine: queries a second beside the engine in a bare loop, FastAPI and Flask.

    ./noxw -s bench_search -- [--items 100000] [--engine annoy faiss-hnsw] [--storage int8] [--connections 1 64 1000]
                              [--workers 1] [--rounds 5] [--seconds 2] [--no-peers]

Builds made-up items with the batch's own builder, which finds how widely each engine must look for recall@10 of 0.95
(benchmarks/made_index.py; kept in the cache), starts all servers, then alternates short rounds of the loop and of each
server. Servers are pinned to as many cores as they have workers, the load generator (wrk, connections kept alive) to
the others, or to all if none is left. Every peer answers the same question from the same files with the same answer:
FastAPI as in its tutorial, on uvicorn, and Flask under gunicorn with 16 threads a worker. The loop is one thread.
uvicorn alone looks nothing up: it always gives the same answer.

Printed are medians: answers a second by the clock, and for each second of CPU that a server's processes had. On a
machine that others use too, the second figure is the fair one. Ratios are medians of those of each round.

Use a Python that was built with optimisation, such as Debian's: `sysconfig.get_config_var("CONFIG_ARGS")` should have
--enable-optimizations. One built without it, as pyenv does unasked, takes twice as long for everything but the search.
"""

from __future__ import annotations

import argparse
import json
import operator
import os
import random
import re
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.made_index import FILES, item_id, made_index
from benchmarks.search.bare import Bare
from local_stack.processes import free_port
from model_repository.digests import sha256_digest
from model_repository.documents.index_manifest import Engine, IndexManifest, Storage

K = 20
OURS = "search_server"
LOOP = "in a loop"
_NEEDED = ("wrk", "taskset")
_PATIENCE_SECONDS = 120
_CORES = sorted(os.sched_getaffinity(0))


@dataclass(frozen=True)
class Rate:
    """Answers a second: by the clock, and for each second of CPU. refused: the share of requests that got a 503."""

    clock: float
    cpu: float
    refused: float = 0.0


BY_CLOCK: Callable[[Rate], float] = operator.attrgetter("clock")
BY_CPU: Callable[[Rate], float] = operator.attrgetter("cpu")


@dataclass
class Contestant:
    """A server, or the loop, which has no command. rates: of each round, by connections."""

    name: str
    engine: Engine
    workers: int = 1
    command: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)
    port: int = 0
    rates: dict[int, list[Rate]] = field(default_factory=lambda: defaultdict(list))

    @property
    def title(self) -> str:
        """What it is, in a word or two."""
        return f"{self.name}, {self.engine}, {self.workers} worker{'s' if self.workers > 1 else ''}"

    def over(self, other: Contestant, connections: int, kind: Callable[[Rate], float]) -> float:
        """How many times as fast as the other: the median of the rounds' ratios; the loop is the same for all."""
        ours, theirs = (one.rates[connections if one.command else 0] for one in (self, other))
        return statistics.median(kind(a) / kind(b) for a, b in zip(ours, theirs, strict=True))


def loop(bare: Bare, seconds: float) -> Rate:
    """Search and nothing else."""
    count, begun, cpu = 0, time.perf_counter(), time.process_time()
    while time.perf_counter() - begun < seconds:
        bare.similar(random.randrange(bare.items), K)
        count += 1
    return Rate(count / (time.perf_counter() - begun), count / (time.process_time() - cpu))


def cpu_seconds(pid: int) -> float:
    """CPU seconds so far of a process and all that live below it, to the nanosecond."""
    spent, left = 0.0, [pid]
    while left:
        for task in Path(f"/proc/{left.pop()}/task").iterdir():
            spent += int((task / "schedstat").read_text().split()[0]) / 1e9
            left += map(int, (task / "children").read_text().split())
    return spent


def load(server: Contestant, pid: int, script: Path, connections: int, seconds: float) -> Rate:
    """Ask a server by wrk, which asks again at once when refused. Ends when what was asked at the end is done, too.

    A round without one answer, on a machine that is busy with other things, is run again, and longer.
    """
    cores = ",".join(map(str, _CORES[server.workers :] or _CORES))
    wrk = ["taskset", "-c", cores, "wrk", "-t1", f"-c{connections}", f"-d{seconds:g}s", "--timeout", "60s"]
    before, begun = cpu_seconds(pid), time.perf_counter()
    ask = subprocess.run(
        [*wrk, "-s", str(script), f"http://127.0.0.1:{server.port}"], check=True, capture_output=True, text=True
    )
    elapsed, spent = time.perf_counter() - begun, cpu_seconds(pid) - before
    if "Socket errors" in ask.stdout or elapsed > _PATIENCE_SECONDS:
        raise SystemExit(f"{server.title}, {connections} connections:\n{ask.stdout}")
    requests, refused = (
        sum(map(int, re.findall(pattern, ask.stdout)))
        for pattern in (r"(\d+) requests in", r"Non-2xx or 3xx responses: (\d+)")
    )
    _rest(pid)
    answers = requests - refused
    if answers == 0:
        return load(server, pid, script, connections, seconds * 2)
    return Rate(answers / elapsed, answers / spent, refused / requests)


def _rest(pid: int) -> None:
    """Wait until a server has no more work of clients that have gone: the next round isn't to pay for it."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while time.monotonic() < deadline:
        before = cpu_seconds(pid)
        time.sleep(0.1)
        if cpu_seconds(pid) - before < 0.02:
            return


@contextmanager
def running(server: Contestant) -> Iterator[int]:
    """A server, pinned, and asked once to see that it answers as it should; gives its pid."""
    cores = ",".join(map(str, _CORES[: server.workers]))
    process = subprocess.Popen(
        ["taskset", "-c", cores, *server.command],
        env={**os.environ, **server.environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        answer = _first_answer(server, process)
        if len(answer["neighbors"]) != K:
            raise SystemExit(f"{server.name} answered {answer}")
        yield process.pid
    finally:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _first_answer(server: Contestant, process: subprocess.Popen[bytes]) -> dict[str, list[object]]:
    url = f"http://127.0.0.1:{server.port}/v1/items/{item_id(0)}/similar?k={K}"
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while True:
        try:
            with urllib.request.urlopen(url, timeout=30) as answer:
                body: dict[str, list[object]] = json.loads(answer.read())
                return body
        except OSError as error:
            if time.monotonic() > deadline or process.poll() is not None:
                raise SystemExit(f"{server.name} doesn't answer: {error}; {' '.join(server.command)}") from None
            time.sleep(0.05)


def servers(data: Path, manifest: IndexManifest, workers: int, *, peers: bool) -> list[Contestant]:
    """Ours first, then its peers."""
    engine, python = manifest.partitions[0].engine, (sys.executable, "-m")
    digest = sha256_digest((data / FILES / "index.json").read_bytes())
    build = {"DATA": str(data), "INDEX_PREFIX": str(manifest.prefix), "INDEX_DIGEST": digest}
    port, probe_port = free_port(), free_port()
    ours = {"COMMIT_GENERATION": "1", "HOST": "127.0.0.1", "PORT": str(port), "PROBE_PORT": str(probe_port)}
    ours |= {"DRAIN_SECONDS": "0", "TERMINATION_LOG": "/dev/null", "WORKERS": str(workers)}
    found = [Contestant(OURS, engine, workers, (*python, "search_server"), build | ours, port)]
    if peers:
        for name, app in (("FastAPI", "fastapi_peer"), ("uvicorn alone", "constant_peer")):
            port = free_port()
            uvicorn = ("uvicorn", f"--port={port}", f"--workers={workers}", "--log-level=warning", "--no-access-log")
            command = (*python, *uvicorn, f"benchmarks.search.{app}:app")
            found.append(Contestant(name, engine, workers, command, build, port))
        port = free_port()
        gunicorn = ("gunicorn", f"--bind=127.0.0.1:{port}", f"--workers={workers}", "--threads=16", "--keep-alive=60")
        command = (*python, *gunicorn, "benchmarks.search.flask_peer:app")
        found.append(Contestant("Flask", engine, workers, command, build, port))
    return found


def measure(options: argparse.Namespace, script: Path) -> tuple[list[Contestant], dict[Engine, IndexManifest]]:
    """Alternate all contestants; returns them, and the builds."""
    items, dimensions = options.items, options.dimensions
    script.write_text(
        "math.randomseed(os.time())\nrequest = function() return wrk.format('GET', string.format("
        f"'/v1/items/item-%07d/similar?k={K}', math.random(0, {items - 1}))) end\n"
    )
    built = {}
    for engine in map(Engine, options.engine):
        storage = Storage(options.storage)
        built[engine] = made_index(items, dimensions, engine, storage if storage.suits(engine) else Storage.FLOAT32)
    loops = [(Contestant(LOOP, engine), Bare(*build)) for engine, build in built.items()]
    asked = [
        server
        for build in built.values()
        for workers in options.workers
        for server in servers(*build, workers, peers=not options.no_peers)
    ]
    os.sched_setaffinity(0, _CORES[:1])  # the loop; what is started chooses its own
    with ExitStack() as stack:
        pids = [stack.enter_context(running(server)) for server in asked]
        for _, bare in loops:
            loop(bare, 1)
        for server, pid in zip(asked, pids, strict=True):
            load(server, pid, script, 16, 1)
        for _ in range(options.rounds):
            for contestant, bare in loops:
                contestant.rates[0].append(loop(bare, options.seconds))
            for connections in options.connections:
                for server, pid in zip(asked, pids, strict=True):
                    server.rates[connections].append(load(server, pid, script, connections, options.seconds))
    return [*(contestant for contestant, _ in loops), *asked], {engine: build[1] for engine, build in built.items()}


def report(contestants: list[Contestant], builds: dict[Engine, IndexManifest], connections: list[int]) -> None:
    """Print the tables."""
    print("| engine | storage | parts | MB | recall@10 | widths |\n|---|---|---|---|---|---|")
    for engine, build in builds.items():
        size = sum(file.size for file in build.files) / 1e6
        widths = sorted({part.width for part in build.partitions})
        print(
            f"| {engine} | {build.partitions[0].storage} | {len(build.partitions)} | {size:.0f} "
            f"| {build.recall.value:.3f} | {', '.join(map(str, widths))} |"
        )
    print("\n| engine | | workers | connections | answers/s | of the loop | per CPU s | of the loop | refused |")
    print("|---|---|---|---|---|---|---|---|---|")
    loops = {one.engine: one for one in contestants if not one.command}
    for one in contestants:
        for count, rates in one.rates.items():
            how = f"{one.workers} | {count}" if one.command else "1 |"
            clock, cpu = (statistics.median(map(kind, rates)) for kind in (BY_CLOCK, BY_CPU))
            of = [one.over(loops[one.engine], count, kind) for kind in (BY_CLOCK, BY_CPU)]
            refused = f"{statistics.median(rate.refused for rate in rates):.0%}"
            share = f"{clock:,.0f} | {of[0]:.2f} | {cpu:,.0f} | {of[1]:.2f}"
            print(f"| {one.engine} | {one.name} | {how} | {share} | {refused} |")
    print("\n| times as fast | connections | by the clock | by CPU |\n|---|---|---|---|")
    for one, other in compared([one for one in contestants if one.command]):
        for count in connections:
            by_clock, by_cpu = (one.over(other, count, kind) for kind in (BY_CLOCK, BY_CPU))
            print(f"| {one.title} / {other.title} | {count} | {by_clock:.2f} | {by_cpu:.2f} |")


def compared(asked: list[Contestant]) -> Iterator[tuple[Contestant, Contestant]]:
    """Our servers, each with its peers, with fewer workers of its own, and with another engine."""
    for one in asked:
        for other in asked if one.name == OURS else ():
            same = one.engine is other.engine, one.workers == other.workers, other.name == OURS
            faster = one.workers > other.workers or one.engine > other.engine
            if same == (True, True, False) or (sum(same) == 2 and same[2] and faster):
                yield one, other


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--dimensions", type=int, default=512)
    parser.add_argument("--engine", nargs="+", default=[Engine.ANNOY, Engine.FAISS_HNSW], choices=list(Engine))
    parser.add_argument("--storage", default=Storage.INT8, choices=list(Storage), help="where the engine has a choice")
    parser.add_argument("--connections", nargs="+", type=int, default=[1, 64, 1000])
    parser.add_argument("--workers", nargs="+", type=int, default=[1])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2)
    parser.add_argument("--no-peers", action="store_true")
    options = parser.parse_args()
    if missing := [program for program in _NEEDED if shutil.which(program) is None]:
        raise SystemExit(f"bench_search needs {' and '.join(missing)}: apt-get install wrk util-linux")
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with tempfile.TemporaryDirectory() as scratch:
        contestants, builds = measure(options, Path(scratch) / "ask.lua")
    shape = f"{options.items:,} x {options.dimensions}, k={K}, {options.rounds} rounds of {options.seconds:g} s"
    print(f"{shape}, {len(_CORES)} cores, Python {sys.version.split()[0]}\n")
    report(contestants, builds, options.connections)


if __name__ == "__main__":
    main()
