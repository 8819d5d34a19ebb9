"""A pool that embeds is asked only while its golden images say that it is the right one; photos are refused else."""

from __future__ import annotations

import asyncio
import io
import math
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import orjson
import pytest
import uvloop
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from image_embedder import Embedder
from local_stack.processes import free_port
from model_repository.names import ModelPrefix
from model_repository.telemetry.log import Log
from search_server.config import Config
from search_server.pictures.client import _detector_file
from search_server.pictures.messages import (
    AWAY,
    PIXELS,
    REGIONS,
    UNREADABLE,
    VECTOR,
    Detect,
    Embed,
    Question,
)
from search_server.pictures.processes import PictureProcesses
from search_server.processes.pod import PodState
from search_server.remote import over_http
from search_server.remote.embedding import RemoteEmbedding, _file
from search_server.remote.golden import provable_models
from search_server.remote.inference import Described, RemoteAway, RemoteModel, RemoteUnfit, Tensor, floats, normalised
from search_server.remote.over_grpc import OverGrpc
from search_server.remote.over_http import OverHttp
from tests.search_server.conftest import DIMENSIONS, PREFIX, Build, picture
from tests.search_server.test_pictures import until
from tests.search_server.test_regions import A_CHAIR_AND_A_LAMP, CATEGORIES, DETECTOR, add_detector, room

_HANG = 60.0
TENSOR = Tensor("in", "FP32", (1, 3, 1, 1), struct.pack("<3f", 1, 2, 3))
MODEL = RemoteModel("blocks", "1")


class Pool:
    """Runs a network as a pool would; `answer` may be changed to anything else."""

    def __init__(self, network: Path) -> None:
        embedder = Embedder(network)
        self.asked = 0
        self.closed = False
        self.described = Described((("in", "FP32"),), (("out", "FP32"),))
        self.right: Callable[[Tensor], Sequence[float]] = lambda tensor: [
            float(number) for number in embedder.embed(np.frombuffer(tensor.data, "<f4").reshape(tensor.shape))[0]
        ]
        self.answer = self.right

    async def describe(self, model: RemoteModel) -> Described:
        assert str(model) == "blocks/1"
        return self.described

    async def infer(self, model: RemoteModel, tensor: Tensor, output: str) -> Sequence[float]:
        assert (str(model), tensor.name, tensor.datatype, output) == ("blocks/1", "in", "FP32", "out")
        self.asked += 1
        await asyncio.sleep(0)
        return self.answer(tensor)

    async def close(self) -> None:
        self.closed = True


def away(_: Tensor) -> Sequence[float]:
    raise RemoteAway("nobody answers")


class Pod:
    """A pod whose models are elsewhere."""

    def __init__(self, build: Build, remote: RemoteEmbedding, processes: PictureProcesses, state: PodState) -> None:
        (self.model,) = (_file(each) for each in provable_models(build.data, PREFIX, build.digest, "{model}/{version}"))
        self.remote = remote
        self.processes = processes
        self.state = state

    async def embed(self, data: bytes, question: Question | None = None) -> tuple[int, bytes]:
        async def sent() -> bytes:
            return data

        return await self.remote.embed(question or Embed(replace(self.model, elsewhere=False)), sent)

    async def proved(self) -> None:
        await until(lambda: bool(self.state.remote_proved))


def run(build: Build, ways: Sequence[Any], story: Callable[[Pod], Awaitable[None]], **options: float) -> str:
    """Let a story happen; returns the log."""
    log = io.StringIO()

    async def main() -> None:
        state, processes = PodState.create(1), PictureProcesses(Log(stream=io.StringIO()))

        def models() -> Any:
            return provable_models(build.data, PREFIX, build.digest, "{model}/{version}")

        remote = RemoteEmbedding(
            processes, ways, models, state, Log(stream=log), **{"proof_seconds": 60.0, "look_seconds": 0.02, **options}
        )
        remote.begin()
        try:
            await asyncio.wait_for(story(Pod(build, remote, processes, state)), _HANG)
        finally:
            await remote.close()
            processes.close()

    uvloop.run(main())
    return log.getvalue()


