"""Running a model of the contract."""

from __future__ import annotations

import io
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper
from PIL import Image

from image_embedder import Device, Embedder, InputRefused, PictureUnreadable
from model_repository.documents.model_manifest import ModelInput
from model_repository.errors import Misconfigured


@pytest.fixture
def mean_colour(tmp_path: Path) -> Path:
    """A model of 8-pixel pictures whose embedding is their mean colour."""
    nodes = [
        helper.make_node("ReduceMean", ["images"], ["mean"], axes=[2, 3], keepdims=0),
        helper.make_node("LpNormalization", ["mean"], ["embedding"], axis=1, p=2),
    ]
    images = helper.make_tensor_value_info("images", TensorProto.FLOAT, ["N", 3, 8, 8])
    embedding = helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["N", 3])
    graph = helper.make_graph(nodes, "mean", [images], [embedding])
    path = tmp_path / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def test_a_probe_says_how_many_numbers_it_gives_and_refuses_what_it_does_not_take(mean_colour: Path) -> None:
    embedder = Embedder(mean_colour)
    assert embedder.probe(ModelInput(8)) == 3
    with pytest.raises(InputRefused, match="not float32 of"):
        embedder.probe(ModelInput(9))


def test_a_batch_becomes_one_vector_a_picture(mean_colour: Path) -> None:
    batch = np.zeros((2, 3, 8, 8), np.float32)
    batch[0, 0] = 255
    batch[1, 2] = 7
    assert Embedder(mean_colour).embed(batch).tolist() == [[1, 0, 0], [0, 0, 1]]


def test_threads_may_share_one(mean_colour: Path) -> None:
    embedder = Embedder(mean_colour)
    batches = np.random.default_rng(1).uniform(1, 255, (50, 1, 3, 8, 8)).astype(np.float32)
    with ThreadPoolExecutor(4) as pool:
        found = np.stack(list(pool.map(embedder.embed, batches)))
    assert np.array_equal(found, np.stack([embedder.embed(batch) for batch in batches]))


def test_a_file_that_is_no_model_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"no model")
    with pytest.raises(Exception, match=r"model\.onnx"):
        Embedder(path)


def test_it_says_what_it_runs_on(mean_colour: Path) -> None:
    embedder = Embedder(mean_colour)
    assert embedder.device is Device.CPU


def test_a_device_is_never_replaced_by_the_cpu_in_silence(mean_colour: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        Misconfigured, match=r"no CUDAExecutionProvider; install requirements/embedding_batch_cuda\.txt"
    ):
        Embedder(mean_colour, device=Device.CUDA)
    # As with onnxruntime-gpu where CUDA's libraries can't be loaded: it warns, and takes the CPU.
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    with (
        pytest.warns(UserWarning, match="CUDAExecutionProvider"),
        pytest.raises(Misconfigured, match="can't use CUDAExecutionProvider, only CPUExecutionProvider"),
    ):
        Embedder(mean_colour, device=Device.CUDA)


@pytest.mark.filterwarnings("ignore:overflow")
def test_a_picture_without_finite_numbers_has_no_vector(mean_colour: Path) -> None:
    file = io.BytesIO()
    Image.new("RGB", (8, 8), "white").save(file, "PNG")
    with pytest.raises(PictureUnreadable, match="no finite numbers"):
        Embedder(mean_colour).embed_picture(file.getvalue(), ModelInput(8, std=(1e-38, 1e-38, 1e-38)))


def test_a_picture_for_which_a_model_gives_zeros_alone_has_no_vector(mean_colour: Path) -> None:
    file = io.BytesIO()
    Image.new("RGB", (8, 8), "black").save(file, "PNG")
    with pytest.raises(PictureUnreadable, match="nothing but zeros"):
        Embedder(mean_colour, normalised=False).embed_picture(file.getvalue(), ModelInput(8))
