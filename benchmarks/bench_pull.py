"""How fast the puller is beside its peers: whole processes, alternating in one run, servers on the same machine.

    python -m benchmarks.bench_pull --work FOLDER --kserve-python PYTHON --peers-python PYTHON

A peer that isn't there is left out, and said so. Results are added to WORK/results.json, so a long run can be taken in
pieces; ``--table`` only prints them, ``--write`` puts them into a page between its markers, ``--plot`` draws them.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.pull.plot import draw
from benchmarks.pull.server import PREFIX, Build, Servers, make_build, serve
from benchmarks.pull.tables import ALONE, CASES, FIRST_REQUEST, OURS, TRANSPORTS, Run, tables, write

_MIB = 1024 * 1024
_GIB = 1024 * _MIB
SIZES: dict[str, list[int]] = {
    "1g": [_GIB],
    "4g": [4 * _GIB],
    "64": [16 * _MIB] * 64,
    "4000": [25_000] * 4000,
}
_PATIENCE = 240.0
"""Seconds after which a peer is given up."""
_SETTLE = 2.5
"""Seconds between a deletion and the next run: by then a virtual machine's host did what it does with freed memory."""
_SPARE = _GIB
"""With as much as it writes and no more, two runs of ours in five met memory that the host had to give again first."""
_MANY_FILES = 1000
"""ext4 makes files up to eight times more slowly for five minutes after so many were deleted: it passes over their
inodes. So they stay until the end."""
SETTINGS = ("process:8:32", "process:16:64")
"""Of transfer_manager. Its threads (8 x 32 MiB) took 1.4 to 3.2 times as long as the better of these, in every case."""


@dataclass(frozen=True)
class Bench:
    """What a run needs to know. work: its folder. python: that ours runs in; version: what that is."""

    work: Path
    servers: Servers
    python: str
    version: str
    kserve_python: str
    peers_python: str

    def command(self, peer: str, transport: str, build: Build, out: Path) -> tuple[list[str], dict[str, str]]:
        """The command line of a peer, and its environment."""
        endpoint = self.servers.endpoints[transport]
        certificate = str(self.servers.certificate)
        names = self.work / f"names-{build.bucket}"
        names.write_text("\n".join(name.rsplit("/", 1)[1] for name in build.names))
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.work),
            "STORAGE_EMULATOR_HOST": endpoint,
            "SSL_CERT_FILE": certificate,
            "REQUESTS_CA_BUNDLE": certificate,
            "BENCH_NAMES": str(names),
        }
        if peer in (OURS, ALONE):
            ours = {
                "MODEL_REPOSITORY": f"gs://{build.bucket}",
                "INDEX_PREFIX": str(PREFIX),
                "INDEX_DIGEST": build.index_digest,
                "DESTINATION": str(out / "current"),
                "TERMINATION_LOG": str(self.work / "last-words"),
            }
            if peer == ALONE:
                ours["PROCESSES"] = "1"
            elif "PROCESSES" in os.environ:
                ours["PROCESSES"] = os.environ["PROCESSES"]
            return [self.python, "-m", "init_container"], {**environment, **ours}
        if peer == "curl":
            urls = [f"{endpoint}/{build.bucket}/{name}" for name in build.names]
            config = self.work / "curl"
            config.write_text("".join(f'url = "{url}"\noutput = /dev/null\n' for url in urls))
            return ["curl", "-sf", "--cacert", certificate, "-K", str(config)], environment
        if peer == "gcloud":
            gcloud = {
                "CLOUDSDK_API_ENDPOINT_OVERRIDES_STORAGE": f"{endpoint}/storage/v1/",
                "CLOUDSDK_AUTH_DISABLE_CREDENTIALS": "true",
                "CLOUDSDK_CORE_CUSTOM_CA_CERTS_FILE": certificate,
                "CLOUDSDK_CORE_DISABLE_PROMPTS": "1",
                "CLOUDSDK_CORE_PROJECT": "p",
                "CLOUDSDK_CONFIG": str(self.work / "gcloud"),
            }
            source = f"gs://{build.bucket}/{PREFIX}/*"
            return ["gcloud", "storage", "cp", "-q", source, str(out) + "/"], {**environment, **gcloud}
        python = self.kserve_python if peer == "kserve" else self.peers_python
        script = str(Path(__file__).parent / "pull" / "peers.py")
        return [python, script, peer, endpoint, build.bucket, str(PREFIX), str(out)], environment

    def run(self, peer: str, case: str, transport: str, build: Build, out: Path) -> Run | None:
        """Run a peer once; None (and a word about it) if it failed or brought something else."""
        out.mkdir(parents=True)
        command, environment = self.command(peer, transport, build, out)
        report = self.work / "report.txt"
        report.write_text(f"{-signal.SIGKILL} 0 0 0")  # what stands there if the patience ends
        launch = [sys.executable, "-IS", str(Path(__file__).parent / "pull" / "launch.py"), str(report)]
        load = os.getloadavg()[0]
        with (self.work / "output.txt").open("wb") as output:
            process = subprocess.Popen(
                [*launch, *command],
                env=environment,
                stdout=output,
                stderr=output,
                cwd=self.work,
                start_new_session=True,
            )
            watchdog = threading.Timer(_PATIENCE, os.killpg, (process.pid, signal.SIGKILL))
            watchdog.start()
            process.wait()
            watchdog.cancel()
        status, wall, cpu, peak = report.read_text().split()
        found = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
        wanted = 0 if peer == "curl" else 0.99 * build.bytes
        if status != "0" or found < wanted:
            tail = (self.work / "output.txt").read_text(errors="replace")[-300:]
            print(f"  {peer}: failed (status {status}, {found} bytes): {tail}", flush=True)
            return None
        version = self.version if peer in (OURS, ALONE) else ""
        return Run(case, transport, peer, build.bytes, float(wall), float(cpu), int(peak), load, version)