@pytest.fixture
def pool(good_build: Build) -> Pool:
    return Pool(good_build.model_folder / "model.onnx")


def expected(build: Build, data: bytes) -> Any:
    return Embedder(build.model_folder / "model.onnx").embed_picture(data, build.model.input)


def test_a_photo_has_the_vector_that_it_has_here(good_build: Build, pool: Pool) -> None:
    async def story(pod: Pod) -> None:
        await pod.proved()
        kind, said = await pod.embed(picture(3))
        assert kind == VECTOR
        assert np.array_equal(np.frombuffer(said, "<f4"), expected(good_build, picture(3)))
        assert (await pod.embed(b"no picture"))[0] == UNREADABLE

    log = run(good_build, [pool], story)
    assert pool.closed
    assert "EMBEDDING_URL: proved itself" in log


def test_nothing_is_sent_before_the_pool_has_proved_itself(good_build: Build, pool: Pool) -> None:
    pool.answer = away

    async def story(pod: Pod) -> None:
        kind, words = await pod.embed(picture(3))
        assert kind == AWAY
        assert b"has not proved itself yet" in words
        assert pool.asked == 0
        await until(lambda: pool.asked > 2)  # it is looked at again and again
        assert (await pod.embed(picture(3)))[0] == AWAY
        pool.answer = pool.right
        await pod.proved()
        assert (await pod.embed(picture(3)))[0] == VECTOR

    assert run(good_build, [pool], story).count("nobody answers") == 1  # and said once


def test_what_is_in_a_photo_is_embedded_there_and_has_the_vectors_that_it_has_here(build: Build) -> None:
    manifest = add_detector(build, A_CHAIR_AND_A_LAMP)
    pool = Pool(build.model_folder / "model.onnx")

    async def story(pod: Pod) -> None:
        await pod.proved()
        assert build.manifest is not None
        assert build.manifest.detector is not None
        folder = build.data / str(DETECTOR)
        detector: Any = type(
            "D", (), {"path": folder / manifest.file, "manifest": manifest, "reference": build.manifest.detector}
        )
        here = replace(pod.model, elsewhere=False)
        models = dict.fromkeys(CATEGORIES.values(), here)
        question = Detect(_detector_file(detector), CATEGORIES, 0.5, models, here)
        photo = room(picture)
        there = await pod.embed(photo, question)
        own = PictureProcesses(Log(stream=io.StringIO()))

        async def sent() -> bytes:
            return photo

        assert there == await own.embed(question, sent)
        assert there[0] == REGIONS
        own.close()

    run(build, [pool], story)


def test_a_photo_for_which_the_model_gives_zeros_is_refused_as_here_and_the_pool_goes_on(
    good_build: Build, pool: Pool
) -> None:
    async def story(pod: Pod) -> None:
        await pod.proved()
        for zero in (0.0, -0.0, 1e-60):
            pool.answer = lambda _, zero=zero: [zero] * DIMENSIONS
            assert await pod.embed(picture(3)) == (UNREADABLE, b"the model gave nothing but zeros for the picture")
        pool.answer = pool.right
        assert (await pod.embed(picture(3)))[0] == VECTOR

    run(good_build, [pool], story)


def test_a_pool_that_answers_with_other_vectors_is_never_used(good_build: Build, pool: Pool) -> None:
    pool.answer = lambda tensor: [-number for number in pool.right(tensor)]

    async def story(pod: Pod) -> None:
        await until(lambda: pool.asked > 3)
        kind, words = await pod.embed(picture(3))
        assert kind == AWAY
        assert b"golden image 'golden-0.jpg': embedded to cosine -1.0" in words
        assert not pod.state.remote_proved

    run(good_build, [pool], story)


