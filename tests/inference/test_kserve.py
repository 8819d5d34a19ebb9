"""Photos are embedded by KServe's own server of the Open Inference Protocol, over HTTP and over gRPC."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import uvloop
from onnx import TensorProto, helper

from image_embedder import Embedder
from local_stack.processes import free_port
from model_repository.documents.model_manifest import ModelInput
from search_server.remote.inference import Described, RemoteModel, Tensor
from search_server.remote.ways import ways_to
from tests import builds
from tests.search_server.conftest import Build, Server, block_model, make_build, picture
from tools.make_model import make_model

_HANG = 60.0
BLOCKS = "blocks-1"
POOL = Path(__file__).with_name("kserve_pool.py")


@dataclass
class Pool:
    """KServe's server, as a process of its own."""

    folder: Path
    scheme: str
    http_port: int = field(default_factory=free_port)
    grpc_port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def environment(self) -> Mapping[str, str]:
        port = self.grpc_port if self.scheme == "grpc" else self.http_port
        return {"EMBEDDING_URL": f"{self.scheme}://127.0.0.1:{port}", "EMBEDDING_MODEL": "{model}-{version}"}

    def start(self, **models: bytes) -> None:
        """Serve these networks; an underscore in a name stands for a hyphen."""
        named = []
        for name, network in models.items():
            path = self.folder / f"{name}.onnx"
            path.write_bytes(network)
            named.append(f"{name.replace('_', '-')}={path}")
        ports = str(self.http_port), str(self.grpc_port)
        with (self.folder / "pool.log").open("ab") as log:
            self.process = subprocess.Popen([sys.executable, str(POOL), *ports, *named], stdout=log, stderr=log)
        for port in (self.http_port, self.grpc_port):
            wait_for(lambda port=port: listens(port))

    def send(self, sent: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(sent)

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def wait_for(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _HANG
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture(scope="module")
def shared_build(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """A build whose network isn't there: only its size is. Nobody may spoil it further."""
    build = make_build(tmp_path_factory.mktemp("data") / "current")
    path = build.model_folder / "model.onnx"
    path.write_bytes(bytes(path.stat().st_size))
    return build


@pytest.fixture(params=["http", "grpc"])
def pool(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Pool]:
    pool = Pool(tmp_path, request.param)
    yield pool
    pool.stop()


@pytest.fixture
def start() -> Iterator[Callable[..., Server]]:
    servers: list[Server] = []

    def start(environment: Mapping[str, str]) -> Server:
        server = Server(environment)
        servers.append(server)
        server.start()
        server.wait_ready()
        return server

    yield start
    for server in servers:
        server.stop()


def search(server: Server, data: bytes) -> httpx.Response:
    return httpx.post(
        f"{server.url}/v1/search?k=3", content=data, headers={"content-type": "image/jpeg"}, timeout=_HANG
    )


def items_are_found(server: Server) -> bool:
    answer = httpx.get(f"{server.url}/v1/items/chair-1/similar?k=5", timeout=_HANG)
    return answer.status_code == 200 and len(answer.json()["neighbors"]) == 5


def is_up(server: Server) -> bool:
    return "indexpush_search_remote_embedding_up 1.0" in httpx.get(f"{server.url}/metrics").text


def refused(answer: httpx.Response) -> str:
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "embedding-unavailable")
    assert int(answer.headers["retry-after"]) > 0
    return str(answer.json()["error"]["message"])


def turned_model() -> bytes:
    """A network as good as the build's, with other vectors: its last layer is turned round."""
    graph = helper.make_graph(
        [
            helper.make_node("AveragePool", ["in"], ["pooled"], kernel_shape=[8, 8], strides=[8, 8]),
            helper.make_node("Flatten", ["pooled"], ["flat"]),
            helper.make_node("Sub", ["middle", "flat"], ["centred"]),
            helper.make_node("LpNormalization", ["centred"], ["out"], axis=1, p=2),
        ],
        "turned",
        [helper.make_tensor_value_info("in", TensorProto.FLOAT, ["N", 3, 32, 32])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, ["N", 48])],
        [helper.make_tensor("middle", TensorProto.FLOAT, [1], [127.0])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())


def test_a_photo_is_embedded_by_the_pool_and_no_network_is_loaded_here(
    shared_build: Build, pool: Pool, start: Callable[..., Server]
) -> None:
    pool.start(blocks_1=block_model())
    server = start({**shared_build.environment(), **pool.environment, "DRAIN_SECONDS": "0"})
    wait_for(lambda: is_up(server))
    for seed, item in ((3, "chair-3"), (45, "lamp-5")):
        nearest = search(server, picture(seed)).json()["neighbors"][0]
        assert nearest["id"] == item
        assert nearest["distance"] < 1e-3
    assert search(server, b"no picture").json()["error"]["code"] == "image-unreadable"
    server.terminate()
    assert server.wait(_HANG)[0] == 0


def test_the_three_ways_to_ask_give_the_same_numbers(tmp_path: Path) -> None:
    pool = Pool(tmp_path, "http")
    pool.start(blocks_1=block_model())
    pixels = np.random.default_rng(1).uniform(0, 255, (1, 3, 32, 32)).astype("<f4")
    tensor, model = Tensor("in", "FP32", pixels.shape, pixels.tobytes()), RemoteModel(BLOCKS)

    async def ask() -> list[tuple[Described, list[float]]]:
        ways = (
            *ways_to(f"http://127.0.0.1:{pool.http_port}"),
            *ways_to(f"grpc://127.0.0.1:{pool.grpc_port}"),
        )
        answers = [(await way.describe(model), list(await way.infer(model, tensor, "out"))) for way in ways]
        for way in ways:
            await way.close()
        return answers

    try:
        in_bytes, in_json, over_grpc = uvloop.run(ask())
    finally:
        pool.stop()
    assert in_bytes == in_json == over_grpc
    assert in_bytes[0] == Described((("in", "FP32"),), (("out", "FP32"),))
    assert np.linalg.norm(in_bytes[1]) == pytest.approx(1)


def test_a_pool_with_other_vectors_is_never_used_and_the_right_one_is_as_soon_as_it_is_there(
    shared_build: Build, pool: Pool, start: Callable[..., Server]
) -> None:
    pool.start(blocks_1=turned_model())
    server = start({**shared_build.environment(), **pool.environment})
    wait_for(lambda: "to cosine -1.0" in refused(search(server, picture(3))))
    assert items_are_found(server)
    pool.stop()
    pool.start(blocks_1=block_model())
    wait_for(lambda: is_up(server))
    assert search(server, picture(3)).json()["neighbors"][0]["id"] == "chair-3"


def test_a_pool_without_the_model_or_with_one_of_other_dimensions_is_not_used(
    shared_build: Build, pool: Pool, start: Callable[..., Server]
) -> None:
    pool.start(blocks_2=block_model())
    server = start({**shared_build.environment(), **pool.environment})
    wait_for(lambda: "blocks-1" in refused(search(server, picture(3))))
    assert not is_up(server)
    pool.stop()
    pool.start(blocks_1=block_model(2))
    wait_for(lambda: "answered 12 numbers" in refused(search(server, picture(3))))
    assert items_are_found(server)


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGSTOP])
def test_while_the_pool_is_away_or_hangs_items_are_found_and_photos_are_refused_until_it_is_back(
    shared_build: Build, pool: Pool, start: Callable[..., Server], sent: signal.Signals
) -> None:
    pool.start(blocks_1=block_model())
    server = start({**shared_build.environment(), **pool.environment})
    wait_for(lambda: is_up(server))
    seen = search(server, picture(3)).json()
    pool.send(sent)
    for seed in range(4, 8):
        refused(search(server, picture(seed)))
        assert items_are_found(server)
    assert not is_up(server)
    assert search(server, picture(3)).json() == seen  # it is remembered
    if sent == signal.SIGSTOP:
        pool.send(signal.SIGCONT)
    else:
        pool.stop()
        pool.start(blocks_1=block_model())
    wait_for(lambda: is_up(server))
    assert search(server, picture(4)).json()["neighbors"][0]["id"] == "chair-4"


