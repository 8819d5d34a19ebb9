"""What a pod's processes hold, and when its probes answer, while clients are many or unkind.

    python -m benchmarks.bench_pod memory [--photos 10000]
    python -m benchmarks.bench_pod probes [--items 100000] [--seconds 6]
    python -m benchmarks.bench_pod categories

memory: one worker and a small build with a model that costs nothing; photos of 2 MB, each on a new connection. What a
process holds is its own (RssAnon). probes: an index of Annoy without a model, asked by wrk (apt-get install wrk), while
/livez, /readyz and /metrics are asked on the probes' port, each time on a new connection. categories: builds of 5,000
categories of one item each, of 512 numbers: bytes, what a worker holds, seconds until it is ready, and a search in all.
"""

from __future__ import annotations

import argparse
import http.client
import itertools
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from benchmarks.made_index import item_id, made_index
from model_repository.digests import sha256_digest
from model_repository.documents.index_manifest import Engine, Storage
from tests.search_server.conftest import Server, make_build, picture
from tests.search_server.vector_builds import make_vector_build

_PHOTO_BYTES = 2_000_000
_UNFINISHED_BYTES = 9_900_000
_CATEGORIES = 5000
_PROBES = ("/livez", "/readyz", "/metrics")
_CLIENTS = (
    ("32 at k 1,000", ("-c32",), 1000),
    ("1,000 at k 20", ("-c1000",), 20),
    ("64 that connect anew each time", ("-c64", "-H", "connection: close"), 20),
)


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("memory", "probes", "categories"))
    parser.add_argument("--photos", type=int, default=10_000)
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--seconds", type=int, default=6)
    options = parser.parse_args()
    if options.what == "probes" and shutil.which("wrk") is None:
        sys.exit("wrk isn't installed: apt-get install wrk")
    with tempfile.TemporaryDirectory(prefix="bench-pod-") as name:
        if options.what == "memory":
            _memory(Path(name), options.photos)
        elif options.what == "categories":
            _categories(Path(name))
        else:
            _probes(Path(name), options.items, options.seconds)


def _memory(folder: Path, photos: int) -> None:
    build = make_build(folder / "current")
    server = Server({**build.environment(), "DRAIN_SECONDS": "0", "WORKERS": "1", "TMPDIR": str(folder)})
    server.start()
    photos_sent = itertools.count()

    def photo() -> bytes:
        """Another one each time: what came before is remembered."""
        return picture(1).ljust(_PHOTO_BYTES - 8, b"\0") + next(photos_sent).to_bytes(8)

    try:
        server.wait_ready()
        print("| | supervisor, MiB | worker, MiB | what embeds, MiB |\n|---|---|---|---|")
        _show("ready", server)
        for count in (100, photos):
            for _ in range(count - (100 if count == photos else 0)):
                _post(_connect(server), photo()).close()
            _show(f"{count:,} photos", server)
        idle = [_post(_connect(server), photo()) for _ in range(200)]
        _show("200 idle connections, a photo each", server)
        for each in idle:
            each.close()
        unfinished = [_begin(_connect(server)) for _ in range(40)]
        time.sleep(1)
        _show("40 posts of 10 MB that don't end", server)
        for each in unfinished:
            each.close()
    finally:
        server.stop()


def _connect(server: Server) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), timeout=60)


def _head(size: int) -> bytes:
    fields = f"host: x\r\ncontent-type: image/jpeg\r\ncontent-length: {size}\r\n"
    return f"POST /v1/search?k=5 HTTP/1.1\r\n{fields}\r\n".encode()


def _post(connection: socket.socket, body: bytes) -> socket.socket:
    """Send a photo, and read its whole answer."""
    connection.sendall(_head(len(body)) + body)
    answer = http.client.HTTPResponse(connection)
    answer.begin()
    answer.read()
    if answer.status != http.HTTPStatus.OK:
        raise RuntimeError(f"a photo was answered {answer.status}")
    return connection