def test_a_pool_that_becomes_another_one_is_noticed_at_its_next_proof(good_build: Build, pool: Pool) -> None:
    async def story(pod: Pod) -> None:
        await pod.proved()
        pool.answer = lambda tensor: [-number for number in pool.right(tensor)]
        await until(lambda: not pod.state.remote_proved)
        assert (await pod.embed(picture(3)))[0] == AWAY

    assert "no photo is sent there until it has proved itself again" in run(
        good_build, [pool], story, proof_seconds=0.02
    )


def test_an_answer_that_is_no_vector_of_the_model_ends_its_use_at_once(good_build: Build, pool: Pool) -> None:
    async def story(pod: Pod) -> None:
        await pod.proved()
        pool.answer = lambda _: [0.0] * (DIMENSIONS - 1)
        assert (await pod.embed(picture(3)))[0] == AWAY
        assert not pod.state.remote_proved

    run(good_build, [pool], story)


@pytest.mark.parametrize("number", [math.nan, math.inf, 1e300])
def test_a_photo_for_which_the_model_gives_no_numbers_is_refused_and_the_pool_proves_itself_while_it_goes_on(
    good_build: Build, pool: Pool, number: float
) -> None:
    async def story(pod: Pod) -> None:
        await pod.proved()
        sent: list[bytes] = []
        pool.answer = lambda tensor: sent.append(tensor.data) or pool.right(tensor)
        assert (await pod.embed(picture(3)))[0] == VECTOR
        pool.answer = lambda tensor: [number] * DIMENSIONS if tensor.data == sent[0] else pool.right(tensor)
        for _ in range(5):
            asked = pool.asked
            assert (await pod.embed(picture(3)))[0] == AWAY
            assert pod.state.remote_proved
            await until(lambda asked=asked: pool.asked > asked + 1)  # its golden images are right
            assert (await pod.embed(picture(4)))[0] == VECTOR
        pool.answer = lambda _: [number] * DIMENSIONS
        assert (await pod.embed(picture(3)))[0] == AWAY
        await until(lambda: not pod.state.remote_proved)  # they tell that it isn't the picture

    run(good_build, [pool], story)


def test_one_failure_is_an_accident_and_after_three_nobody_asks(good_build: Build, pool: Pool) -> None:
    async def story(pod: Pod) -> None:
        await pod.proved()
        for answers, kinds in (([away, pool.right] * 3, [AWAY, VECTOR] * 3), ([away] * 3, [AWAY] * 3)):
            for answer, kind in zip(answers, kinds, strict=True):
                pool.answer = answer
                assert (await pod.embed(picture(3)))[0] == kind
        assert not pod.state.remote_proved
        asked = pool.asked
        for _ in range(20):
            assert (await pod.embed(picture(3)))[0] == AWAY
        assert pool.asked == asked
        assert (pod.state.remote_failures, pod.state.remote_refusals) == (6, 26)

    run(good_build, [pool], story, look_seconds=60.0)


@pytest.mark.parametrize("family", [RemoteUnfit, RemoteAway])
def test_of_two_ways_the_one_that_the_pool_knows_is_taken_and_the_other_asked_no_more(
    good_build: Build, pool: Pool, family: type[Exception]
) -> None:
    unknown = Pool(good_build.model_folder / "model.onnx")

    def unfit(_: Tensor) -> Sequence[float]:
        raise family("what is this?")

    unknown.answer = unfit

    async def story(pod: Pod) -> None:
        await pod.proved()
        asked = pool.asked
        await until(lambda: pool.asked > asked + 2)  # proved again
        assert (await pod.embed(picture(3)))[0] == VECTOR
        assert unknown.asked == 1

    run(good_build, [unknown, pool], story, proof_seconds=0.02)


