"""A marketplace's size on one machine: what a run of the batch takes in seconds and memory, by step.

    python -m benchmarks.bench_size [--items 3000000] [--dimensions 512] [--categories 8] [--folder DIR]

A bucket server on this machine has the list and the embeddings of a run before, of made-up pictures.
The run that is measured finds all of them known, and lists, compares, builds, checks, publishes and commits. Memory is
that of the program and all of its processes, sampled ten times a second: what it holds itself, and pages of files that
are mapped, which the kernel takes back when others need them.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path

import numpy as np
import onnx
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from benchmarks.bench_engines import embeddings
from embedding_batch.config import Config
from embedding_batch.run import Run
from embedding_batch.state.features import DIGEST_BYTES, Features
from embedding_batch.state.items import CATEGORY
from embedding_batch.state.tables import write_table
from embedding_batch.steps.models import new_model, own_model, publish_model
from local_stack import bucket_server, processes
from model_repository.documents.model_manifest import ModelInput
from model_repository.gcs_store import GcsStore
from model_repository.names import IndexPrefix, ModelPrefix, Target

BUCKET = "size"
MODEL = ModelPrefix("made-up", "1")
_AT_ONCE = 100_000


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=3_000_000)
    parser.add_argument("--dimensions", type=int, default=512)
    parser.add_argument("--categories", type=int, default=8)
    parser.add_argument("--engine", default="annoy")
    parser.add_argument("--folder", type=Path, help="where there is room for 20 GB (a temporary one)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-size-", dir=options.folder) as name, _bucket(Path(name)):
        folder = Path(name)
        _prepare(folder, options.items, options.dimensions, options.categories)
        for title, more in (("copies of the embeddings come from the bucket", ()), ("they are on the disk", ())):
            measured, status = _measure(folder, options.engine, more)
            print(
                f"\n{options.items:,} items x {options.dimensions}, {options.engine}; {title}; exit status {status}\n"
            )
            print("| step | seconds | MiB held | MiB with mapped files |")
            print("|---|---|---|---|")
            for step, one in measured.items():
                print(f"| {step} | {one.seconds:.1f} | {one.held / 1024:,.0f} | {one.resident / 1024:,.0f} |")


@contextmanager
def _bucket(folder: Path) -> Iterator[None]:
    port = processes.free_port()
    server = processes.RunningProgram.start(bucket_server.program(folder / "bucket", folder / "log", port, None))
    try:
        server.wait_ready()
        os.environ["STORAGE_EMULATOR_HOST"] = f"http://127.0.0.1:{port}"
        bucket_server.create_bucket(os.environ["STORAGE_EMULATOR_HOST"], BUCKET)
        yield
    finally:
        server.stop()


def _prepare(folder: Path, items: int, dimensions: int, categories: int) -> None:
    """The list and the embeddings that a run before left, and today's list, which is the same."""
    store = GcsStore(BUCKET)
    (folder / "scratch").mkdir()
    network = folder / "model.onnx"
    _write_network(network, dimensions)
    model = own_model(network, MODEL.model, MODEL.version, ModelInput(32), normalised=True, least_cosine=0.99)
    picture = BytesIO()
    Image.new("RGB", (32, 32), "teal").save(picture, "JPEG")
    publish_model(store, model, new_model(model, [picture.getvalue()], datetime.now(UTC)))
    target = Target("production", "shop")
    config = Config(f"gs://{BUCKET}", target, IndexPrefix("shop", "yesterday"), folder / "first-cache")
    run = Run(config, store, GcsStore, folder / "scratch", datetime.now(UTC), lambda _: None)
    features = run.features(model)
    random = np.random.default_rng(1)
    digests: list[bytes] = []
    for start in range(0, items, _AT_ONCE):
        count = min(_AT_ONCE, items - start)
        of = [random.bytes(DIGEST_BYTES) for _ in range(count)]
        features.write(Features(tuple(of), embeddings(count, dimensions, seed=start + 1).astype(np.float16)))
        digests += of
    ids = pa.array([f"item-{number:08}" for number in range(items)])
    codes = pa.array(random.integers(0, categories, items, np.int32))
    category = pa.DictionaryArray.from_arrays(codes, [f"category {number}" for number in range(categories)])
    pictures = pa.array([f"/srv/pictures/{number % 1000:03}/{number:08}.jpg" for number in range(items)])
    versions = pa.array(["24601-1732000000000000000"] * items)
    nothing = pa.nulls(items, pa.string())
    said = {"id": ids, "category": category.cast(pa.string()), "picture": pictures, "version": versions}
    pq.write_table(pa.table(said), folder / "catalogue.parquet")
    known = said | {
        "category": category.cast(CATEGORY),
        "tags": pa.nulls(items, pa.list_(pa.string())),
        "etag": nothing,
        "modified": nothing,
        "looked": pa.array(np.full(items, int(time.time()))),
        "sha256": pa.array(digests, pa.binary(DIGEST_BYTES)),
        "reason": nothing,
    }
    write_table(store, run.folder.catalogue, pa.table(known), folder / "scratch")


def _write_network(path: Path, dimensions: int) -> None:
    weights: NDArray[np.float32] = np.random.default_rng(2).normal(size=(3, dimensions)).astype(np.float32)
    nodes = [
        helper.make_node("GlobalAveragePool", ["pictures"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("MatMul", ["flat", "weights"], ["raw"]),
        helper.make_node("LpNormalization", ["raw"], ["embedding"], axis=1, p=2),
    ]
    graph = helper.make_graph(
        nodes,
        "made-up",
        [helper.make_tensor_value_info("pictures", TensorProto.FLOAT, ["N", 3, 32, 32])],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["N", dimensions])],
        [numpy_helper.from_array(weights, "weights")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


@dataclass
class _Step:
    """seconds: as the program says. held, resident: most KiB."""

    seconds: float = 0.0
    held: int = 0
    resident: int = 0


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

    def take(self, into: _Step) -> None:
        """Say what was seen, and begin anew."""
        into.held, into.resident = max(into.held, self.held), max(into.resident, self.resident)
        self.held = self.resident = 0


def _measure(folder: Path, engine: str, more: tuple[str, ...]) -> tuple[dict[str, _Step], int]:
    command = [sys.executable, "-m", "embedding_batch", "run", "--repository", f"gs://{BUCKET}", "--index", "shop"]
    command += ["--environment", "production", "--catalogue", str(folder / "catalogue.parquet"), "--engine", engine]
    command += ["--model", str(MODEL), "--cache", str(folder / "cache"), *more]
    steps: dict[str, _Step] = {}
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as batch:
        sampler = _Sampler(batch.pid)
        thread = threading.Thread(target=sampler.sample)
        thread.start()
        last = ""
        for line in batch.stderr or ():
            last = line
            said = json.loads(line)
            if "seconds" in said:
                step = steps.setdefault(said["step"], _Step())
                step.seconds += said["seconds"]
                sampler.take(step)
        sampler.ended.set()
        thread.join()
    if batch.returncode:
        print(last, file=sys.stderr)
    return steps, batch.returncode


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
             if name in ("VmRSS", "RssAnon")}  # fmt: skip
    return found.get("RssAnon", 0), found.get("VmRSS", 0)


if __name__ == "__main__":
    main()
