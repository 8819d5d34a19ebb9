"""Pictures are embedded by processes that are ended where that costs too much, and nobody else notices."""

from __future__ import annotations

import asyncio
import io
import json
import os
import pickle
import resource
import signal
import socket
import sys
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import onnx
import pytest
import uvloop
from onnx import TensorProto, helper
from PIL import Image

from http_limits.refusals import Overloaded
from image_embedder import Embedder
from model_repository.documents.model_manifest import ModelInput
from model_repository.resources.pictures import picture_process_bytes
from model_repository.telemetry.log import Log
from search_server.errors import ImageUnreadable, NotReady, PictureLost
from search_server.http.requests import ClientGone
from search_server.pictures.client import PictureClient
from search_server.pictures.door import PictureDoor
from search_server.pictures.messages import PHOTO, QUESTION, Embed, ModelFile
from search_server.pictures.processes import PictureProcesses
from search_server.pictures.remembered import RememberedPictures
from search_server.processes.pod import PodState
from tests import plain_http
from tests.pictures import encoded, jpeg_of_scans, png
from tests.search_server import test_supervisor as supervisor

SIZE = 8
GOOD = encoded(Image.linear_gradient("L").convert("RGB"), "JPEG")
_HANG = 600.0
"""Seconds that only a hang exceeds."""


@dataclass(frozen=True)
class AModel:
    path: Path
    takes: ModelInput = field(default_factory=lambda: ModelInput(SIZE))
    normalised: bool = True
    digest: str = "0" * 64
    dimensions: int = 3


def write_model(path: Path, rounds: int) -> AModel:
    """Write a model whose vector is a picture's mean colour, after so many rounds of nothing."""
    body = helper.make_graph(
        [helper.make_node("Identity", [name], [f"{name}_out"]) for name in ("on", "value")],
        "body",
        [
            helper.make_tensor_value_info("round", TensorProto.INT64, []),
            helper.make_tensor_value_info("on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("value", TensorProto.FLOAT, ["N", 3]),
        ],
        [
            helper.make_tensor_value_info("on_out", TensorProto.BOOL, []),
            helper.make_tensor_value_info("value_out", TensorProto.FLOAT, ["N", 3]),
        ],
    )
    nodes = [
        helper.make_node("ReduceMean", ["images"], ["mean"], axes=[2, 3], keepdims=0),
        helper.make_node("Loop", ["rounds", "", "mean"], ["late"], body=body),
        helper.make_node("LpNormalization", ["late"], ["embedding"], axis=1, p=2),
    ]
    images = helper.make_tensor_value_info("images", TensorProto.FLOAT, ["N", 3, SIZE, SIZE])
    embedding = helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["N", 3])
    count = helper.make_tensor("rounds", TensorProto.INT64, [], [rounds])
    graph = helper.make_graph(nodes, "mean", [images], [embedding], [count])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return AModel(path)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return write_model(tmp_path_factory.mktemp("model") / "model.onnx", 1)


@pytest.fixture(scope="module")
def endless(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return write_model(tmp_path_factory.mktemp("model") / "endless.onnx", 2**62)


@dataclass
class Pod:
    """The pod's processes, and a worker that asks for them."""

    processes: PictureProcesses
    door: PictureDoor
    client: PictureClient

    @property
    def pids(self) -> list[int]:
        return self.processes.pids

    async def embed(self, model: Any, picture: bytes) -> list[float]:
        return await self.client.embed(model, picture, remembered=False)


def another_client(door: PictureDoor) -> PictureClient:
    return PictureClient(socket.socket(fileno=os.dup(door.file)))


def run(story: Callable[[Pod], Awaitable[None]], **options: Any) -> None:
    """Let a story happen, on the loop that the server has."""

    async def main() -> None:
        processes = PictureProcesses(Log(stream=io.StringIO()), **options)
        door = PictureDoor(RememberedPictures(processes, PodState.create(1)))
        door.open()
        try:
            await asyncio.wait_for(story(Pod(processes, door, another_client(door))), _HANG)
        finally:
            door.close()
            processes.close()

    uvloop.run(main())


async def until(holds: Callable[[], bool]) -> None:
    while not holds():  # noqa: ASYNC110 - of another process
        await asyncio.sleep(0.01)


def gone(pid: int) -> bool:
    try:
        return "State:\tZ" in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return True


def status_mib(pid: int, field: str) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(field)).split()[1]) // 1024