def test_a_fault_of_our_own_is_said_and_the_pool_is_proved_all_the_same_afterwards(
    good_build: Build, pool: Pool
) -> None:
    def faulty(_: Tensor) -> Sequence[float]:
        raise KeyError("never thought of")

    pool.answer = faulty

    async def story(pod: Pod) -> None:
        await until(lambda: pool.asked > 1)
        pool.answer = pool.right
        await pod.proved()

    assert "KeyError('never thought of')" in run(good_build, [pool], story)


def test_a_model_of_several_inputs_is_not_asked(good_build: Build, pool: Pool) -> None:
    pool.described = Described((("in", "FP32"), ("mask", "FP32")), ())

    async def story(pod: Pod) -> None:
        await until(lambda: "takes 2 inputs" in pod.remote._why)
        assert b"takes 2 inputs" in (await pod.embed(picture(3)))[1]

    run(good_build, [pool], story)
    assert pool.asked == 0


def test_a_queue_that_is_full_of_photos_says_nothing_of_the_pool(good_build: Build, pool: Pool) -> None:
    async def story(pod: Pod) -> None:
        await pod.proved()
        gate = asyncio.Event()
        queue, pod.processes._queue = pod.processes._queue, 1

        async def slowly() -> bytes:
            await gate.wait()
            return picture(3)

        here = Embed(replace(pod.model, elsewhere=False))
        waiting = asyncio.ensure_future(pod.remote.embed(here, slowly))
        await until(lambda: pod.processes.length == 1)
        await asyncio.sleep(0.2)  # it is to be proved again ten times
        assert pod.state.remote_proved
        gate.set()
        assert (await waiting)[0] == VECTOR
        asked = pool.asked
        await until(lambda: pool.asked > asked)  # its golden images' turn comes, too
        pod.processes._queue = queue
        assert pod.state.remote_proved

    assert "no photo is sent there" not in run(good_build, [pool], story, proof_seconds=0.02)


class Decoding:
    """Decodes nothing: says how many pictures are between their turn and the end."""

    def __init__(self) -> None:
        self.within = 0

    async def embed(self, question: Question, sent: Callable[[], Awaitable[bytes]]) -> tuple[int, bytes]:
        assert isinstance(question, Embed)
        assert question.model.elsewhere
        await sent()
        return PIXELS, bytes(4 * 3 * 32 * 32)


