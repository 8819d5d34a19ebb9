"""Thousands of small categories: with files of their own, and with files that they share (--exact-items).

    python -m benchmarks.bench_small [--rounds 3]

Made-up vectors of 512 numbers become a build with the batch's own command, on the bucket server of the local stack; the
puller pulls it, and a server of one worker answers from it. tasks: of `build`, which Argo and Kubeflow fan out over.
build: seconds of the step, uploads included. ready: from the server's start, pulled already. What
the worker holds is its own (RssAnon). Medians of the rounds, which alternate.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.bench_engines import embeddings
from benchmarks.bench_pod import children, held
from embedding_batch.config import EXACT_ITEMS
from embedding_batch.state.folder import RunFolder
from local_stack import bucket_server, processes
from model_repository.bucket.gcs_store import GcsStore
from model_repository.names import IndexPrefix
from model_repository.repository import read_build
from tests.search_server.conftest import Server

_BUCKET = "small"
_SHAPES = ((5000, 1), (300, 100))
"""Categories, and items of each."""
_DIMENSIONS = 512
_ASKED = 50
_COLUMNS = ("tasks", "objects", "MB", "build, s", "pull, s", "ready, s", "worker, MiB", "in one, ms", "in all, ms")


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    found: dict[tuple[int, int, int], list[tuple[float, ...]]] = defaultdict(list)
    with tempfile.TemporaryDirectory(prefix="bench-small-") as name:
        folder = Path(name)
        vectors = {shape: _vectors(folder, *shape) for shape in _SHAPES}
        for number in range(options.rounds):
            for shape in _SHAPES:
                for exact_items in (0, EXACT_ITEMS):
                    work = folder / f"{number}-{shape[0]}-{exact_items}"
                    work.mkdir()
                    found[(*shape, exact_items)].append(_measure(work, vectors[shape], exact_items))
    print(f"| categories | items of each | --exact-items | {' | '.join(_COLUMNS)} |")
    print("|---" * (3 + len(_COLUMNS)) + "|")
    for what, rounds in found.items():
        medians = [statistics.median(column) for column in zip(*rounds, strict=True)]
        shown = " | ".join(f"{value:.1f}" if value % 1 else f"{value:,.0f}" for value in medians)
        print(f"| {' | '.join(map(str, what))} | {shown} |", flush=True)


def _vectors(folder: Path, categories: int, items: int) -> Path:
    path, count = folder / f"{categories}.parquet", categories * items
    names = [f"category-{number % categories:04}" for number in range(count)]
    flat = pa.array(embeddings(count, _DIMENSIONS, seed=1).reshape(-1))
    columns = {
        "id": [f"item-{number:06}" for number in range(count)],
        "category": names,
        "vector": pa.FixedSizeListArray.from_arrays(flat, _DIMENSIONS),
    }
    pq.write_table(pa.table(columns), path)
    return path


def _measure(work: Path, vectors: Path, exact_items: int) -> tuple[float, ...]:
    port = processes.free_port()  # a server of its own: it keeps what it was given in memory
    bucket = processes.RunningProgram.start(bucket_server.program(work / "bucket", work / "log", port, None))
    try:
        bucket.wait_ready()
        url = f"http://127.0.0.1:{port}"
        bucket_server.create_bucket(url, _BUCKET)
        os.environ["STORAGE_EMULATOR_HOST"] = url
        report = _batch(work, vectors, exact_items)
        store, prefix = GcsStore(_BUCKET), IndexPrefix.parse(report["index_prefix"])
        build = read_build(store, prefix)
        tasks = RunFolder(store, prefix).recorded("collect")["parts"]
        size = sum(file.size for file in build.manifest.files)
        pulled = _pull(work, prefix, build.digest)
        served = _serve(work, prefix, build.digest)
    finally:
        bucket.stop()
    return (
        tasks,
        len(build.manifest.files) + 1,
        round(size / 1e6),
        round(report["seconds"]["build"], 1),
        pulled,
        *served,
    )


def _batch(work: Path, vectors: Path, exact_items: int) -> dict[str, Any]:
    command = [sys.executable, "-m", "embedding_batch", "index", "--vectors", str(vectors), "--index", "small"]
    command += ["--environment", "bench", "--no-commit", "--cache", str(work / "cache")]
    command += ["--repository", f"gs://{_BUCKET}", "--exact-items", str(exact_items)]
    report: dict[str, Any] = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    return report


def _pull(work: Path, prefix: IndexPrefix, digest: str) -> float:
    environment = {"MODEL_REPOSITORY": f"gs://{_BUCKET}", "INDEX_PREFIX": str(prefix), "INDEX_DIGEST": digest}
    environment |= {"DESTINATION": str(work / "current"), "PROGRESS_SECONDS": "0"}
    begun = time.perf_counter()
    command = [sys.executable, "-m", "init_container"]
    subprocess.run(command, env={**os.environ, **environment}, check=True, capture_output=True)
    return round(time.perf_counter() - begun, 1)


def _serve(work: Path, prefix: IndexPrefix, digest: str) -> tuple[float, ...]:
    environment: Mapping[str, str] = {
        "DATA": str(work / "current"),
        "COMMIT_GENERATION": "1",
        "INDEX_PREFIX": str(prefix),
        "INDEX_DIGEST": digest,
        "HOST": "127.0.0.1",
        "TERMINATION_LOG": str(work / "termination"),
        "DRAIN_SECONDS": "0",
        "WORKERS": "1",
    }
    server = Server(environment)
    begun = time.perf_counter()
    server.start()
    try:
        server.wait_ready()
        ready = round(time.perf_counter() - begun, 1)
        most = max(map(held, children(server.process.pid if server.process else 0)))
        return ready, most, *(_search(server, of) for of in (f"&category={quote('category-0007')}", ""))
    finally:
        server.stop()


def _search(server: Server, where: str) -> float:
    """The median in milliseconds."""
    taken = []
    for _ in range(_ASKED):
        begun = time.perf_counter()
        with urllib.request.urlopen(f"{server.url}/v1/items/item-000007/similar?k=10{where}") as answer:
            answer.read()
        taken.append((time.perf_counter() - begun) * 1000)
    return round(statistics.median(taken), 1)


if __name__ == "__main__":
    main()
