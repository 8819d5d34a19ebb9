"""What the search server adds to Annoy: queries a second of one core, beside Annoy in a bare loop, in the same run.

    python -m benchmarks.bench_search [--items 100000] [--dimensions 512] [--trees 20] [--seconds 1] [--rounds 20]

Makes an index (cached in build/bench-search), starts all servers, then alternates short rounds of the bare loop and of
each server, all pinned to one core, the load generator (wrk, 16 kept-alive connections) to another. Peers answer the
same question from the same file with the same answer, ids in a dict: FastAPI as in its tutorial, Flask under gunicorn,
and bare ASGI on uvicorn and on granian. Needs wrk (apt-get install wrk), and the packages of the group dev.

Use a Python that was built with optimisation, such as Debian's: `sysconfig.get_config_var("CONFIG_ARGS")` should have
--enable-optimizations. One built without it, as pyenv does unasked, takes twice as long for everything but the search.

Printed for each: queries a second by the clock, and queries for each second of CPU that the process had. On a machine
that others use too, the second figure is the fair one; the ratio to the bare loop of the same round is given for both.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from annoy import AnnoyIndex
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from image_embedder import Embedder, preprocess
from model_repository.digests import sha256_digest
from model_repository.documents.files import File
from model_repository.documents.index_manifest import (
    GoldenQuery,
    ModelReference,
    format_index_manifest,
)
from model_repository.documents.item_ids import encode_item_ids, encode_item_lookup
from model_repository.documents.model_manifest import GoldenImage, ModelInput, format_model_manifest
from model_repository.names import IndexPrefix, ModelPrefix
from tests import builds

K = 20
PORT = 18400
SERVER_CORE, LOAD_CORE = 0, 1
PREFIX, MODEL = IndexPrefix("bench", "1"), ModelPrefix("bench", "1")
PATIENCE_SECONDS = 60

PEER = """
import os
from annoy import AnnoyIndex
dimensions, trees = map(int, os.environ["SHAPE"].split())
annoy = AnnoyIndex(dimensions, "angular")
annoy.load(os.environ["ANNOY"])
ids = [f"item-{n:07d}" for n in range(annoy.get_n_items())]
position = {item: n for n, item in enumerate(ids)}
def similar(item, k):
    own = position[item]
    found, distances = annoy.get_nns_by_item(own, k + 1, trees * k, include_distances=True)
    return {"item": item, "category": "all", "generation": 1, "neighbors": [
        {"id": ids[n], "category": "all", "score": 1 - d * d / 2, "distance": d}
        for n, d in zip(found, distances) if n != own][:k]}
"""

UVICORN = """
uvicorn.run(app, port=int(os.environ["PORT"]), http="httptools", loop="uvloop", access_log=False, log_level="warning")
"""

FASTAPI = f"""{PEER}
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel
class Neighbor(BaseModel):
    id: str
    category: str
    score: float
    distance: float
class Answer(BaseModel):
    item: str
    category: str
    generation: int
    neighbors: list[Neighbor]
app = FastAPI()
@app.get("/v1/items/{{item}}/similar")
async def route(item: str, k: int = 10) -> Answer:
    return similar(item, k)
{UVICORN}"""

ASGI = f"""{PEER}
import orjson, uvicorn
async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    body = orjson.dumps(similar(scope["path"].split("/")[3], int(scope["query_string"][2:])))
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({{"type": "http.response.start", "status": 200, "headers": headers}})
    await send({{"type": "http.response.body", "body": body}})
{UVICORN}"""

GRANIAN = f"""{PEER}
import orjson
async def app(scope, receive, send):
    body = orjson.dumps(similar(scope["path"].split("/")[3], int(scope["query_string"][2:])))
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({{"type": "http.response.start", "status": 200, "headers": headers}})
    await send({{"type": "http.response.body", "body": body}})
"""

FLASK = f"""{PEER}
from flask import Flask, jsonify, request
app = Flask(__name__)
@app.get("/v1/items/<item>/similar")
def route(item):
    return jsonify(similar(item, int(request.args["k"])))
