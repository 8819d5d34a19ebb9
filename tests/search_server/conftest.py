"""A small real build (indexes, ONNX, pictures) in the contract's formats, and the real server as a process."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from onnx import TensorProto, helper
from PIL import Image

from image_embedder import Embedder, preprocess
from local_stack.processes import free_port
from model_repository.digests import sha256_digest
from model_repository.documents.index_manifest import (
    Engine,
    GoldenQuery,
    IndexManifest,
    Storage,
    format_index_manifest,
)
from model_repository.documents.items.item_ids import encode_item_ids, encode_item_lookup
from model_repository.documents.model_manifest import GoldenImage, ModelInput, ModelManifest, format_model_manifest
from model_repository.names import IndexPrefix, ModelPrefix
from tests import builds, plain_http
from vector_index import build_index, open_index

SIZE = 32
DIMENSIONS = 48
PREFIX = IndexPrefix("home-store", "20261121t1200z")
MODEL_PREFIX = ModelPrefix("blocks", "1")
CATALOGUE = {"chairs": 40, "lamps": 25, "tables & desks": 6}


def picture(seed: int, form: str = "JPEG") -> bytes:
    """A picture of 4 x 4 coloured blocks."""
    blocks = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(blocks).resize((64, 64), Image.Resampling.NEAREST).save(file, form)
    return file.getvalue()


def block_model(blocks: int = 4) -> bytes:
    """An ONNX model: the mean colour of so many blocks squared, as a vector of length 1."""
    edge = SIZE // blocks
    middle = helper.make_tensor("middle", TensorProto.FLOAT, [1], [127.0])
    graph = helper.make_graph(
        [
            helper.make_node("AveragePool", ["in"], ["pooled"], kernel_shape=[edge] * 2, strides=[edge] * 2),
            helper.make_node("Flatten", ["pooled"], ["flat"]),
            helper.make_node("Sub", ["flat", "middle"], ["centred"]),
            helper.make_node("LpNormalization", ["centred"], ["out"], axis=1, p=2),
        ],
        "blocks",
        [helper.make_tensor_value_info("in", TensorProto.FLOAT, ["N", 3, SIZE, SIZE])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, ["N", 3 * blocks**2])],
        [middle],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())


@dataclass
class Build:
    """What the puller published, and what the Deployment says about it. Edit it, then `seal` it."""

    data: Path
    ids: dict[str, list[str]]
    vectors: dict[str, Any]
    model: ModelManifest
    golden: tuple[GoldenQuery, ...] = ()
    prefix: IndexPrefix = PREFIX
    digest: str = ""
    trees: int = 5
    kind: tuple[Engine, Storage] = (Engine.ANNOY, Storage.FLOAT32)
    width: int = 50
    dimensions: int = DIMENSIONS
    manifest: IndexManifest | None = None

    @property
    def index(self) -> Path:
        return self.data / "index"

    @property
    def model_folder(self) -> Path:
        return self.data / str(MODEL_PREFIX)

    @staticmethod
    def picture(seed: int, form: str = "JPEG") -> bytes:
        return picture(seed, form)

    def write_ids(self) -> None:
        for number, ids in enumerate(self.ids.values()):
            (self.index / f"{number}.ids").write_bytes(encode_item_ids(ids))
        (self.index / "items.lookup").write_bytes(encode_item_lookup(list(self.ids.values())))

    def write_indexes(self) -> None:
        golden = []
        for number, (category, ids) in enumerate(self.ids.items()):
            path = self.index / f"{number}.ann"
            vectors = np.array(self.vectors[category], np.float32)
            build_index(path, vectors, *self.kind, trees=self.trees, seed=7)
            index = open_index(path, *self.kind, dimensions=vectors.shape[1], items=len(ids))
            found, distances = index.nearest_to(0, 5, self.width)
            golden.append(GoldenQuery(category, ids[0], tuple(ids[p] for p in found), tuple(distances)))
        self.golden = tuple(golden)

    def seal(self) -> None:
        """Write model.json and index.json about the files as they are now."""
        model_json = format_model_manifest(self.model)
        (self.model_folder / "model.json").write_bytes(model_json)
        model = builds.model_reference(
            self.model, dimensions=self.dimensions, files=builds.described_folder(self.model_folder)
        )
        manifest = builds.index_manifest(
            self.prefix,
            model,
            partitions=tuple(
                builds.partition(
                    number,
                    category,
                    len(ids),
                    file=f"{number}.ann",
                    engine=self.kind[0],
                    storage=self.kind[1],
                    dimensions=self.dimensions,
                    width=self.width,
                )
                for number, (category, ids) in enumerate(self.ids.items())
            ),
            golden_queries=self.golden,
            files=builds.described_folder(self.index, without="index.json"),
        )
        self.say(manifest)

    def say(self, manifest: IndexManifest) -> None:
        """Write this index.json."""
        self.manifest = manifest
        index_json = format_index_manifest(manifest)
        (self.index / "index.json").write_bytes(index_json)
        self.digest = sha256_digest(index_json)

    def environment(self, generation: int = 1700000000000001) -> dict[str, str]:
        return {
            "DATA": str(self.data),
            "COMMIT_GENERATION": str(generation),
            "INDEX_PREFIX": str(self.prefix),
            "INDEX_DIGEST": self.digest,
            "HOST": "127.0.0.1",
            "TERMINATION_LOG": str(self.data.parent / f"termination-{generation}"),
        }


def make_build(data: Path) -> Build:
    """Pictures -> embeddings -> Annoy per category -> manifests, as the batch does, for 71 items."""
    model = data / str(MODEL_PREFIX)
    model.mkdir(parents=True)
    (data / "index").mkdir()
    (model / "model.onnx").write_bytes(block_model())
    embedder = Embedder(model / "model.onnx")

    def embed(data: bytes) -> Any:
        return embedder.embed(preprocess(data, ModelInput(SIZE))[np.newaxis])[0]

    (model / "golden-0.jpg").write_bytes(picture(4711))
    (model / "golden-0.f32").write_bytes(embed(picture(4711)).astype("<f4").tobytes())
    names = {category: [f"{category[:-1]}-{n}" for n in range(count)] for category, count in CATALOGUE.items()}
    seeds = iter(range(1000))
    vectors = {category: [embed(picture(next(seeds))) for _ in ids] for category, ids in names.items()}
    manifest = builds.model_manifest(
        MODEL_PREFIX,
        input=ModelInput(SIZE),
        dimensions=DIMENSIONS,
        golden_images=(GoldenImage("golden-0.jpg", "golden-0.f32"),),
        files=builds.described_folder(model, without="model.json"),
    )
    build = Build(data, names, vectors, manifest)
    build.write_ids()
    build.write_indexes()
    build.seal()
    return build


@dataclass
class Server:
    """The real server, as a process of its own. open_files: the most that it may have."""

    environment: Mapping[str, str]
    open_files: int | None = None
    port: int = field(default_factory=free_port)
    probe_port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        self.process = subprocess.Popen(
            [*self._limited(), sys.executable, "-m", "search_server"],
            env={"PATH": os.environ["PATH"], **self._ports(), **self.environment},
            stderr=subprocess.PIPE,
        )

    def _ports(self) -> dict[str, str]:
        # beside the build, as in a pod: what a server that is killed leaves goes with the test's folder
        folder = str(Path(self.environment["DATA"]).parent)
        return {"PORT": str(self.port), "PROBE_PORT": str(self.probe_port), "WORKERS": "2", "TMPDIR": folder}

    def _limited(self) -> list[str]:
        return ["sh", "-c", f'ulimit -n {self.open_files} && exec "$0" "$@"'] if self.open_files else []

    def wait_ready(self) -> None:
        deadline = time.monotonic() + 90
        while time.monotonic() < deadline:
            assert self.process is not None
            assert self.process.poll() is None, self.process.stderr.read() if self.process.stderr else ""
            try:
                if plain_http.get(f"{self.url}/readyz").status_code == 200:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.02)
        raise AssertionError("not ready within 90 s")

    def terminate(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)

    def wait(self, timeout: float = 30) -> tuple[int, list[dict[str, Any]]]:
        """The exit status and the log."""
        assert self.process is not None
        _, log = self.process.communicate(timeout=timeout)
        return self.process.returncode, [json.loads(line) for line in log.splitlines()]

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.communicate()


@pytest.fixture
def build(tmp_path: Path) -> Build:
    """A build of one's own, to spoil."""
    return make_build(tmp_path / "current")


@pytest.fixture(scope="session")
def good_build(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """A build that nobody may spoil."""
    return make_build(tmp_path_factory.mktemp("data") / "current")


@pytest.fixture
def start() -> Iterator[Callable[..., Server]]:
    """Start servers that are gone after the test: start(environment) waits until it is ready."""
    servers: list[Server] = []

    def start(environment: Mapping[str, str], *, wait: bool = True, open_files: int | None = None) -> Server:
        server = Server(environment, open_files)
        servers.append(server)
        server.start()
        if wait:
            server.wait_ready()
        return server

    yield start
    for server in servers:
        server.stop()


@pytest.fixture(scope="module")
def server_environment(good_build: Build) -> dict[str, str]:
    """What the module's server is started with; a module may have it otherwise."""
    return good_build.environment()


@pytest.fixture(scope="module")
def server(server_environment: dict[str, str]) -> Iterator[Server]:
    """One server for all tests of a module that only ask."""
    server = Server(server_environment)
    server.start()
    server.wait_ready()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[httpx.Client]:
    """A client of that server."""
    with plain_http.Client(base_url=server.url, timeout=10) as client:
        yield client


@pytest.fixture
def new_picture() -> Callable[..., bytes]:
    """picture(seed, form)."""
    return picture