def peers(case: str, transport: str, bench: Bench) -> list[str]:
    """Who takes part, we first."""
    found = [OURS, ALONE]
    if shutil.which("gcloud"):
        found.append("gcloud")
    if bench.kserve_python:
        found.append("kserve")
    if bench.peers_python:
        found += ["download_to_filename", "obstore", "obstore_ranged", "opendal"]
        found += [f"transfer_manager:{setting}" for setting in SETTINGS]
    if transport != "tls-held" and case != "4000":
        found.append("curl")
    return found


def version(python: str) -> str:
    """What an interpreter is, as ``Python 3.11.7, OpenSSL 3.0.19``."""
    code = "import platform, ssl; print('Python', platform.python_version() + ',', *ssl.OPENSSL_VERSION.split()[:2])"
    return subprocess.run([python, "-c", code], check=True, capture_output=True, text=True).stdout.strip()


def first_requests(bench: Bench) -> list[Run]:
    """Nine times from the start of our process to the first byte of its first request."""
    runs = []
    for number in range(9):
        out = bench.work / f"first-{number}-{time.time_ns()}"
        command, environment = bench.command(OURS, "http", Build("bench", 0, "", ()), out)
        out.mkdir()
        load = os.getloadavg()[0]
        with socket.create_server(("127.0.0.1", 0)) as listener:
            environment["STORAGE_EMULATOR_HOST"] = f"http://127.0.0.1:{listener.getsockname()[1]}"
            began = time.perf_counter()
            with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as process:
                connection, _ = listener.accept()  # of several that it opens, the first is the one that asks
                connection.settimeout(10)
                byte = connection.recv(1)
                wall = time.perf_counter() - began
                process.kill()
                connection.close()
        if not byte:
            raise RuntimeError("a defect: the first connection asked for nothing")
        shutil.rmtree(out)
        runs.append(Run(FIRST_REQUEST, "http", OURS, 0, wall, 0.0, 0, load, bench.version))
    return runs


def memory(bench: Bench, case: str, transport: str, build: Build) -> int:
    """Run ours once; returns the most bytes that its processes held at a time, what they share counted once (PSS)."""
    out = bench.work / f"memory-{time.time_ns()}"
    out.mkdir()
    command, environment = bench.command(OURS, transport, build, out)
    most, processes = 0, 1
    with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as process:
        while process.poll() is None:
            with contextlib.suppress(OSError):  # one of them has ended
                children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
                rollups = [Path(f"/proc/{pid}/smaps_rollup").read_text() for pid in (process.pid, *children)]
                held = (re.findall(r"^Pss:\s+(\d+) kB", rollup, re.MULTILINE) for rollup in rollups)
                most = max(most, sum(int(kib) * 1024 for found in held for kib in found))
                processes = max(processes, len(rollups))
            time.sleep(0.02)
    shutil.rmtree(out)
    print(f"{case:>4} {transport:8} {processes} processes  {most / _MIB:6.1f} MiB at most", flush=True)
    return most


