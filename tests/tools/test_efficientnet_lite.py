"""The network made from packaged weights: its parts by their formulas, the whole by what it finds."""

from __future__ import annotations

import collections
import json
import os
import pickle
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from embedding_batch.steps.publish.models import local_model
from image_embedder import Embedder, preprocess
from local_stack.demo.shop.labels import kinds
from model_repository.documents.model_manifest import ModelInput
from tools.make_model.efficientnet_lite import (
    blocks,
    build,
    folded,
    onnx_bytes,
    rounded_channels,
    same_padding,
)
from tools.make_model.legacy_torch import MAGIC, PROTOCOL, NotALegacyStream, read_tensors
from tools.make_model.variants import VARIANTS, weights_path

LITE0 = VARIANTS["efficientnet-lite0"]

INPUT = ModelInput(224)


@pytest.fixture(scope="module")
def weights() -> Mapping[str, NDArray[Any]]:
    return read_tensors(weights_path(LITE0))


@pytest.fixture(scope="module")
def embedder(cache: Path) -> Embedder:
    return Embedder(local_model(LITE0.name, cache / "models").path)


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "expected"),
    [(224, 3, 2, (0, 1, 112)), (112, 3, 1, (1, 1, 112)), (7, 5, 1, (2, 2, 7)), (15, 3, 2, (1, 1, 8))],
)
def test_padding_is_tensorflows_same(size: int, kernel: int, stride: int, expected: tuple[int, int, int]) -> None:
    assert same_padding(size, kernel, stride) == expected


@pytest.mark.parametrize(
    ("channels", "width", "expected"), [(320, 1.0, 320), (24, 1.1, 24), (40, 1.1, 48), (320, 1.1, 352)]
)
def test_channels_are_rounded_to_eights(channels: int, width: float, expected: int) -> None:
    assert rounded_channels(channels, width) == expected


def test_the_sizes_have_as_many_blocks_as_published() -> None:
    assert [len(blocks(variant)) for variant in VARIANTS.values()] == [16, 21, 21]


def test_a_folded_convolution_gives_what_convolution_and_batch_norm_give() -> None:
    random = np.random.default_rng(1)
    weights = {
        "conv.weight": random.normal(size=(4, 3, 1, 1)),
        "bn.weight": random.normal(size=4),
        "bn.bias": random.normal(size=4),
        "bn.running_mean": random.normal(size=4),
        "bn.running_var": random.uniform(0.1, 2, 4),
    }
    x = random.normal(size=3)
    y = weights["conv.weight"][:, :, 0, 0] @ x
    expected = weights["bn.weight"] * (y - weights["bn.running_mean"]) / np.sqrt(weights["bn.running_var"] + 1e-3)
    kernel, bias = folded(weights, "conv", "bn")
    assert kernel[:, :, 0, 0] @ x + bias == pytest.approx(expected + weights["bn.bias"], rel=1e-5, abs=1e-6)


def test_the_same_weights_give_the_same_bytes() -> None:
    assert onnx_bytes(LITE0) == onnx_bytes(LITE0)


def test_the_weights_of_another_size_are_refused(weights: Mapping[str, NDArray[Any]]) -> None:
    with pytest.raises(KeyError):
        build(weights, VARIANTS["efficientnet-lite1"])
    with pytest.raises(ValueError, match="more blocks"):
        build({**weights, "_blocks.16._bn0.weight": np.zeros(1)}, LITE0)


def test_embeddings_are_of_length_one_whatever_the_picture(embedder: Embedder) -> None:
    pictures = np.stack([np.full((3, 224, 224), value, np.float32) for value in (0, 127, 255)])
    assert np.linalg.norm(embedder.embed(pictures), axis=1) == pytest.approx([1, 1, 1], abs=1e-5)


def test_a_pictures_embedding_hardly_depends_on_its_batch(embedder: Embedder, home_store: Path) -> None:
    names = ("chair-1", "lamp-1", "deer")
    batch = np.stack([preprocess((home_store / "images" / f"{name}.jpg").read_bytes(), INPUT) for name in names])
    together = embedder.embed(batch)
    alone = np.concatenate([embedder.embed(batch[[row]]) for row in range(3)])
    assert np.abs(together - alone).max() < 1e-5


def test_products_of_a_kind_are_found_by_one_another(embedder: Embedder, home_store: Path) -> None:
    wanted = ("bed", "bottle", "chair", "door", "lamp", "plug", "sofa", "window")
    lines = [json.loads(line) for line in (home_store / "catalogue.jsonl").open()]
    by_kind: dict[str, list[str]] = collections.defaultdict(list)
    for item, kind in kinds(lines).items():
        if kind in wanted and len(by_kind[kind]) < 10:
            by_kind[kind].append(item)
    labels = np.array([kind for kind, items in by_kind.items() for _ in items])
    vectors = np.concatenate(
        [
            embedder.embed(preprocess((home_store / "images" / f"{item}.jpg").read_bytes(), INPUT)[np.newaxis])
            for items in by_kind.values()
            for item in items
        ]
    )
    similarities = vectors @ vectors.T
    np.fill_diagonal(similarities, -1)
    nearest = np.argsort(-similarities, axis=1)[:, :5]
    assert len(labels) == 80
    assert (labels[nearest] == labels[:, np.newaxis]).mean() > 0.6  # by chance: 0.11


class Runs:
    """A pickle that would run a command."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch /tmp/indexpush-was-here",)


def test_code_in_a_weights_file_is_not_run(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(b"".join(pickle.dumps(value, 2) for value in (MAGIC, PROTOCOL, {}, Runs())))
    with pytest.raises(NotALegacyStream, match="system"):
        read_tensors(path)


def damaged(data: bytes, how: str) -> bytes:
    return {
        "empty": b"",
        "a zip": b"PK\x03\x04" + bytes(100),
        "half": data[: len(data) // 2],
        "its head": data[:100],
        "another protocol": pickle.dumps(MAGIC, 2) + pickle.dumps(7, 2),
    }[how]


@pytest.mark.parametrize("how", ["empty", "a zip", "half", "its head", "another protocol"])
def test_what_is_no_whole_weights_file_is_refused(tmp_path: Path, how: str) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(damaged(weights_path(LITE0).read_bytes(), how))
    with pytest.raises(NotALegacyStream):
        read_tensors(path)


def test_a_tensor_that_looks_outside_its_numbers_is_refused(tmp_path: Path) -> None:
    data = weights_path(LITE0).read_bytes()
    with_stem = data.index(b"_conv_stem.weight")
    shape = data.index(struct.pack("<BBBBBBBB", ord("K"), 32, ord("K"), 3, ord("K"), 3, ord("K"), 3), with_stem)
    path = tmp_path / "weights.pth"
    path.write_bytes(data[: shape + 1] + b"\xff" + data[shape + 2 :])
    with pytest.raises(NotALegacyStream, match="outside"):
        read_tensors(path)