def _begin(connection: socket.socket) -> socket.socket:
    connection.settimeout(0.5)
    with suppress(OSError):  # it isn't read any more
        connection.sendall(_head(10_000_000) + bytes(_UNFINISHED_BYTES))
    return connection


def _show(title: str, server: Server) -> None:
    supervisor = server.process.pid if server.process else 0
    own = {"supervisor": held(supervisor), "worker": 0, "child": 0}
    for pid in children(supervisor):
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
        own["worker" if b"search_server.processes.worker" in command else "child"] += held(pid)
    print(f"| {title} | {own['supervisor']} | {own['worker']} | {own['child']} |", flush=True)


def children(pid: int) -> list[int]:
    """Its processes."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def held(pid: int) -> int:
    """MiB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) // 1024 for line in lines if line.startswith("RssAnon"))


def _probes(folder: Path, items: int, seconds: int) -> None:
    data, manifest = made_index(items, 512, Engine.ANNOY, Storage.FLOAT32)
    environment = {
        "DATA": str(data),
        "COMMIT_GENERATION": "1",
        "INDEX_PREFIX": str(manifest.prefix),
        "INDEX_DIGEST": sha256_digest((data / "index" / "index.json").read_bytes()),
        "HOST": "127.0.0.1",
        "WORKERS": "1",
        "TMPDIR": str(folder),
    }
    server = Server(environment)
    server.start()
    try:
        server.wait_ready()
        print("| clients | probes | median, ms | slowest, ms |\n|---|---|---|---|")
        _ask("none", server, 2)
        for title, arguments, k in _CLIENTS:
            url = f"{server.url}/v1/items/{item_id(77)}/similar?k={k}"
            command: Sequence[str] = ("wrk", "-t1", f"-d{seconds + 2}", *arguments, url)
            with subprocess.Popen(command, stdout=subprocess.DEVNULL) as load:
                time.sleep(1)
                _ask(title, server, seconds)
                load.wait()
    finally:
        server.stop()


def _categories(folder: Path) -> None:
    print("| engine | MB of files | worker, MiB | seconds to ready | a search in all, ms |\n|---|---|---|---|---|")
    for kind in ((Engine.ANNOY, Storage.FLOAT32), (Engine.FAISS_HNSW, Storage.INT8)):
        root = folder / kind[0]
        catalogue = {f"category-{number}": 1 for number in range(_CATEGORIES)}
        server = Server(make_vector_build(root, catalogue, 512, kind=kind) | {"WORKERS": "1", "TMPDIR": str(folder)})
        megabytes = sum(file.stat().st_size for file in root.rglob("*") if file.is_file()) / 1e6
        begun = time.perf_counter()
        server.start()
        try:
            server.wait_ready()
            ready = time.perf_counter() - begun
            most = max(map(held, children(server.process.pid if server.process else 0)))
            taken = [_search(server) for _ in range(10)]
        finally:
            server.stop()
        print(
            f"| {kind[0]} | {megabytes:.0f} | {most} | {ready:.1f} | {statistics.median(taken) * 1000:.0f} |",
            flush=True,
        )


def _search(server: Server) -> float:
    begun = time.perf_counter()
    with urllib.request.urlopen(f"{server.url}/v1/items/category-1-0/similar?k=10") as answer:
        answer.read()
    return time.perf_counter() - begun


def _ask(title: str, server: Server, seconds: float) -> None:
    taken, end = [], time.monotonic() + seconds
    while time.monotonic() < end:
        for path in _PROBES:
            begun = time.perf_counter()
            connection = http.client.HTTPConnection("127.0.0.1", server.probe_port, timeout=60)
            connection.request("GET", path)
            answer = connection.getresponse()
            answer.read()
            connection.close()
            if answer.status != http.HTTPStatus.OK:
                raise RuntimeError(f"{path} answered {answer.status}")
            taken.append((time.perf_counter() - begun) * 1000)
        time.sleep(0.02)
    print(f"| {title} | {len(taken)} | {statistics.median(taken):.1f} | {max(taken):.1f} |", flush=True)


if __name__ == "__main__":
    main()
