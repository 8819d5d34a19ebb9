"""Pictures through a model in processes that may die."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper
from PIL import Image

from embedding_batch.embedding import Device, batches, embed_pictures, processes, single
from embedding_batch.embedding.batches import embed_in_batches
from embedding_batch.embedding.processes import CHUNK, CHUNK_BYTES, IN_HAND, Processes, next_chunk
from embedding_batch.embedding.work import EmbedWork
from embedding_batch.errors import WorkersDied
from image_embedder import Embedder
from model_repository.documents.model_manifest import ModelInput
from model_repository.errors import Misconfigured
from tests.embedding_batch.killing import (
    CRASHES,
    DRAGS,
    FAILS,
    KILLED,
    KillingDecodeWork,
    KillingEmbedWork,
    StillbornWork,
)
from tests.pictures import jpeg_of_scans, png

Vectors = dict[str, NDArray[np.float32] | str]
SIZE = 32
_WORKER = "embedding_batch/embedding/worker.py"
_HANG = 60.0
"""Seconds that only a hang exceeds."""


@dataclass(frozen=True)
class AModel:
    path: Path
    takes: ModelInput = field(default_factory=lambda: ModelInput(SIZE))
    normalised: bool = True


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> AModel:
    """A convolution and what is left of it, in 16 numbers; made up."""
    random = np.random.default_rng(1)
    weights = helper.make_tensor(
        "weights", TensorProto.FLOAT, [16, 3, 3, 3], random.standard_normal(16 * 27).astype(np.float32)
    )
    nodes = [
        helper.make_node("Conv", ["images", "weights"], ["found"], kernel_shape=[3, 3]),
        helper.make_node("Relu", ["found"], ["some"]),
        helper.make_node("ReduceMean", ["some"], ["mean"], axes=[2, 3], keepdims=0),
        helper.make_node("LpNormalization", ["mean"], ["embedding"], axis=1, p=2),
    ]
    images = helper.make_tensor_value_info("images", TensorProto.FLOAT, ["N", 3, SIZE, SIZE])
    embedding = helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["N", 16])
    graph = helper.make_graph(nodes, "a-model", [images], [embedding], [weights])
    path = tmp_path_factory.mktemp("model") / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return AModel(path)


def photos(count: int) -> list[tuple[str, bytes]]:
    random = np.random.default_rng(2)
    found = []
    for number in range(count):
        file = io.BytesIO()
        pixels = random.integers(0, 256, (24 + number % 7, 40, 3), np.uint8)
        Image.fromarray(pixels).save(file, "JPEG" if number % 2 else "PNG")
        found.append((f"photo-{number}", file.getvalue()))
    return found


def in_this_process(model: AModel, pictures: list[tuple[str, bytes]]) -> Vectors:
    embedder = Embedder(model.path)
    return {key: embedder.embed_picture(data, model.takes) for key, data in pictures}


def same(found: Vectors, expected: Vectors) -> bool:
    return found.keys() == expected.keys() and all(np.array_equal(found[key], expected[key]) for key in found)


def workers_of(parent: int) -> list[int]:
    """The processes that a process has started to embed, as the kernel knows them; one that has ended is none."""
    found = []
    for tasks in Path(f"/proc/{parent}/task").glob("*/children"):
        for pid in tasks.read_text().split():
            try:
                command = Path(f"/proc/{pid}/cmdline").read_text()
            except OSError:  # it has just ended
                continue
            if _WORKER in command:
                found.append(int(pid))
    return found


def eventually_gone(pids: list[int]) -> bool:
    deadline = time.monotonic() + _HANG
    while time.monotonic() < deadline:
        if not any(_runs(pid) for pid in pids):
            return True
        time.sleep(0.02)
    return False


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z"
    except OSError:
        return False


def test_a_vector_is_bit_for_bit_that_of_one_process(model: AModel) -> None:
    pictures = photos(150)  # enough for a second process
    assert same(dict(embed_pictures(pictures, model, workers=2)), in_this_process(model, pictures))


def test_a_picture_that_is_none_has_a_reason_and_the_others_their_vectors(model: AModel) -> None:
    pictures = photos(20)
    found = dict(embed_pictures([*pictures[:3], ("bad", b"no picture"), *pictures[3:]], model, workers=2))
    assert "can't be decoded" in str(found.pop("bad"))
    assert same(found, in_this_process(model, pictures))


@pytest.mark.filterwarnings("ignore:overflow")
def test_no_numbers_are_no_vector(model: AModel) -> None:
    endless = AModel(model.path, ModelInput(SIZE, std=(1e-38, 1e-38, 1e-38)))
    pictures = photos(2)
    for found in (
        dict(embed_pictures(pictures, endless, workers=1)),
        dict(embed_in_batches(pictures, endless.takes, Embedder(endless.path), workers=1)),
    ):
        assert set(found.values()) == {"the model gave no finite numbers for the picture"}


@pytest.mark.parametrize(("deadly", "signed"), [(KILLED, "signal 9"), (CRASHES, "signal 11")])
def test_a_picture_that_kills_its_process_is_a_reason_and_costs_no_other_its_vector(
    model: AModel, monkeypatch: pytest.MonkeyPatch, deadly: bytes, signed: str
) -> None:
    monkeypatch.setattr(single, "EmbedWork", KillingEmbedWork)
    pictures = photos(60)
    found = dict(embed_pictures([*pictures[:13], ("deadly", deadly), *pictures[13:]], model, workers=2))
    assert signed in str(found.pop("deadly"))
    assert same(found, in_this_process(model, pictures))


def test_a_whole_chunk_of_deadly_pictures_is_survived(model: AModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(single, "EmbedWork", KillingEmbedWork)
    pictures = photos(8)
    deadly = [(f"deadly-{number}", KILLED) for number in range(CHUNK)]
    found = dict(embed_pictures([*deadly, *pictures], model, workers=1))
    assert all("signal 9" in str(found.pop(key)) for key, _ in deadly)
    assert same(found, in_this_process(model, pictures))


def test_a_process_that_is_killed_from_outside_costs_nothing(model: AModel) -> None:
    pictures = photos(400)
    found: Vectors = {}
    for number, (key, vector) in enumerate(embed_pictures(pictures, model, workers=2)):
        found[key] = vector
        if number in (10, 200):
            os.kill(workers_of(os.getpid())[0], signal.SIGKILL)
    assert same(found, in_this_process(model, pictures))


def test_processes_that_all_die_end_the_run(model: AModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(single, "EmbedWork", StillbornWork)
    monkeypatch.setattr(processes, "DEATHS_IN_A_ROW", 1)
    with pytest.raises(WorkersDied, match="4 worker processes died, the last by signal 9"):
        list(embed_pictures(photos(100), model, workers=2))
    assert workers_of(os.getpid()) == []


def test_pictures_that_take_too_long_are_left_out_with_their_reason_however_many(
    model: AModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(single, "EmbedWork", KillingEmbedWork)
    monkeypatch.setattr(processes, "DEATHS", 1)
    monkeypatch.setattr(processes, "DEATHS_IN_A_ROW", 0)
    slow = [(f"slow-{number}", DRAGS) for number in range(CHUNK)]
    good = photos(3)
    found = dict(embed_pictures([*slow, *good], model, workers=1))
    assert {found.pop(key) for key, _ in slow} == {"the picture takes more than 10 s of a processor to be decoded"}
    assert same(found, in_this_process(model, good))


def test_pictures_that_cost_too_much_are_left_out_and_cost_no_process(model: AModel) -> None:
    good = photos(3)
    costly = [("memory", png(7000, 7000)), ("scans", jpeg_of_scans(1000, 1000)), ("pixels", png(500_000, 1))]
    found = dict(embed_pictures([*costly, *good], model, workers=1))
    assert "needs 374 MiB" in str(found.pop("memory"))
    assert "1006 scans" in str(found.pop("scans"))
    assert "65535 along a side" in str(found.pop("pixels"))
    assert same(found, in_this_process(model, good))


def test_no_picture_is_blamed_for_a_process_that_dies_without_having_begun_it(model: AModel) -> None:
    pictures = photos(3)
    work = EmbedWork(model.path, model.takes, model.normalised)
    pool: Processes[str, bytes, NDArray[np.float32] | str] = Processes(work, 1)
    found: Vectors = {}
    with pool:
        pool.give(pictures[:1])
        (starts,) = pool._workers.values()
        starts.process.kill()
        found |= dict(pool.take())
        (idle,) = pool._workers.values()
        os.kill(idle.process.pid, signal.SIGKILL)
        os.waitid(os.P_PID, idle.process.pid, os.WEXITED | os.WNOWAIT)
        pool.give(pictures[1:2])
        pool.give(pictures[2:])
        while not pool.idle:
            found |= dict(pool.take())
    assert same(found, in_this_process(model, pictures))


def test_deaths_are_bounded_also_where_some_pictures_get_through(
    model: AModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(single, "EmbedWork", KillingEmbedWork)
    monkeypatch.setattr(processes, "DEATHS", 3)
    mixed = [picture for number, photo in enumerate(photos(60)) for picture in (photo, (f"deadly-{number}", KILLED))]
    with pytest.raises(WorkersDied, match="4 worker processes died"):
        list(embed_pictures(mixed, model, workers=2))


def test_a_defect_comes_with_the_stack_of_the_process_that_met_it(
    model: AModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(single, "EmbedWork", KillingEmbedWork)
    with pytest.raises(RuntimeError, match=r"(?s)in _suffer.*ZeroDivisionError: the defect"):
        list(embed_pictures([("x", FAILS)], model, workers=2))
    assert workers_of(os.getpid()) == []


def test_a_model_that_cannot_be_opened_is_said_and_ends_the_run(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"missing\.onnx"):
        list(embed_pictures(photos(1), AModel(tmp_path / "missing.onnx"), workers=2))


def test_closing_early_ends_every_process(model: AModel) -> None:
    found = embed_pictures(photos(500), model, workers=2)
    with closing(found):  # type: ignore[type-var]
        for _ in range(200):
            next(found)
        assert len(workers_of(os.getpid())) == 2
    assert workers_of(os.getpid()) == []


def test_few_pictures_are_not_worth_many_processes_and_none_not_even_one(model: AModel) -> None:
    counts = [len(workers_of(os.getpid())) for _ in embed_pictures(photos(processes.TASKS_A_WORKER), model, workers=8)]
    assert max(counts) == 1 + 1  # the last picture may start the next
    assert list(embed_pictures([], model, workers=8)) == []


def test_never_more_pictures_are_under_way_than_stated(model: AModel) -> None:
    pulled = 0

    def source() -> Iterator[tuple[str, bytes]]:
        nonlocal pulled
        for picture in photos(400):
            pulled += 1
            yield picture

    under_way = []
    for done, _ in enumerate(embed_pictures(source(), model, workers=2), 1):
        under_way.append(pulled - done)
    assert done == 400
    # What comes back at once is one chunk from each of the two.
    assert max(under_way) <= 2 * IN_HAND * CHUNK


def test_large_pictures_travel_by_few() -> None:
    pictures = iter([(number, bytes(CHUNK_BYTES // 2)) for number in range(5)])
    assert [len(next_chunk(pictures)) for _ in range(4)] == [2, 2, 1, 0]


_ENDLESS = """
import itertools, signal, sys
from pathlib import Path
from embedding_batch.embedding import embed_pictures
from tests.embedding_batch.test_embedding_engine import AModel, photos

signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background of a script begins without
pictures = itertools.cycle(photos(50))
for number, _ in enumerate(embed_pictures(pictures, AModel(Path(sys.argv[1])), workers=2)):
    if number == 300:
        print("goes", flush=True)
"""


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_whatever_ends_the_program_ends_its_processes_and_they_say_nothing(model: AModel, how: signal.Signals) -> None:
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", _ENDLESS, str(model.path)]
    with subprocess.Popen(
        command, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    ) as program:
        assert program.stdout is not None
        try:
            assert program.stdout.readline() == b"goes\n"
            pids = workers_of(program.pid)
            assert len(pids) == 2
            os.killpg(program.pid, how)  # as a terminal does
            assert eventually_gone(pids)
        except BaseException:
            os.killpg(program.pid, signal.SIGKILL)  # what should have ended must not go on for ever
            raise
        _, said = program.communicate()
    assert program.returncode == -how
    if how == signal.SIGINT:
        assert said.count(b"Traceback") == 1
        assert said.rstrip().endswith(b"KeyboardInterrupt")
    else:
        assert said == b""


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "BATCH", 16)


@pytest.mark.parametrize("count", [1, 15, 16, 17, 48, 100])
@pytest.mark.usefixtures("small_batches")
def test_in_batches_the_vectors_are_the_same_to_their_last_bits(model: AModel, count: int) -> None:
    pictures = photos(count)
    found = dict(embed_in_batches(pictures, model.takes, Embedder(model.path), workers=2))
    expected = in_this_process(model, pictures)
    assert found.keys() == expected.keys()
    for key, vector in expected.items():
        np.testing.assert_allclose(found[key], vector, atol=1e-6, rtol=0)


@pytest.mark.parametrize("deadly", [KILLED, b"no picture"])
@pytest.mark.usefixtures("small_batches")
def test_in_batches_a_bad_picture_leaves_its_neighbours_theirs(
    model: AModel, monkeypatch: pytest.MonkeyPatch, deadly: bytes
) -> None:
    monkeypatch.setattr(batches, "DecodeWork", KillingDecodeWork)
    pictures = photos(50)
    mixed = [*pictures[:5], ("bad", deadly), *pictures[5:]]
    found = dict(embed_in_batches(mixed, model.takes, Embedder(model.path), workers=2))
    assert isinstance(found.pop("bad"), str)
    expected = in_this_process(model, pictures)
    assert found.keys() == expected.keys()
    assert all(np.allclose(found[key], expected[key], atol=1e-6, rtol=0) for key in found)


@pytest.mark.usefixtures("small_batches")
def test_a_batch_of_nothing_but_bad_pictures_is_only_reasons(model: AModel) -> None:
    bad = [(f"bad-{number}", b"no picture") for number in range(20)]
    found = dict(embed_in_batches(bad, model.takes, Embedder(model.path), workers=1))
    assert len(found) == 20
    assert all(isinstance(reason, str) for reason in found.values())


@pytest.mark.usefixtures("small_batches")
def test_in_batches_no_more_pictures_are_under_way_than_there_are_rows(model: AModel) -> None:
    pulled = done = 0

    def source() -> Iterator[tuple[str, bytes]]:
        nonlocal pulled
        for picture in photos(300):
            pulled += 1
            assert pulled - done <= batches.BATCHES * 16
            yield picture

    for _ in embed_in_batches(source(), model.takes, Embedder(model.path), workers=4):
        done += 1
    assert done == 300


def test_a_device_that_is_not_there_is_said_before_a_picture_is_pulled(model: AModel) -> None:
    def source() -> Iterator[tuple[str, bytes]]:
        pytest.fail("a picture was pulled")
        yield "x", b""

    with pytest.raises(Misconfigured, match=r"--device cuda: .*no CUDAExecutionProvider.*embedding_batch_cuda"):
        embed_pictures(source(), model, workers=2, device=Device.CUDA)
