"""Polite downloads, as the host sees them: 10,000 URLs of one host, of which one in a hundred misbehaves, asked twice.

    python -m benchmarks.bench_downloads [--pictures 10000] [--rate 200] [--connections 8] [--bytes 30000]

The host is a real HTTP server in a process of its own. It notes when each request arrives; "most in any second" is the
most arrivals that any window of one second holds, wherever it begins, by those notes. Of each 500 URLs five misbehave:
one answers 503 with Retry-After: 1 twice, one cuts the connection twice, one breaks off within a picture, one doesn't
answer the first time, and one fails for good (404, 503 or a cut connection, in turn). In the second run nothing has
changed on the host. The rows "as fast as it can" are of the same pictures without misbehaviour and without a limit.
"""

from __future__ import annotations

import argparse
import hashlib
import multiprocessing
import resource
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from embedding_batch.pictures import Fetched, Picture, Politeness, fetch
from model_repository.bucket.store import Store
from tests.embedding_batch.picture_host import (
    PictureHost,
    Step,
    cut_short,
    hosting,
    most_in,
    reset,
    silence,
    status,
)

_PATIENCE = 5.0
_UNLIMITED = 1e6


@dataclass(frozen=True, slots=True)
class Seen:
    """By the host. pictures: requests for one. conditional: of them.

    connections: most that the client had open at once, by its sockets, whenever somebody looked.
    """

    pictures: int
    conditional: int
    robots: int
    most_in_a_second: int
    body_bytes: int
    connections: int


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=10_000)
    parser.add_argument("--rate", type=float, default=200.0)
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--bytes", type=int, default=30_000)
    options = parser.parse_args()
    print(
        "| run | seconds | CPU s | requests | conditional | robots.txt | most in any second | most connections "
        "| MB of pictures | new | unchanged | reasons |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|---|---|")
    polite = Politeness(
        requests_a_second=options.rate,
        connections_a_host=options.connections,
        whole_seconds=_PATIENCE,
        longest_pause=10,
    )
    quick = Politeness(requests_a_second=_UNLIMITED, connections_a_host=options.connections)
    reasons: list[str] = []
    for name, politeness, misbehaves in (("", polite, True), (", as fast as it can", quick, False)):
        begin, host = _started(options.pictures, options.bytes, misbehaves=misbehaves)
        first = _run(
            f"first{name}", [Picture(f"{begin}/{n}.jpg", None) for n in range(options.pictures)], politeness, host
        )
        known = [Picture(one.picture.uri, None, one.etag, one.modified, one.sha256) for one in first if one.sha256]
        _run(f"second{name}", known, politeness, host)
        host.send(None)
        for reason, count in Counter(one.reason for one in first if one.reason).items():
            reasons.append(f"{count} x {reason}")
    print("", *reasons, sep="\n- ")
    print(f"\nPeak memory of the client: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB")


def _run(name: str, pictures: Sequence[Picture], politeness: Politeness, host: Connection) -> list[Fetched]:
    begun, begun_cpu = time.monotonic(), time.process_time()
    found, wrong = [], 0
    for one in fetch(pictures, politeness=politeness, open_bucket=_no_bucket):
        if one.data is not None:
            wrong += hashlib.sha256(one.data).digest() != one.sha256
            wrong += one.data != _body(one.picture.uri[one.picture.uri.rindex("/") :], len(one.data))
        found.append(Fetched(one.picture, one.sha256, b"" if one.data else None, one.etag, one.modified, one.reason))
    seconds, cpu = time.monotonic() - begun, time.process_time() - begun_cpu
    host.send("report")
    seen: Seen = host.recv()
    new = sum(one.data is not None for one in found)
    reasons = sum(one.reason is not None for one in found)
    print(
        f"| {name} | {seconds:.1f} | {cpu:.1f} | {seen.pictures} | {seen.conditional} | {seen.robots} "
        f"| {seen.most_in_a_second} | {seen.connections} | {seen.body_bytes / 1e6:.1f} "
        f"| {new} | {len(found) - new - reasons} | {reasons} |",
        flush=True,
    )
    if wrong or len(found) != len(pictures):
        raise SystemExit(f"{wrong} pictures with other bytes; {len(found)} answers for {len(pictures)} pictures")
    return found


def _no_bucket(name: str) -> Store:
    raise LookupError(name)


def _body(path: str, size: int) -> bytes:
    digest = hashlib.sha256(path.encode()).digest()
    return (digest * (size // len(digest) + 1))[:size]


def _started(pictures: int, size: int, *, misbehaves: bool) -> tuple[str, Connection]:
    """The host's URL, and what it is asked for its notes with."""
    context = multiprocessing.get_context("spawn")
    ours, its = context.Pipe()
    context.Process(target=_serve, args=(its, pictures, size, misbehaves), daemon=True).start()
    return str(ours.recv()), ours


def _serve(asked: Connection, pictures: int, size: int, misbehaves: bool) -> None:  # noqa: FBT001 - a process's target
    with hosting() as host:
        seen_connections: list[int] = []
        host.body = lambda path: _body(path, size)
        host.watch = lambda: _look(host, seen_connections)
        if misbehaves:
            _misbehave(host, pictures, size)
        asked.send(host.url("").removesuffix("/"))
        while asked.recv() is not None:
            asked_for = [arrival for arrival in host.arrivals if arrival.path != "/robots.txt"]
            asked.send(
                Seen(
                    len(asked_for),
                    sum("If-None-Match" in arrival.headers for arrival in asked_for),
                    len(host.arrivals) - len(asked_for),
                    most_in(1.0, host.arrivals),
                    host.body_bytes,
                    max(seen_connections, default=0),
                )
            )
            host.arrivals.clear()
            seen_connections.clear()
            host.body_bytes = 0


def _look(host: PictureHost, seen_connections: list[int]) -> None:
    if len(host.arrivals) % 50 == 0:  # it takes as long as some requests
        seen_connections.append(_open_connections(host.port))


def _open_connections(port: int) -> int:
    """How many connections to this port this machine has open: sockets that are connected and not yet closed."""
    lines = [line.split() for line in Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()[1:]]
    return sum(int(fields[2].rpartition(":")[2], 16) == port and fields[3] == "01" for fields in lines)


def _misbehave(host: PictureHost, pictures: int, size: int) -> None:
    for_good: list[Step] = [status(404), status(503), reset]
    for turn, begin in enumerate(range(0, pictures, 500)):
        host.paths[f"{begin}.jpg"] = [status(503, {"Retry-After": "1"})] * 2
        host.paths[f"{begin + 100}.jpg"] = [reset, reset]
        host.paths[f"{begin + 200}.jpg"] = [cut_short(size // 2, size)]
        host.paths[f"{begin + 300}.jpg"] = [silence]
        host.always[f"{begin + 400}.jpg"] = for_good[turn % len(for_good)]


if __name__ == "__main__":
    main()
