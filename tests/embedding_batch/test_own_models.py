"""Somebody's own models: published, used for all categories or for some, and served."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from embedding_batch.command_line.reading import read_command
from embedding_batch.errors import ModelUnsound
from embedding_batch.main import main
from embedding_batch.steps.publish.models import own_model
from model_repository.bucket.gcs_store import GcsStore
from model_repository.documents.model_manifest import Layout, ModelInput, PixelType
from model_repository.errors import BuildIncomplete, Misconfigured, ObjectMissing
from model_repository.names import IndexPrefix, ModelPrefix
from model_repository.repository import read_build, read_model_manifest
from model_repository.telemetry.log import Log
from search_server.build import open_and_prove
from search_server.build.partitions import search, to_vector
from tests.embedding_batch.conftest import NOW, pull
from tests.pictures import embed_here

if TYPE_CHECKING:
    from tests.embedding_batch.conftest import Shop

SIZE, CELLS = 16, 4


def cells(path: Path, *, layout: Layout = Layout.NCHW, dtype: PixelType = PixelType.FLOAT32) -> Path:
    """A model whose embedding is the mean colours of 4 x 4 cells, not of length 1."""
    shape = ["N", 3, SIZE, SIZE] if layout is Layout.NCHW else ["N", SIZE, SIZE, 3]
    kind = TensorProto.FLOAT if dtype is PixelType.FLOAT32 else TensorProto.UINT8
    nodes = [helper.make_node("Cast", ["pictures"], ["values"], to=TensorProto.FLOAT)]
    if layout is Layout.NHWC:
        nodes.append(helper.make_node("Transpose", ["values"], ["planes"], perm=[0, 3, 1, 2]))
    edge = [SIZE // CELLS] * 2
    nodes += [
        helper.make_node("AveragePool", [nodes[-1].output[0]], ["pooled"], kernel_shape=edge, strides=edge),
        helper.make_node("Flatten", ["pooled"], ["embedding"]),
    ]
    graph = helper.make_graph(
        nodes,
        "cells",
        [helper.make_tensor_value_info("pictures", kind, shape)],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["N", 3 * CELLS * CELLS])],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def own(path: Path, takes: ModelInput) -> tuple[int, np.ndarray]:
    model = own_model(path, "cells", "", takes, normalised=False, least_cosine=0.999)
    return model.dimensions, model.embedder.embed(np.full((1, 3, SIZE, SIZE), 7, np.float32))


def publish(shop: Shop, bucket: str, path: Path, *more: str, name: str = "cells") -> int:
    golden = [str(shop.folder / f"{item}.jpg") for item in ("chair-1", "lamp-1")]
    arguments = ["model", "publish", "--onnx", str(path), "--name", name, "--version", "1", "--input-size", str(SIZE)]
    return main([*arguments, "--golden", *golden, *more], {"MODEL_REPOSITORY": f"gs://{bucket}"})


def batch(shop: Shop, bucket: str, *more: str, build: str = "b1") -> int:
    arguments = ["--catalogue", str(shop.folder), "--index", "shop", "--environment", "test", "--build", build]
    arguments += ["--cache", str(shop.config.cache), "--trees", "5", *more]
    return main(arguments, {"MODEL_REPOSITORY": f"gs://{bucket}"})


KINDS = [
    (Layout.NCHW, PixelType.FLOAT32, ["--mean", "123.7", "116.3", "103.5", "--std", "58.4", "57.1", "57.4"]),
    (Layout.NHWC, PixelType.FLOAT32, ["--resize", "crop"]),
    (Layout.NCHW, PixelType.UINT8, ["--resize", "pad"]),
    (Layout.NHWC, PixelType.UINT8, ["--resize", "square", "--least-cosine", "0.99"]),
]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: f"{kind[0]}-{kind[1]}")
def test_a_model_of_any_layout_and_type_is_published_used_and_proved_by_a_server(
    shop: Shop, new_bucket: Callable[[], str], tmp_path: Path, kind: tuple[Layout, PixelType, list[str]]
) -> None:
    (layout, dtype, more), bucket = kind, new_bucket()
    path = cells(tmp_path / "cells.onnx", layout=layout, dtype=dtype)
    assert publish(shop, bucket, path, "--layout", layout, "--dtype", dtype, "--normalise", *more) == 0
    assert batch(shop, bucket, "--model", "models/cells/1") == 0
    shop.store = GcsStore(bucket)  # type: ignore[assignment]
    build = read_build(shop.store, IndexPrefix("shop", "b1"))
    assert [str(model.prefix) for model in build.manifest.models] == ["models/cells/1"]
    assert {partition.dimensions for partition in build.manifest.partitions} == {48}
    pull(shop, build.manifest, tmp_path / "pod")
    index, (model,) = open_and_prove(tmp_path / "pod", build.manifest.prefix, build.digest, embed_here, Log())
    picture = embed_here(model, (shop.folder / "chair-2.jpg").read_bytes())
    assert np.linalg.norm(picture) == pytest.approx(1, abs=1e-5)
    assert search(index.partitions, to_vector(picture, index.partitions), 1).ids == [b"chair-2"]


def test_categories_may_have_models_of_their_own(shop: Shop, new_bucket: Callable[[], str], tmp_path: Path) -> None:
    bucket = new_bucket()
    assert publish(shop, bucket, cells(tmp_path / "cells.onnx"), "--normalise") == 0
    category = json.loads((shop.folder / "catalogue.jsonl").open().readline())["category"]
    assert batch(shop, bucket, "--model", f"{category}=models/cells/1") == 0
    manifest = read_build(GcsStore(bucket), IndexPrefix("shop", "b1")).manifest
    names = [model.prefix.model for model in manifest.models]
    assert sorted(names) == ["cells", "efficientnet-lite0"]
    for partition in manifest.partitions:
        assert partition.model is not None
        assert names[partition.model] == ("cells" if partition.category == category else "efficientnet-lite0")
        assert partition.dimensions == (48 if partition.category == category else 1280)


def test_a_built_in_model_may_be_named_by_its_prefix_too(shop: Shop) -> None:
    shop.batch("b1")
    (model,) = shop.manifest("b1").models
    category = json.loads((shop.folder / "catalogue.jsonl").open().readline())["category"]
    summary = shop.batch("b2", models={category: model.prefix})
    assert shop.manifest("b2").models == (model,)
    assert {partition.model for partition in shop.manifest("b2").partitions} == {0}
    assert (summary["embedded"], summary["reused"]) == (0, 15)


def test_what_was_embedded_by_a_model_is_not_embedded_again(
    shop: Shop, new_bucket: Callable[[], str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    bucket = new_bucket()
    publish(shop, bucket, cells(tmp_path / "cells.onnx"), "--normalise")
    publish(shop, bucket, cells(tmp_path / "cells.onnx"), "--normalise", "--resize", "crop", name="cropped")
    capfd.readouterr()
    embedded = []
    for build, model in (("b1", "models/cells/1"), ("b2", "models/cells/1"), ("b3", "models/cropped/1")):
        assert batch(shop, bucket, "--model", model, "--expect-change", "model", build=build) == 0
        embedded.append(json.loads(capfd.readouterr().out)["embedded"])
    assert embedded == [15, 0, 15]  # the same file, given other pictures, is another model


def test_a_model_is_never_replaced(shop: Shop, new_bucket: Callable[[], str], tmp_path: Path) -> None:
    bucket = new_bucket()
    path = cells(tmp_path / "cells.onnx")
    assert publish(shop, bucket, path, "--normalise") == 0
    before = read_model_manifest(GcsStore(bucket), ModelPrefix("cells", "1"))
    assert publish(shop, bucket, path, "--normalise") == 0  # the same again
    other = cells(tmp_path / "other.onnx", layout=Layout.NHWC)
    assert publish(shop, bucket, other, "--layout", "nhwc", "--normalise") == 65
    for more in (["--resize", "crop"], ["--mean", "9", "9", "9"], ["--least-cosine", "0.99"]):
        assert publish(shop, bucket, path, "--normalise", *more) == 65
    assert read_model_manifest(GcsStore(bucket), ModelPrefix("cells", "1")) == before


@pytest.mark.parametrize(
    ("takes", "says"),
    [
        (ModelInput(SIZE, layout=Layout.NHWC), "not float32 of \\['N', 16, 16, 3\\]"),
        (ModelInput(SIZE, dtype=PixelType.UINT8), "takes tensor\\(float\\) of .* not uint8"),
        (ModelInput(32), "not float32 of \\['N', 3, 32, 32\\]"),
    ],
)
def test_a_model_that_takes_something_else_is_refused_before_any_upload(
    tmp_path: Path, takes: ModelInput, says: str
) -> None:
    with pytest.raises(ModelUnsound, match=says):
        own(cells(tmp_path / "cells.onnx"), takes)


def test_a_file_that_is_no_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.onnx").write_bytes(b"no model")
    with pytest.raises(ModelUnsound, match="onnxruntime can't load it"):
        own(tmp_path / "x.onnx", ModelInput(SIZE))


def test_a_graph_without_inputs_is_refused(tmp_path: Path) -> None:
    always = helper.make_node("Constant", [], ["embedding"], value_floats=[1.0])
    gives = helper.make_tensor_value_info("embedding", TensorProto.FLOAT, [1])
    model = helper.make_model(
        helper.make_graph([always], "always", [], [gives]), opset_imports=[helper.make_opsetid("", 17)], ir_version=8
    )
    onnx.save(model, tmp_path / "x.onnx")
    with pytest.raises(ModelUnsound, match="the model takes nothing, or gives nothing"):
        own(tmp_path / "x.onnx", ModelInput(SIZE))


def changed(path: Path, *nodes: onnx.NodeProto) -> Path:
    """`cells` with more nodes, from `embedding` to `changed`, which it gives."""
    model = onnx.load(cells(path))
    model.graph.node.extend(nodes)
    model.graph.output[0].name = "changed"
    onnx.save(model, path)
    return path


def refused(shop: Shop, bucket: str, path: Path, *more: str, capfd: pytest.CaptureFixture[str]) -> str:
    """What is said of a model of which nothing is uploaded."""
    assert publish(shop, bucket, path, *more) == 65
    assert GcsStore(bucket).listing("") == []
    (line,) = (line for line in capfd.readouterr().err.splitlines() if '"ERROR"' in line)
    return str(json.loads(line)["message"])


def test_a_model_whose_vectors_are_not_what_it_says_is_refused_before_any_upload(
    shop: Shop, new_bucket: Callable[[], str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    bucket = new_bucket()
    said = refused(shop, bucket, cells(tmp_path / "long.onnx"), capfd=capfd)
    assert "and not 1; publish with --normalise" in said
    noise = helper.make_node("RandomNormalLike", ["embedding"], ["changed"])
    said = refused(shop, bucket, changed(tmp_path / "noise.onnx", noise), "--normalise", capfd=capfd)
    assert "gives one picture another vector each time" in said
    nothing = helper.make_node("Sub", ["embedding", "embedding"], ["changed"])
    said = refused(shop, bucket, changed(tmp_path / "nothing.onnx", nothing), "--normalise", capfd=capfd)
    assert said == f"--golden: {shop.folder / 'chair-1.jpg'}: the model gave nothing but zeros for the picture"


@pytest.mark.parametrize("normalised", [True, False])
@pytest.mark.parametrize(
    ("operation", "inputs", "gives"),
    [
        ("Reshape", ["embedding", "shape"], "float32 of [4, 12]"),
        ("Slice", ["embedding", "zero", "zero", "one"], "float32 of [1, 0]"),
        ("SequenceConstruct", ["embedding"], "float32 of [1, 1, 48]"),
    ],
)
def test_a_model_that_gives_a_picture_anything_but_one_vector_is_refused(
    tmp_path: Path, operation: str, inputs: list[str], gives: str, *, normalised: bool
) -> None:
    path = changed(tmp_path / "changed.onnx", helper.make_node(operation, inputs, ["changed"]))
    model = onnx.load(path)
    for name, numbers in (("shape", [-1, 12]), ("zero", [0]), ("one", [1])):
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.array(numbers), name))
    kind = helper.make_tensor_type_proto(TensorProto.FLOAT, None)
    kind = helper.make_sequence_type_proto(kind) if operation == "SequenceConstruct" else kind
    model.graph.output[0].type.CopyFrom(kind)
    onnx.save(model, path)
    with pytest.raises(ModelUnsound) as caught:
        own_model(path, "cells", "", ModelInput(SIZE), normalised=normalised, least_cosine=0.999)
    assert f"gives {gives} for one picture" in str(caught.value)


def test_a_model_that_needs_a_file_beside_it_is_refused_before_any_upload(
    shop: Shop, new_bucket: Callable[[], str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = changed(tmp_path / "two.onnx", helper.make_node("Add", ["embedding", "bias"], ["changed"]))
    model = onnx.load(path)
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.ones(48, np.float32), "bias"))
    onnx.save_model(model, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    said = refused(shop, new_bucket(), path, "--normalise", capfd=capfd)
    assert said.startswith(f"{path}: onnxruntime can't load it")
    assert said.endswith("save all weights within the file: only that is uploaded")


def test_vectors_are_made_of_length_1_if_the_model_does_not(tmp_path: Path) -> None:
    dimensions, vectors = own(cells(tmp_path / "cells.onnx"), ModelInput(SIZE))
    assert dimensions == 48
    assert np.linalg.norm(vectors) == pytest.approx(1)


def test_means_that_are_meant_for_values_up_to_1_are_refused(
    shop: Shop, new_bucket: Callable[[], str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    means = ["--mean", "0.485", "0.456", "0.406", "--std", "0.229", "0.224", "0.225"]
    assert publish(shop, new_bucket(), cells(tmp_path / "cells.onnx"), *means) == 64
    assert "multiply what is meant for 0 to 1 by 255" in capfd.readouterr().err


@pytest.mark.parametrize(
    "wrong",
    [
        ("--onnx", "gone"),
        ("--onnx", "."),
        ("--golden", "gone"),
        ("--least-cosine", "nan"),
        ("--least-cosine", "1.5"),
        ("--least-cosine", "1"),
        ("--input-size", "0"),
        ("--std", "nan"),
    ],
)
def test_an_option_of_a_model_that_makes_no_sense_is_named_before_any_upload(
    shop: Shop, new_bucket: Callable[[], str], tmp_path: Path, capfd: pytest.CaptureFixture[str], wrong: tuple[str, str]
) -> None:
    option, value = wrong
    bucket, path = new_bucket(), cells(tmp_path / "cells.onnx")
    values = [str(tmp_path / value) if option in {"--onnx", "--golden"} else value] * (3 if option == "--std" else 1)
    assert publish(shop, bucket, path, "--normalise", option, *values) == 64
    assert option in json.loads(capfd.readouterr().err.splitlines()[-1])["message"]
    assert GcsStore(bucket).listing("") == []


@pytest.mark.parametrize("wrong", ["models/cells", "cells", "chairs=models/Cells/1", "models/../1"])
def test_what_names_no_model_is_refused(wrong: str) -> None:
    with pytest.raises(Misconfigured, match="--model"):
        read_command(
            ["--catalogue", "c", "--index", "i", "--environment", "e", "--repository", "gs://bucket", "--model", wrong],
            {},
            NOW,
        )


def test_a_model_that_is_not_there_or_not_whole_stops_the_batch(
    shop: Shop, new_bucket: Callable[[], str], tmp_path: Path
) -> None:
    bucket = new_bucket()
    with pytest.raises(ObjectMissing, match="models/cells/1"):
        shop.batch(model=ModelPrefix("cells", "1"))
    publish(shop, bucket, cells(tmp_path / "cells.onnx"), "--normalise")
    shop.store = GcsStore(bucket)  # type: ignore[assignment]
    shop.store._bucket.blob("models/cells/1/model.onnx").delete()  # type: ignore[attr-defined]
    with pytest.raises(BuildIncomplete, match=r"model\.onnx"):
        shop.batch(model=ModelPrefix("cells", "1"))