def read_once(folder: Path) -> None:
    """Read what will be served: the first to run would wait for the disk."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            with path.open("rb", buffering=0) as data:
                while data.read(4 * _MIB):
                    pass


def prime(work: Path, size: int) -> None:
    """Write and delete more than a run will, so that all runs find memory in the same state.

    A virtual machine's host may take free memory back, and give it again page by page: then the first that writes after
    a pause, or after one that doesn't write, would pay for those that follow.
    """
    time.sleep(_SETTLE)
    path = work / "prime"
    piece = bytes(_MIB // 2)  # larger ones would leave the smaller free blocks, which most take first, untouched
    with path.open("wb", buffering=0) as file:
        for _ in range(0, size + _SPARE, len(piece)):
            file.write(piece)
    path.unlink()


def measure(
    bench: Bench,
    *,
    cases: list[str],
    transports: list[str],
    rounds: int,
    only: list[str],
    keep: Callable[[list[Run]], None],
) -> None:
    """All cases over all transports, the peers taking turns in each round."""
    runs: list[Run] = []
    outs: list[Path] = []
    builds = {case: make_build(bench.work / "www", f"bench-{case}", SIZES[case]) for case in cases}
    for case in cases:
        read_once(bench.work / "www" / "data" / builds[case].bucket)
        for transport in transports:
            left = [peer for peer in peers(case, transport, bench) if not only or peer.split(":")[0] in only]
            for number in range(rounds):
                # In another order each round: what a peer leaves behind (memory, mostly) meets another one each time.
                for peer in random.Random(number).sample(left, len(left)):
                    prime(bench.work, builds[case].bytes)
                    out = bench.work / f"out-{time.time_ns()}"
                    run = bench.run(peer, case, transport, builds[case], out)
                    if len(builds[case].names) < _MANY_FILES:
                        shutil.rmtree(out)
                    else:
                        outs.append(out)
                    if run is None:
                        left.remove(peer)
                        continue
                    runs.append(run)
                    keep(runs)
                    rate = run.size / run.wall / 1e6
                    print(
                        f"{case:>4} {transport:8} round {number + 1} {peer:32} {run.wall:7.2f} s {rate:6.0f} MB/s "
                        f"cpu {run.cpu:6.2f} s  peak {run.peak / _MIB:6.0f} MiB  load {run.load:.1f}",
                        flush=True,
                    )
    for out in outs:
        shutil.rmtree(out)


def main() -> None:
    """Measure, keep, print, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder for data, results and what is pulled (30 GiB)")
    parser.add_argument("--python", default=sys.executable, help="the Python that ours runs in; default: this one")
    parser.add_argument("--kserve-python", default="", help="a Python that has kserve-storage")
    parser.add_argument(
        "--peers-python", default="", help="a Python that has google-cloud-storage, obstore and opendal"
    )
    parser.add_argument("--cases", nargs="*", default=list(CASES), choices=list(CASES))
    parser.add_argument("--transports", nargs="*", default=list(TRANSPORTS), choices=list(TRANSPORTS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", nargs="*", default=[], help="peers, by name; default: all")
    parser.add_argument(
        "--server-cores", default="", help="where nginx runs, as 4-15; the rest runs where taskset put this script"
    )
    parser.add_argument("--memory", action="store_true", help="only measure the memory of all our processes together")
    parser.add_argument("--plot", type=Path, help="draw the SVG here")
    parser.add_argument("--table", action="store_true", help="measure nothing, only print what is there")
    parser.add_argument("--write", type=Path, help="put the tables into this page, between its markers")
    arguments = parser.parse_args()
    work = arguments.work.resolve()
    (work / "www").mkdir(parents=True, exist_ok=True)
    kept = work / "results.json"
    runs = [Run(**run) for run in json.loads(kept.read_text())] if kept.exists() else []
    if not arguments.table:
        for case in arguments.cases:
            make_build(work / "www", f"bench-{case}", SIZES[case])
        with serve(work / "www", arguments.server_cores) as servers:
            python, peers_python = arguments.python, arguments.peers_python
            bench = Bench(work, servers, python, version(python), arguments.kserve_python, peers_python)
            if arguments.memory:
                for case in arguments.cases:
                    for transport in arguments.transports:
                        memory(bench, case, transport, make_build(work / "www", f"bench-{case}", SIZES[case]))
                return
            before = runs + first_requests(bench)

            def keep(new: list[Run]) -> None:
                runs[:] = before + new
                kept.write_text(json.dumps([asdict(run) for run in runs]))

            keep([])
            measure(
                bench,
                cases=arguments.cases,
                transports=arguments.transports,
                rounds=arguments.rounds,
                only=arguments.only,
                keep=keep,
            )
    text = tables(runs)
    print(text)
    if arguments.write:
        write(arguments.write, text)
    if arguments.plot:
        arguments.plot.write_text(draw(runs))


if __name__ == "__main__":
    main()