"""


@dataclass
class Contestant:
    """clock, cpu: queries a second of each round, by the clock and for each second of CPU."""

    name: str
    command: list[str]
    port: int = 0
    environment: dict[str, str] = field(default_factory=dict)
    clock: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    def note(self, clock: float, cpu: float) -> None:
        """Add a round."""
        self.clock.append(clock)
        self.cpu.append(cpu)


def make_data(folder: Path, items: int, dimensions: int, trees: int) -> dict[str, str]:
    """An index of random clusters as the server wants it, beside a model that embeds to as many dimensions."""
    index, model = folder / "index", folder / str(MODEL)
    annoy = folder / "vectors.ann"
    if not annoy.exists():
        folder.mkdir(parents=True, exist_ok=True)
        print(f"building {items} x {dimensions}, {trees} trees ...", flush=True)
        _write_annoy(annoy, items, dimensions, trees)
    # Only Annoy's file takes long; what is written beside it follows today's contract, whenever that one was made.
    for part in (index, model):
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
    (index / "all.ann").hardlink_to(annoy)
    ids = [f"item-{n:07d}" for n in range(items)]
    (index / "all.ids").write_bytes(encode_item_ids(ids))
    (index / "items.lookup").write_bytes(encode_item_lookup([ids]))
    manifest = builds.index_manifest(
        PREFIX,
        _write_model(model, dimensions),
        partitions=(
            builds.partition(
                category="all", items=items, file="all.ann", ids="all.ids", dimensions=dimensions, width=trees * 10
            ),
        ),
        golden_queries=(_golden(annoy, dimensions),),
        files=_files(index),
    )
    (index / "index.json").write_bytes(format_index_manifest(manifest))
    digest = sha256_digest((index / "index.json").read_bytes())
    return {"DATA": str(folder), "COMMIT_GENERATION": "1", "INDEX_PREFIX": str(PREFIX), "INDEX_DIGEST": digest}


def _write_annoy(path: Path, items: int, dimensions: int, trees: int) -> None:
    rng = np.random.default_rng(1)
    centres = rng.standard_normal((max(items // 200, 1), dimensions)).astype(np.float32)
    annoy = AnnoyIndex(dimensions, "angular")
    annoy.set_seed(1)
    for n in range(items):
        annoy.add_item(n, centres[n % len(centres)] + rng.standard_normal(dimensions).astype(np.float32))
    annoy.build(trees, n_jobs=1)
    unfinished = path.with_suffix(".part")
    annoy.save(str(unfinished))
    unfinished.rename(path)


def _golden(path: Path, dimensions: int) -> GoldenQuery:
    annoy = AnnoyIndex(dimensions, "angular")
    annoy.load(str(path))
    found, distances = annoy.get_nns_by_item(0, 10, -1, include_distances=True)
    return GoldenQuery("all", "item-0000000", tuple(f"item-{n:07d}" for n in found), tuple(distances))


def _write_model(folder: Path, dimensions: int) -> ModelReference:
    """One matrix after an average pool: nothing is asked of it but the golden image."""
    size = 32
    matrix = np.random.default_rng(2).standard_normal((48, dimensions)).astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("AveragePool", ["in"], ["pooled"], kernel_shape=[8, 8], strides=[8, 8]),
            helper.make_node("Flatten", ["pooled"], ["flat"]),
            helper.make_node("MatMul", ["flat", "matrix"], ["wide"]),
            helper.make_node("LpNormalization", ["wide"], ["out"], axis=1, p=2),
        ],
        "bench",
        [helper.make_tensor_value_info("in", TensorProto.FLOAT, ["N", 3, size, size])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, ["N", dimensions])],
        [numpy_helper.from_array(matrix, "matrix")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    Image.new("RGB", (64, 64), (200, 90, 30)).save(folder / "golden.png")
    picture = preprocess((folder / "golden.png").read_bytes(), ModelInput(size))[np.newaxis]
    Embedder(folder / "model.onnx", threads=1).embed(picture)[0].astype("<f4").tofile(folder / "golden.f32")
    manifest = builds.model_manifest(
        MODEL,
        input=ModelInput(size),
        dimensions=dimensions,
        golden_images=(GoldenImage("golden.png", "golden.f32"),),
        files=_files(folder),
    )
    (folder / "model.json").write_bytes(format_model_manifest(manifest))
    return builds.model_reference(manifest)


def _files(folder: Path) -> tuple[File, ...]:
    return tuple(File(p.name, p.stat().st_size, "AAAAAA==") for p in sorted(folder.iterdir()))


def bare_loop(annoy: AnnoyIndex, trees: int, seconds: float) -> tuple[float, float]:
    """Queries a second of get_nns_by_item and nothing else, by the clock and for each second of CPU."""
    items = annoy.get_n_items()
    count, begun, cpu = 0, time.perf_counter(), time.process_time()
    while time.perf_counter() - begun < seconds:
        for item in random.choices(range(items), k=200):
            annoy.get_nns_by_item(item, K, trees * K, include_distances=True)
        count += 200
    return count / (time.perf_counter() - begun), count / (time.process_time() - cpu)


def cpu_seconds(pid: int) -> float:
    """CPU seconds of a process, its children and all their threads so far, to the nanosecond."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    tasks = [task for process in (pid, *map(int, children)) for task in Path(f"/proc/{process}/task").iterdir()]
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