def test_of_what_models_take_so_many_bytes_are_held_and_others_wait(
    good_build: Build, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story(pod: Pod) -> None:
        await pod.proved()
        held: list[int] = []
        gate = asyncio.Event()

        async def infer(*_: object) -> Sequence[float]:
            held.append(pod.remote._room._held)
            await gate.wait()
            return pool.right(replace(TENSOR, shape=(1, 3, 32, 32), data=bytes(4 * 3 * 32 * 32)))

        monkeypatch.setattr(pool, "infer", infer)
        monkeypatch.setattr(pod.remote, "_pictures", Decoding())
        asked = [asyncio.ensure_future(pod.embed(picture(3))) for _ in range(10)]
        await until(lambda: bool(held))
        await asyncio.sleep(0.05)
        assert max(held) <= 2 * 24 * 2**20
        assert len(held) == 2  # 64 MiB have room for two answers of the longest
        gate.set()
        assert {kind for kind, _ in await asyncio.gather(*asked)} == {VECTOR}
        assert pod.remote._room._held == 0

    run(good_build, [pool], story)


# what travels


def test_a_pools_names_are_made_of_a_models_prefix() -> None:
    prefix = ModelPrefix("effnet", "3")
    assert RemoteModel.of(prefix, "{model}/{version}") == RemoteModel("effnet", "3")
    assert RemoteModel.of(prefix, "{model}-{version}") == RemoteModel("effnet-3")
    assert RemoteModel("effnet", "3").path == "/v2/models/effnet/versions/3"
    assert RemoteModel("effnet-3").path == "/v2/models/effnet-3"


def test_a_vector_is_made_of_length_one_where_its_model_does_not() -> None:
    assert floats(normalised([3.0, 4.0], 2, already=False)) == pytest.approx((0.6, 0.8))
    assert floats(normalised([3.0, 4.0], 2, already=True)) == (3.0, 4.0)
    assert floats(normalised([0.0, 0.0], 2, already=False)) == (0.0, 0.0)


@given(st.none() | st.integers(0, 300), st.binary(max_size=300), st.sampled_from(["", "out"]))
def test_whatever_comes_is_numbers_or_refused(head: int | None, said: bytes, output: str) -> None:
    try:
        numbers = over_http._output(head, said, output)
    except RemoteUnfit:
        return
    assert all(isinstance(number, float | int) for number in numbers)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.floats(allow_nan=False) | st.sampled_from(["out", "FP32"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["outputs", "name", "datatype", "data", "parameters", "binary_data_size"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(_JSON, st.binary(max_size=20), st.booleans())
def test_whatever_json_comes_is_numbers_or_refused(outputs: Any, rest: bytes, binary: bool) -> None:
    said = orjson.dumps({"outputs": [outputs]})
    try:
        numbers = over_http._output(len(said) if binary else None, said + (rest if binary else b""), "")
        normalised(numbers, 2, already=True)
    except RemoteUnfit:
        return


@asynccontextmanager
async def serving(answer: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> AsyncIterator[str]:
    """An HTTP server that answers everything so; gives its URL."""
    app = web.Application(client_max_size=2**24)
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0)
    await runner.setup()
    port = free_port()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        yield f"http://127.0.0.1:{port}/prefix/"
    finally:
        await runner.cleanup()


def over(answer: Callable[[web.Request], Awaitable[web.StreamResponse]], *, binary: bool = False) -> Sequence[float]:
    async def main() -> Sequence[float]:
        async with serving(answer) as url:
            way = OverHttp(url, binary=binary, connections=2, seconds=1)
            try:
                return await way.infer(MODEL, TENSOR, "out")
            finally:
                await way.close()

    return uvloop.run(asyncio.wait_for(main(), _HANG))


def test_tensors_travel_as_bytes_or_in_json() -> None:
    seen: list[tuple[Any, bytes]] = []

    async def in_json(request: web.Request) -> web.Response:
        assert request.path == "/prefix/v2/models/blocks/versions/1/infer"
        assert request.headers["Accept-Encoding"] == "identity"  # MLServer compresses where it may
        seen.append((orjson.loads(await request.read()), b""))
        output = {"name": "out", "datatype": "FP32", "shape": [1, 2], "data": [[0.5, -0.5]]}
        return web.json_response({"outputs": [{"name": "other", "datatype": "INT64", "data": [1]}, output]})

    async def in_bytes(request: web.Request) -> web.Response:
        length, body = int(request.headers["Inference-Header-Content-Length"]), await request.read()
        seen.append((orjson.loads(body[:length]), body[length:]))
        outputs = [
            {"name": "other", "datatype": "FP32", "parameters": {"binary_data_size": 4}},
            {"name": "out", "datatype": "FP32", "parameters": {"binary_data_size": 8}},
        ]
        head = orjson.dumps({"outputs": outputs})
        body = head + struct.pack("<3f", 9, 0.5, -0.5)
        return web.Response(body=body, headers={"Inference-Header-Content-Length": str(len(head))})

    assert list(over(in_json)) == [0.5, -0.5]
    assert list(over(in_bytes, binary=True)) == [0.5, -0.5]
    (said, _), (head, data) = seen
    assert said["inputs"] == [{"name": "in", "shape": [1, 3, 1, 1], "datatype": "FP32", "data": [1.0, 2.0, 3.0]}]
    assert head["inputs"][0]["parameters"] == {"binary_data_size": 12}
    assert data == TENSOR.data


@pytest.mark.parametrize(
    ("status", "family"),
    [
        (400, RemoteUnfit),
        (404, RemoteUnfit),
        (501, RemoteUnfit),
        (302, RemoteUnfit),
        (429, RemoteAway),
        (500, RemoteAway),
        (503, RemoteAway),
    ],
)
def test_what_a_status_means(status: int, family: type[Exception]) -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(status=status, text="because", headers={"Location": "/elsewhere"} if status == 302 else {})

    with pytest.raises(family, match=f"{status}: because"):
        over(answer)


def test_an_answer_that_never_ends_or_never_comes_is_left() -> None:
    async def endless(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(bytes(2**16))

    async def never(_: web.Request) -> web.StreamResponse:
        await asyncio.sleep(_HANG)
        raise AssertionError

    with pytest.raises(RemoteUnfit, match="answered more than 1048576 bytes"):
        over(endless)
    with pytest.raises(RemoteAway, match="no answer in time"):
        over(never)


@pytest.mark.parametrize("length", ["9" * 5000, "1048577", "-1", "three", ""])
def test_a_head_of_a_length_that_can_not_be_is_unfit(length: str) -> None:
    async def answer(_: web.Request) -> web.StreamResponse:
        return web.json_response({"outputs": []}, headers={"Inference-Header-Content-Length": length})

    with pytest.raises(RemoteUnfit, match="Inference-Header-Content-Length is"):
        over(answer)


def test_a_grpc_server_that_answers_nonsense_is_unfit_and_one_that_is_not_there_is_away() -> None:
    async def main() -> None:
        async def nonsense(_: bytes, context: Any) -> bytes:
            del context
            return b"\xff\xff\xff"

        handlers = {"ModelInfer": grpc.unary_unary_rpc_method_handler(nonsense)}
        server = grpc.aio.server()
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler("inference.GRPCInferenceService", handlers),)
        )
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        way = OverGrpc(f"127.0.0.1:{port}", tls=False, seconds=5)
        try:
            with pytest.raises(RemoteUnfit, match="no message"):
                await way.infer(MODEL, TENSOR, "out")
            with pytest.raises(RemoteUnfit, match="UNIMPLEMENTED"):
                await way.describe(MODEL)
            await server.stop(0)
            with pytest.raises(RemoteAway, match="UNAVAILABLE"):
                await way.infer(MODEL, TENSOR, "out")
        finally:
            await server.stop(0)
            await way.close()

    uvloop.run(asyncio.wait_for(main(), _HANG))


# how it is set


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("EMBEDDING_URL", "pool.example:9000"),
        ("EMBEDDING_URL", "ftp://pool.example"),
        ("EMBEDDING_URL", "grpc://pool.example"),
        ("EMBEDDING_URL", "grpc://pool.example:99999"),
        ("EMBEDDING_URL", "http://user:hunter2@pool.example"),
        ("EMBEDDING_MODEL", "effnet"),
        ("EMBEDDING_MODEL", "{model}"),
        ("EMBEDDING_MODEL", "{model}/{version}/{version}"),
        ("EMBEDDING_MODEL", "{model.__class__}/{version}"),
        ("EMBEDDING_MODEL", "{model"),
        ("EMBEDDING_MODEL", "{model.absent}-{version}"),
        ("CACHE_URL", "redis://[::1"),
        ("CACHE_URL", "redis://cache.example:99999"),
    ],
)
def test_a_wrong_setting_is_said(good_build: Build, variable: str, value: str) -> None:
    with pytest.raises(Exception, match=variable):
        Config.from_environment({**good_build.environment(), variable: value})


def test_right_settings_are_taken(good_build: Build) -> None:
    for url in (
        "http://pool.example",
        "https://pool.example/triton",
        "grpc://pool.example:9000",
        "grpcs://10.0.0.1:9000",
    ):
        assert Config.from_environment({**good_build.environment(), "EMBEDDING_URL": url}).embedding_url == url
    assert Config.from_environment(good_build.environment()).embedding_model == "{model}/{version}"
