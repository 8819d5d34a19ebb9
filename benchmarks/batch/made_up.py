"""A bucket server with a catalogue of made-up pictures of which a run before knew everything, and a made-up model."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path

import numpy as np
import onnx
import pyarrow as pa
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from benchmarks.bench_engines import embeddings
from embedding_batch.config import Config, Model
from embedding_batch.run import Run
from embedding_batch.state.features import DIGEST_BYTES, Features
from embedding_batch.state.items import CATEGORY
from embedding_batch.state.tables import write_table
from embedding_batch.steps.publish.models import LocalModel, new_model, own_model, publish_model
from local_stack import bucket_server, processes
from model_repository.bucket.gcs_store import GcsStore
from model_repository.documents.model_manifest import ModelInput
from model_repository.names import IndexPrefix, ModelPrefix, Target

BUCKET = "made-up"
INDEX = "shop"
MODEL = ModelPrefix("made-up", "1")
SIDE = 32
"""Pixels of a picture that the made-up model takes."""
_AT_ONCE = 100_000


@contextmanager
def bucket(folder: Path) -> Iterator[GcsStore]:
    """A bucket server in `folder`, while the block runs; programs that are started in it find it, too."""
    port = processes.free_port()
    server = processes.RunningProgram.start(bucket_server.program(folder / "bucket", folder / "log", port, None))
    try:
        server.wait_ready()
        os.environ["STORAGE_EMULATOR_HOST"] = f"http://127.0.0.1:{port}"
        bucket_server.create_bucket(os.environ["STORAGE_EMULATOR_HOST"], BUCKET)
        yield GcsStore(BUCKET)
    finally:
        server.stop()


def publish_made_up_model(store: GcsStore, folder: Path, dimensions: int) -> None:
    """Publish MODEL: the mean colour of a picture, and a matrix; it costs nothing beside decoding."""
    network = folder / "model.onnx"
    _write_network(network, dimensions)
    publish(store, own_model(network, MODEL.model, MODEL.version, ModelInput(SIDE), normalised=True, least_cosine=0.99))


def publish(store: GcsStore, model: LocalModel) -> None:
    """Publish a model with a golden picture of one colour."""
    golden = BytesIO()
    Image.new("RGB", (SIDE, SIDE), "teal").save(golden, "JPEG")
    publish_model(store, model, new_model(model, [golden.getvalue()], datetime.now(UTC)))


def leave_known(store: GcsStore, folder: Path, model: Model, items: int, categories: int) -> pa.Table:
    """Leave the list and the embeddings of a run before; return what a catalogue says of the same items.

    folder: a cache, and room for what isn't whole.
    """
    scratch = folder / "scratch"
    scratch.mkdir()
    config = Config(f"gs://{BUCKET}", Target("production", INDEX), IndexPrefix(INDEX, "yesterday"), folder)
    config.model_cache.mkdir(parents=True, exist_ok=True)
    run = Run(config, store, GcsStore, scratch, datetime.now(UTC), lambda _: None)
    local, published = run.model(str(model))
    if published is None:
        publish(store, local)
    features = run.features({"name": str(model), "classes": []})
    random = np.random.default_rng(1)
    digests: list[bytes] = []
    for start in range(0, items, _AT_ONCE):
        count = min(_AT_ONCE, items - start)
        of = [random.bytes(DIGEST_BYTES) for _ in range(count)]
        made = embeddings(count, local.dimensions, seed=start + 1)
        features.write(Features(tuple(of), made.astype(np.float16)))
        digests += of
    ids = pa.array([f"item-{number:08}" for number in range(items)])
    codes = pa.array(random.integers(0, categories, items, np.int32))
    category = pa.DictionaryArray.from_arrays(codes, [f"category {number}" for number in range(categories)])
    pictures = pa.array([f"/srv/pictures/{number % 1000:03}/{number:08}.jpg" for number in range(items)])
    versions = pa.array(["24601-1732000000000000000"] * items)
    nothing = pa.nulls(items, pa.string())
    said = {"id": ids, "category": category.cast(pa.string()), "picture": pictures, "version": versions}
    known = said | {
        "category": category.cast(CATEGORY),
        "tags": pa.nulls(items, pa.list_(pa.string())),
        "etag": nothing,
        "modified": nothing,
        "looked": pa.array(np.full(items, int(time.time()))),
        "sha256": pa.array(digests, pa.binary(DIGEST_BYTES)),
        "reason": nothing,
    }
    write_table(store, run.folder.catalogue, pa.table(known), scratch)
    return pa.table(said)


def write_pictures(folder: Path, numbers: range, side: int) -> list[Path]:
    """Write JPEGs of `side` pixels that no two of are alike."""
    folder.mkdir(exist_ok=True)
    paths = []
    for number in numbers:
        random = np.random.default_rng(number)
        coarse = Image.fromarray(random.integers(0, 256, (8, 8, 3), np.uint8))
        path = folder / f"{number:08}.jpg"
        coarse.resize((side, side), Image.Resampling.BICUBIC).save(path, "JPEG", quality=85)
        paths.append(path)
    return paths


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
        [helper.make_tensor_value_info("pictures", TensorProto.FLOAT, ["N", 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["N", dimensions])],
        [numpy_helper.from_array(weights, "weights")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