def load(script: Path, seconds: float, port: int, pid: int) -> tuple[float, float]:
    """Queries a second of a server, asked by wrk; leaves if any answer wasn't 200."""
    before, begun = cpu_seconds(pid), time.perf_counter()
    wrk = ["wrk", "-t1", "-c16", f"-d{seconds:g}s", "-s", str(script), f"http://127.0.0.1:{port}"]
    report = subprocess.run(["taskset", "-c", str(LOAD_CORE), *wrk], check=True, capture_output=True, text=True).stdout
    elapsed, spent = time.perf_counter() - begun, cpu_seconds(pid) - before
    if "Non-2xx" in report or "Socket errors" in report:
        raise SystemExit(report)
    requests = int(re.findall(r"(\d+) requests in", report)[0])
    return requests / elapsed, requests / spent


@contextmanager
def running(contestant: Contestant, script: Path) -> Iterator[int]:
    """A server, pinned, asked once to see that it answers as it should, and warmed up; gives its pid."""
    process = subprocess.Popen(
        ["taskset", "-c", str(SERVER_CORE), *contestant.command],
        env={**os.environ, **contestant.environment, "PORT": str(contestant.port)},
        stderr=subprocess.DEVNULL,
    )
    try:
        answer = _first_answer(f"http://127.0.0.1:{contestant.port}/v1/items/item-0000000/similar?k={K}", process)
        if len(answer["neighbors"]) != K:
            raise SystemExit(f"{contestant.name} answered {answer}")
        load(script, 1, contestant.port, process.pid)
        yield process.pid
    finally:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _first_answer(url: str, process: subprocess.Popen[bytes]) -> dict[str, list[object]]:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                body: dict[str, list[object]] = json.loads(answer.read())
                return body
        except OSError:
            if time.monotonic() > deadline or process.poll() is not None:
                raise
            time.sleep(0.05)