def test_a_pod_is_ready_without_a_pool(shared_build: Build, pool: Pool, start: Callable[..., Server]) -> None:
    server = start({**shared_build.environment(), **pool.environment})
    assert items_are_found(server)
    assert "photos can't be embedded now" in refused(search(server, picture(3)))


def test_the_projects_own_model_is_embedded_with_by_the_pool(
    tmp_path: Path, pool: Pool, start: Callable[..., Server]
) -> None:
    build, network = build_with_efficientnet(tmp_path)
    pool.start(blocks_1=network)
    server = start({**build.environment(), **pool.environment})
    wait_for(lambda: is_up(server))
    nearest = search(server, picture(3)).json()["neighbors"][0]
    assert nearest["id"] == "chair-3"
    assert nearest["distance"] < 1e-2


def build_with_efficientnet(folder: Path) -> tuple[Build, bytes]:
    """A build of EfficientNet-Lite0's vectors, and that network, which the build's folder has no more."""
    build = make_build(folder / "current")
    path = build.model_folder / "model.onnx"
    takes = ModelInput(224)
    shutil.copy(make_model("efficientnet-lite0", folder / "cache").path, path)
    network = path.read_bytes()
    embedder = Embedder(path)

    def embed(data: bytes) -> Any:
        return embedder.embed_picture(data, takes)

    (build.model_folder / "golden-0.f32").write_bytes(embed(picture(4711)).astype("<f4").tobytes())
    (build.model_folder / "model.json").unlink()
    seeds = iter(range(1000))
    build.vectors = {category: [embed(picture(next(seeds))) for _ in ids] for category, ids in build.ids.items()}
    build.dimensions = len(np.array(build.vectors["chairs"])[0])
    files = builds.described_folder(build.model_folder)
    build.model = replace(build.model, input=takes, dimensions=build.dimensions, files=files)
    build.write_indexes()
    build.seal()
    path.write_bytes(os.urandom(1) * len(network))
    return build, network