def test_nothing_is_started_before_a_picture_comes_and_it_stays_for_the_next(model: Any) -> None:
    async def story(pod: Pod) -> None:
        assert pod.pids == []
        expected = Embedder(model.path).embed_picture(GOOD, model.takes)
        assert np.array_equal(np.float32(await pod.embed(model, GOOD)), expected)
        (pid,) = pod.pids
        await pod.embed(model, GOOD)
        assert pod.pids == [pid]

    run(story)


def test_a_process_that_nobody_asks_for_long_is_ended_and_the_next_picture_has_another(model: Any) -> None:
    async def story(pod: Pod) -> None:
        await pod.embed(model, GOOD)
        (pid,) = pod.pids
        await until(lambda: gone(pid))
        assert pod.pids == []
        assert await pod.embed(model, GOOD)

    run(story, idle_seconds=0.05)


def test_what_is_no_picture_is_refused_and_costs_no_process(model: Any) -> None:
    async def story(pod: Pod) -> None:
        for data in (b"", b"no picture", GOOD[: len(GOOD) // 2]):
            with pytest.raises(ImageUnreadable, match="can't be decoded"):
                await pod.embed(model, data)
        with pytest.raises(ImageUnreadable, match="needs 374 MiB"):
            await pod.embed(model, png(7000, 7000))
        with pytest.raises(ImageUnreadable, match="1006 scans"):
            await pod.embed(model, jpeg_of_scans(1000, 1000))
        assert len(pod.pids) == 1
        assert pod.processes.ended == 0

    run(story)


def test_a_process_has_the_memory_that_the_pods_is_computed_with(model: Any) -> None:
    dearest = [png(6400, 6400), encoded(Image.new("RGBA", (4070, 4070), (1, 2, 3, 9)), "WEBP", method=0)]

    async def story(pod: Pod) -> None:
        for data in dearest:
            await pod.embed(model, data)
        (pid,) = pod.pids
        limit = picture_process_bytes(model.path.stat().st_size) // 2**20
        assert status_mib(pid, "VmHWM") < limit
        assert status_mib(pid, "VmRSS") < 150  # what the picture needed is given back
        held, _ = resource.prlimit(pid, resource.RLIMIT_DATA)
        assert held == picture_process_bytes(model.path.stat().st_size)

    run(story)


def test_a_picture_that_takes_too_long_has_its_process_ended_and_the_next_one_is_answered(
    model: Any, endless: Any
) -> None:
    async def story(pod: Pod) -> None:
        late = asyncio.create_task(pod.embed(endless, GOOD))
        after = asyncio.create_task(pod.embed(model, GOOD))
        with pytest.raises(ImageUnreadable, match="takes more than 10 s of a processor"):
            await late
        assert await after
        assert pod.processes.ended == 1

    run(story, deadline_seconds=_HANG)  # however little of a processor it gets


def test_a_process_that_gets_no_processor_is_ended_after_the_deadline(model: Any) -> None:
    async def story(pod: Pod) -> None:
        await pod.embed(model, GOOD)
        (pid,) = pod.pids
        os.kill(pid, signal.SIGSTOP)
        pod.processes._deadline_seconds = 0.2
        with pytest.raises(PictureLost, match=r"wasn't embedded within 0\.2 s"):
            await pod.embed(model, GOOD)
        assert gone(pid)

    run(story)


@pytest.mark.parametrize(
    ("sent", "refusal", "words"),
    [(signal.SIGKILL, PictureLost, r"ended \(SIGKILL\)"), (signal.SIGSEGV, ImageUnreadable, r"crashes \(SIGSEGV\)")],
)
def test_a_process_that_dies_is_replaced(
    model: Any, endless: Any, sent: signal.Signals, refusal: type[Exception], words: str
) -> None:
    async def story(pod: Pod) -> None:
        await pod.embed(model, GOOD)
        (pid,) = pod.pids
        late = asyncio.create_task(pod.embed(endless, GOOD))
        await until(lambda: pod.processes.length == 1)
        os.kill(pid, sent)
        with pytest.raises(refusal, match=words):
            await late
        assert await pod.embed(model, GOOD)
        assert pod.pids != [pid]

    run(story)


def test_where_no_process_can_be_started_that_is_said_and_the_picture_may_come_again(
    model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story(pod: Pod) -> None:
        log = io.StringIO()
        pod.processes._log = Log(stream=log)
        with monkeypatch.context() as without:
            without.setattr(sys, "executable", "/nonexistent/python")
            with pytest.raises(PictureLost, match=r"no process to embed with can be started: .*; try again"):
                await pod.embed(model, GOOD)
        assert "no process to embed with can be started" in log.getvalue()
        assert await pod.embed(model, GOOD)

    run(story)


def test_a_process_that_died_while_it_had_nothing_to_do_costs_no_picture(model: Any) -> None:
    async def story(pod: Pod) -> None:
        await pod.embed(model, GOOD)
        (pid,) = pod.pids
        os.kill(pid, signal.SIGKILL)
        await until(lambda: gone(pid) and not Path(f"/proc/{pid}").exists())
        assert await pod.embed(model, GOOD)

    run(story)


def test_whoever_comes_to_a_full_queue_is_asked_to_come_back_and_who_goes_makes_room(model: Any, endless: Any) -> None:
    async def story(pod: Pod) -> None:
        waiting = [asyncio.create_task(pod.embed(endless, GOOD)) for _ in range(3)]
        await until(lambda: pod.processes.length == 3)
        with pytest.raises(Overloaded, match="3 pictures are waiting"):
            await pod.embed(model, GOOD)
        waiting[2].cancel()
        await until(lambda: pod.processes.length == 2)
        asked = asyncio.create_task(pod.embed(model, GOOD))
        await until(lambda: pod.processes.length == 3)
        pod.client.close()
        for one in (*waiting[:2], asked):
            with pytest.raises(NotReady):
                await one

    run(story, queue=3)


def test_whoever_waits_no_more_makes_room_and_is_told_nothing(model: Any, endless: Any) -> None:
    async def story(pod: Pod) -> None:
        left = False
        running = asyncio.create_task(pod.embed(endless, GOOD))
        await until(lambda: pod.processes.length == 1)
        waiting = asyncio.create_task(pod.client.embed(model, GOOD, remembered=False, gone=lambda: left))
        await until(lambda: pod.processes.length == 2)
        left = True
        with pytest.raises(ClientGone):
            await waiting
        await until(lambda: pod.processes.length == 1)
        pod.client.close()
        with pytest.raises(NotReady):
            await running

    run(story)


def test_a_worker_that_is_gone_takes_no_process_along(model: Any) -> None:
    async def story(pod: Pod) -> None:
        await pod.embed(model, GOOD)
        pids = pod.pids
        for pause in range(40):
            asked = asyncio.create_task(pod.embed(model, GOOD))
            for _ in range(pause):
                await asyncio.sleep(0)
            asked.cancel()
            assert await pod.embed(model, GOOD)
        assert pod.pids == pids
        await until(lambda: pod.processes.length == 0)

    run(story)


def test_workers_take_turns_at_the_same_process(model: Any) -> None:
    async def story(pod: Pod) -> None:
        other = another_client(pod.door)
        asked = [client.embed(model, GOOD, remembered=False) for client in (pod.client, other) for _ in range(4)]
        vectors = await asyncio.gather(*asked)
        assert all(vector == vectors[0] for vector in vectors)
        assert len(pod.pids) == 1

    run(story)


def test_a_worker_that_hangs_gives_its_turn_up(model: Any) -> None:
    async def story(pod: Pod) -> None:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            question = pickle.dumps(Embed(ModelFile(str(model.path), model.takes, True, model.digest, 3)))
            ours.sendall(PHOTO.pack(0, b"") + QUESTION.pack(len(question), len(GOOD)) + question)
            socket.send_fds(another_client(pod.door)._door, [b"p"], [theirs.fileno()])
            await until(lambda: pod.processes.length == 1)
            pod.processes._deadline_seconds = _HANG
            assert await pod.embed(model, GOOD)

    run(story, deadline_seconds=1.0)


def test_who_has_patience_waits_for_room(model: Any) -> None:
    async def story(pod: Pod) -> None:
        vectors = await asyncio.gather(
            *(pod.client.patiently(lambda: pod.client.embed(model, GOOD, remembered=False)) for _ in range(20))
        )
        assert len(vectors) == 20

    run(story, queue=1)


def test_two_processes_embed_two_pictures_at_a_time(model: Any, endless: Any) -> None:
    async def story(pod: Pod) -> None:
        late = asyncio.create_task(pod.embed(endless, GOOD))
        assert await pod.embed(model, GOOD)
        assert len(pod.pids) == 2
        pod.client.close()
        with pytest.raises(NotReady):
            await late

    run(story, processes=2)


def test_closing_ends_what_is_under_way_at_once(endless: Any) -> None:
    async def story(pod: Pod) -> None:
        asked = [asyncio.create_task(pod.embed(endless, GOOD)) for _ in range(3)]
        await until(lambda: bool(pod.pids))
        (pid,) = pod.pids
        pod.processes.close()
        for one in asked:
            with pytest.raises(NotReady):
                await one
        await until(lambda: gone(pid))
        with pytest.raises(NotReady):
            await pod.embed(endless, GOOD)

    run(story)


def test_a_model_that_does_not_work_is_said_with_its_own_words(tmp_path: Path, model: Any) -> None:
    (tmp_path / "model.onnx").write_bytes(b"no model")

    async def story(pod: Pod) -> None:
        with pytest.raises(RuntimeError, match="onnxruntime can't load it"):
            await pod.embed(AModel(tmp_path / "model.onnx"), GOOD)
        assert await pod.embed(model, GOOD)

    run(story)


# the server's own


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def embedding(pid: int) -> list[int]:
    """Those of a server's processes that embed."""
    return [each for each in children(pid) if b"child.py" in Path(f"/proc/{each}/cmdline").read_bytes()]


def others(pid: int) -> list[int]:
    """Those that don't."""
    return [each for each in children(pid) if each not in embedding(pid)]


def search(url: str, data: bytes) -> httpx.Response:
    return plain_http.post(f"{url}/v1/search?k=3", content=data, headers={"content-type": "image/png"}, timeout=_HANG)


def test_items_are_found_while_costly_pictures_come_and_the_next_good_picture_is_answered(
    good_build: Any, start: Callable[..., Any]
) -> None:
    server = start(good_build.environment())
    costly = [png(6400, 6400), png(7000, 7000), jpeg_of_scans(900, 1000), jpeg_of_scans(1000, 1000)]
    with ThreadPoolExecutor(4) as clients, plain_http.Client(base_url=server.url, timeout=_HANG) as client:
        asked = [clients.submit(search, server.url, data) for data in costly * 2]
        while not all(one.done() for one in asked):
            answer = client.get("/v1/items/chair-1/similar?k=5")
            assert len(answer.json()["neighbors"]) == 5
    answers = [one.result() for one in asked]
    assert {answer.status_code for answer in answers} == {200, 400}
    assert {answer.json()["error"]["code"] for answer in answers if answer.status_code == 400} == {"image-unreadable"}
    assert search(server.url, good_build.picture(3)).json()["neighbors"][0]["id"] == "chair-3"
    assert len(embedding(server.process.pid)) == 1
    assert all(status_mib(pid, "VmHWM") < 150 for pid in (server.process.pid, *others(server.process.pid)))


def test_the_server_ends_and_its_processes_with_it_however_it_ends(good_build: Any, start: Callable[..., Any]) -> None:
    for sent in (signal.SIGTERM, signal.SIGKILL):
        server = start({**good_build.environment(), "DRAIN_SECONDS": "0"})
        search(server.url, good_build.picture(3))
        embeds = embedding(server.process.pid)
        pids = children(server.process.pid)
        assert len(embeds) == 1
        for pid in embeds:
            os.kill(pid, signal.SIGSTOP)  # as if each were at something that takes for ever
        with ThreadPoolExecutor(3) as clients:
            asked = [clients.submit(search, server.url, good_build.picture(seed)) for seed in (4, 5, 6)]
            deadline = time.monotonic() + _HANG
            while "pictures_waiting 3" not in plain_http.get(f"{server.url}/metrics").text:
                assert time.monotonic() < deadline
            server.process.send_signal(sent)
            status, _ = server.wait(_HANG)
            refused = [one.exception() or one.result() for one in asked]
        deadline = time.monotonic() + _HANG
        while not all(gone(pid) for pid in pids):
            assert time.monotonic() < deadline
        if sent == signal.SIGTERM:
            assert status == 0
            assert [json.loads(answer.content)["error"]["code"] for answer in refused] == ["not-ready"] * 3  # type: ignore[union-attr]


def test_photos_whose_clients_have_closed_leave_the_queue(good_build: Any, start: Callable[..., Any]) -> None:
    server = start(good_build.environment())
    search(server.url, good_build.picture(3))
    (pid,) = embedding(server.process.pid)
    os.kill(pid, signal.SIGSTOP)  # as if it were at something that takes for ever
    with ExitStack() as open_ones:
        for seed in range(4, 12):
            client = open_ones.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=_HANG))
            photo = good_build.picture(seed)
            head = f"POST /v1/search HTTP/1.1\r\nhost: x\r\ncontent-type: image/jpeg\r\ncontent-length: {len(photo)}"
            client.sendall(f"{head}\r\n\r\n".encode() + photo)
        supervisor.until(lambda: supervisor.metric(server, "indexpush_search_pictures_waiting") == 8)
    supervisor.until(lambda: supervisor.metric(server, "indexpush_search_pictures_waiting") == 0)
    os.kill(pid, signal.SIGCONT)
    assert search(server.url, good_build.picture(12)).status_code == 200
    assert supervisor.metric(server, 'indexpush_search_requests_total{code="200",route="search"}') == 2