def contestants(scratch: Path, environment: dict[str, str], shape: tuple[int, int], *, peers: bool) -> list[Contestant]:
    """The server first, then its peers."""
    python = sys.executable
    ours = {**environment, "HOST": "127.0.0.1", "DRAIN_SECONDS": "0", "TERMINATION_LOG": "/dev/null"}
    found = [Contestant("search_server", [python, "-m", "search_server"], PORT, ours)]
    if peers:
        for name, source in (
            ("asgi", ASGI),
            ("granian_peer", GRANIAN),
            ("fastapi_peer", FASTAPI),
            ("flask_peer", FLASK),
        ):
            (scratch / f"{name}.py").write_text(source)
        theirs = {"ANNOY": f"{environment['DATA']}/index/all.ann", "SHAPE": f"{shape[0]} {shape[1]}"}
        gunicorn = ["gunicorn", "--workers=1", "--threads=16", "--worker-class=gthread", "--keep-alive=60"]
        gunicorn += [f"--bind=127.0.0.1:{PORT + 3}", f"--chdir={scratch}", "flask_peer:app"]
        granian = ["granian", "--interface=asgi", "--loop=uvloop", "--no-ws", "--host=127.0.0.1"]
        granian += [f"--port={PORT + 4}", f"--working-dir={scratch}", "granian_peer:app"]
        found += [
            Contestant("ASGI on uvicorn", [python, str(scratch / "asgi.py")], PORT + 1, theirs),
            Contestant("ASGI on granian", [python, "-m", *granian], PORT + 4, theirs),
            Contestant("FastAPI", [python, str(scratch / "fastapi_peer.py")], PORT + 2, theirs),
            Contestant("Flask, gunicorn", [python, "-m", *gunicorn], PORT + 3, theirs),
        ]
    return found


def measure(options: argparse.Namespace, scratch: Path) -> float:
    """Alternate all contestants, print the table, and give our ratio to the bare loop by CPU."""
    name = f"{options.items}x{options.dimensions}x{options.trees}"
    data = Path(__file__).resolve().parent.parent / "build" / "bench-search" / name
    environment = make_data(data, options.items, options.dimensions, options.trees)
    script = scratch / "ask.lua"
    script.write_text(
        "math.randomseed(os.time())\nrequest = function() return wrk.format('GET', string.format("
        f"'/v1/items/item-%07d/similar?k={K}', math.random(0, {options.items - 1}))) end\n"
    )
    shape = (options.dimensions, options.trees)
    servers = contestants(scratch, environment, shape, peers=not options.no_peers)
    bare = Contestant("Annoy in a loop", [])
    annoy = AnnoyIndex(options.dimensions, "angular")
    annoy.load(str(data / "index" / "all.ann"))
    os.sched_setaffinity(0, {SERVER_CORE})
    bare_loop(annoy, options.trees, 1)
    with ExitStack() as stack:
        pids = [stack.enter_context(running(server, script)) for server in servers]
        for _ in range(options.rounds):
            bare.note(*bare_loop(annoy, options.trees, options.seconds))
            for server, pid in zip(servers, pids, strict=True):
                server.note(*load(script, options.seconds, server.port, pid))
    print(
        f"{name} (items, dimensions, trees), k={K}, one core, Python {sys.version.split()[0]}; {options.rounds} rounds"
    )
    print(f"{'medians':18}{'queries/s':>10}{'ratio':>7}{'per CPU s':>11}{'ratio':>7}")
    for each in (bare, *servers):
        clock, cpu = ratio(each.clock, bare.clock), ratio(each.cpu, bare.cpu)
        middle = statistics.median(each.clock), statistics.median(each.cpu)
        print(f"{each.name:18}{middle[0]:>10.0f}{clock:>7.2f}{middle[1]:>11.0f}{cpu:>7.2f}")
    return ratio(servers[0].cpu, bare.cpu)


def ratio(these: list[float], those: list[float]) -> float:
    """The median of the ratios, round by round."""
    return statistics.median(a / b for a, b in zip(these, those, strict=True))


def main() -> None:
    """Measure, print, and fail below the ratio that is asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--dimensions", type=int, default=512)
    parser.add_argument("--trees", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=1)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--no-peers", action="store_true")
    parser.add_argument("--at-least", type=float, default=0.0, help="fail below this ratio by CPU")
    options = parser.parse_args()
    if shutil.which("wrk") is None:
        raise SystemExit("bench_search needs wrk, which asks the servers: apt-get install wrk")
    with tempfile.TemporaryDirectory() as scratch:
        found = measure(options, Path(scratch))
    if found < options.at_least:
        raise SystemExit(f"search_server: {found:.2f} of Annoy in a loop, at least {options.at_least} is asked for")


if __name__ == "__main__":
    main()
