"""Manifests that anyone may have written: what contradicts itself, or the contract, ends in one clear error."""

from __future__ import annotations

import json
from typing import Any

import pytest

from model_repository.documents.detector_manifest import parse_detector_manifest
from model_repository.documents.files import BLOCK_BYTES
from model_repository.documents.index_manifest import parse_index_manifest
from model_repository.documents.model_manifest import parse_model_manifest
from model_repository.errors import DocumentMalformed
from model_repository.names import IndexPrefix, ModelPrefix

PREFIX = IndexPrefix("home", "b1")
MODEL = ModelPrefix("lite", "1")
DIGEST = "sha256:" + "0" * 64
MODEL_FILES = [{"name": "model.json", "size": 10, "crc32c": "AAAAAA=="}]


def reference(**changes: Any) -> dict[str, Any]:
    return {"prefix": "models/lite/1", "digest": DIGEST, "dimensions": 4, "files": MODEL_FILES} | changes


def partition(**changes: Any) -> dict[str, Any]:
    return {
        "category": "chair",
        "file": "chair.annoy",
        "ids": "chair.ids",
        "items": 3,
        "engine": "annoy",
        "storage": "float32",
        "dimensions": 4,
        "metric": "angular",
        "model": 0,
        "width": 100,
        "recall": {"at": 10, "value": 0.99, "queries": 100},
    } | changes


def stretch(first: int, items: int, **changes: Any) -> dict[str, Any]:
    """A partition in a file that others may share, which has room for two items."""
    return partition(engine="exact", first=first, items=items) | changes


def own(first: int, **changes: Any) -> dict[str, Any]:
    """Such a one, of vectors that no model made."""
    return {name: value for name, value in stretch(first, 1).items() if name != "model"} | changes


def index(**changes: Any) -> dict[str, Any]:
    names = ("items.lookup", "chair.annoy", "chair.ids")
    return {
        "schema_version": 2,
        "index": "home",
        "build": "b1",
        "created": "2026-11-21T12:00:00Z",
        "models": [reference()],
        "partitions": [partition()],
        "lookup": "items.lookup",
        "golden_queries": [{"category": "chair", "item": "a", "neighbors": ["a", "b"], "distances": [0, 0.5]}],
        "files": [{"name": name, "size": 40, "crc32c": "AAAAAA=="} for name in names],
    } | changes


def index_of_schema_1(**changes: Any) -> dict[str, Any]:
    earlier = {name: value for name, value in index().items() if name != "models"}
    return (
        earlier
        | {
            "schema_version": 1,
            "model": reference(),
            "dimensions": 4,
            "metric": "angular",
            "trees": 10,
            "recall": {"at": 10, "value": 0.99, "queries": 100},
            "partitions": [{"category": "chair", "file": "chair.annoy", "ids": "chair.ids", "items": 3}],
        }
        | changes
    )


INPUT = {
    "size": 224,
    "layout": "nchw",
    "dtype": "float32",
    "resize": "area",
    "mean": [0.0, 0.0, 0.0],
    "std": [1.0, 1.0, 1.0],
}


def model_of_schema_1(**changes: Any) -> dict[str, Any]:
    new = ("kind", "input", "output", "least_cosine")
    earlier = {name: value for name, value in model().items() if name not in new}
    return earlier | {"schema_version": 1, "input_size": 224, "dimensions": 4} | changes


def model(**changes: Any) -> dict[str, Any]:
    names = ("model.onnx", "golden/0.jpg", "golden/0.f32")
    return {
        "schema_version": 2,
        "model": "lite",
        "version": "1",
        "created": "2026-11-21T12:00:00Z",
        "runtime": "onnx",
        "file": "model.onnx",
        "kind": "embedder",
        "input": INPUT,
        "output": {"dimensions": 4, "normalised": True},
        "least_cosine": 0.999,
        "golden_images": [{"image": "golden/0.jpg", "embedding": "golden/0.f32"}],
        "files": [{"name": name, "size": 10, "crc32c": "AAAAAA=="} for name in names],
    } | changes


REGION = {"box": [0.1, 0.2, 0.9, 1.0], "name": "Chair", "score": 0.8}


def detector(**changes: Any) -> dict[str, Any]:
    its = {name: value for name, value in model().items() if name not in ("output", "least_cosine")}
    return (
        its
        | {
            "kind": "detector",
            "input": INPUT | {"resize": "square"},
            "classes": ["Chair", "Mug"],
            "least_overlap": 0.9,
            "golden_images": [{"image": "golden/0.jpg", "regions": [REGION]}],
        }
        | changes
    )


def detector_reference(**changes: Any) -> dict[str, Any]:
    its = {"prefix": "models/ssd/1", "digest": DIGEST, "files": MODEL_FILES}
    return its | {"categories": {"Chair": "chair"}, "least_score": 0.5} | changes


def without(document: dict[str, Any], field: str) -> dict[str, Any]:
    return {key: value for key, value in document.items() if key != field}


def test_the_examples_here_are_right_before_they_are_broken() -> None:
    assert parse_index_manifest(json.dumps(index()).encode(), PREFIX).items == 3
    assert parse_model_manifest(json.dumps(model()).encode(), MODEL).dimensions == 4


def test_every_field_of_the_manifests_is_needed_and_no_other_is_taken() -> None:
    for field in index():
        with pytest.raises(DocumentMalformed, match=field):
            parse_index_manifest(json.dumps(without(index(), field)).encode(), PREFIX)
    for field in model():
        with pytest.raises(DocumentMalformed, match=field):
            parse_model_manifest(json.dumps(without(model(), field)).encode(), MODEL)
    for field in detector():
        with pytest.raises(DocumentMalformed, match=field):
            parse_detector_manifest(json.dumps(without(detector(), field)).encode(), MODEL)
    with pytest.raises(DocumentMalformed, match="unknown field 'extra'"):
        parse_index_manifest(json.dumps(index(extra=1)).encode(), PREFIX)
    with pytest.raises(DocumentMalformed, match="unknown field 'extra'"):
        parse_model_manifest(json.dumps(model(extra=1)).encode(), MODEL)


def golden(**changes: Any) -> dict[str, Any]:
    return {"category": "chair", "item": "a", "neighbors": ["a"], "distances": [0.0]} | changes


def file(name: str, **changes: Any) -> dict[str, Any]:
    return {"name": name, "size": 10, "crc32c": "AAAAAA=="} | changes


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"schema_version": 3}, "use a matching release"),
        ({"schema_version": True}, "expected a whole number, found true or false"),
        ({"index": "garden"}, "must stand where its manifest says"),
        ({"build": "b2"}, "must stand where its manifest says"),
        ({"created": "yesterday"}, "created: expected a time"),
        ({"created": "2026-11-21T12:00:00"}, "created: expected a time"),  # where on earth?
        ({"created": "0001-01-01T00:00:00+23:59"}, "created: expected a time"),
        ({"created": "9999-12-31T23:59:59-23:59"}, "created: expected a time"),
        ({"partitions": [partition(dimensions=0)]}, "dimensions: expected 1 to"),
        ({"partitions": [partition(dimensions=4.0)]}, "dimensions: expected a whole number"),
        ({"partitions": [partition(dimensions=10**30)]}, "dimensions: expected 1 to"),
        ({"partitions": [partition(metric="euclidean")]}, "metric 'euclidean'"),
        ({"partitions": [partition(recall={"at": 10, "value": 1.01, "queries": 5})]}, "recall.value: expected"),
        ({"partitions": [partition(recall={"at": 10, "value": 10**400, "queries": 5})]}, "recall.value: expected"),
        (
            {"partitions": [partition(recall={"at": 10, "value": 1, "queries": 5, "of": 1})]},
            "recall: unknown field 'of'",
        ),
        ({"lookup": "../items.lookup"}, "lookup: file"),
        ({"lookup": "other.lookup"}, "used but not listed"),
        ({"lookup": "chair.ids"}, "used twice"),
        ({"partitions": []}, "at least one"),
        ({"partitions": [partition(), partition()]}, "used twice"),
        ({"partitions": [partition(), partition(category="sofa")]}, "used twice"),
        ({"partitions": [partition(engine="exact", **one) for one in ({"items": 2}, {"items": 1})]}, "has row 0 of"),
        ({"partitions": [stretch(0, 1), stretch(2, 1)]}, "has row 2 of chair.annoy first, expected 1"),
        ({"partitions": [stretch(0, 2), stretch(1, 1)]}, "has row 1 of chair.annoy first, expected 2"),
        ({"partitions": [stretch(1, 1)]}, "has row 1 of chair.annoy first, expected 0"),
        ({"partitions": [partition(first=1)]}, "has row 1 of chair.annoy first, expected 0"),
        ({"partitions": [stretch(0, 1), stretch(1, 1, engine="annoy")]}, "has row 1 of chair.annoy first, expected 0"),
        ({"partitions": [stretch(0, 1), stretch(0, 1, ids="other.ids")]}, "used twice"),
        ({"models": [], "partitions": [own(0), own(0, dimensions=2)]}, "used twice"),
        ({"partitions": [stretch(0, 1), stretch(1, 2)]}, "'chair' goes beyond the end of chair.annoy"),
        ({"partitions": [stretch(-1, 1)]}, r"partitions[0].first: expected 0 to"),
        ({"partitions": [partition(items=0)]}, r"partitions[0].items: expected 1 to"),
        ({"partitions": [partition(items=2**31)]}, r"partitions[0].items: expected 1 to"),
        ({"partitions": [partition(file="/etc/passwd")]}, r"partitions[0].file"),
        ({"partitions": ["chair"]}, "expected an object, found a string"),
        ({"partitions": {"chair": {}}}, "partitions: expected a list"),
        ({"golden_queries": [golden(category="sofa")]}, "no partition has the category 'sofa'"),
        ({"golden_queries": [golden(neighbors=[])]}, "of one length"),
        ({"golden_queries": [golden(neighbors=[], distances=[])]}, "of one length"),
        ({"golden_queries": [golden(neighbors=[5])]}, "neighbors: expected"),
        ({"golden_queries": [golden(neighbors=["\ud800"])]}, "neighbors: expected"),
        ({"golden_queries": [golden(distances=["0"])]}, "distances: expected"),
        ({"golden_queries": [golden(distances=[True])]}, "distances: expected"),
        ({"golden_queries": [golden(distances=[10**400])]}, "distances: expected"),
        ({"golden_queries": [golden()] * 10_001}, "more than 10000"),
        ({"files": [file("a"), file("a")]}, "stands twice"),
        ({"files": [file("a"), file("a/b")]}, "both a file and a folder"),
        ({"files": [file("../a")]}, "files[0].name"),
        ({"files": [file("a/./b")]}, "files[0].name"),
        ({"files": [file("a//b")]}, "files[0].name"),
        ({"files": [file("a\\b")]}, "files[0].name"),
        ({"files": [file(".hidden")]}, "files[0].name"),
        ({"files": [file("-rf")]}, "files[0].name"),
        ({"files": [file("a", size=-1)]}, "files[0].size"),
        ({"files": [file("a", size=1.5)]}, "files[0].size"),
        ({"files": [file("a", size=2**63)]}, "files[0].size"),
        ({"files": [file("a", crc32c="AAAA")]}, "files[0].crc32c"),
        ({"files": [file("a", crc32c="AAAAAA")]}, "files[0].crc32c"),
        ({"files": [file("a", crc32c="AAAAAB==")]}, "files[0].crc32c"),  # bits beyond the four bytes
        ({"files": [file("a", crc32c="AAAA\u0410A==")]}, "files[0].crc32c"),
        ({"files": [file("a", size=BLOCK_BYTES, blocks=["AAAAAA=="])]}, "files[0]: blocks: expected a crc32c for each"),
        ({"files": [file("a", size=2 * BLOCK_BYTES, blocks=["AAAAAA=="])]}, "files[0]: blocks: expected a crc32c for"),
        ({"files": [file("a", size=BLOCK_BYTES + 1, blocks=["AAAAAA==", "AAAA"])]}, "files[0]: blocks: crc32c 'AAAA'"),
        ({"files": [*index()["files"], file("index.json")]}, "can't list itself"),
        ({"models": [reference(files=[])]}, "model.json is missing"),
        ({"models": [reference(digest="0" * 64)]}, "models[0].digest"),
        ({"models": [reference(prefix="models/../1")]}, "models[0].prefix"),
        ({"models": [reference(dimensions=5)]}, "vectors of 4 dimensions, but models/lite/1 makes 5"),
        ({"models": [reference(), reference()]}, "a model stands twice"),
        ({"models": [], "partitions": [partition(model=0)]}, "partitions[0].model"),
        ({"detector": detector_reference(prefix="models/lite/1")}, "detector: models/lite/1 is one of the models"),
        ({"detector": detector_reference(categories={"Chair": "mug"})}, "no partition has the category 'mug'"),
        ({"detector": detector_reference(categories={})}, "detector: categories: at least one class needs one"),
        ({"detector": detector_reference(files=[])}, "detector: files: model.json is missing"),
        ({"detector": detector_reference(least_score=2)}, "detector.least_score: expected"),
        ({"detector": detector_reference(dimensions=4)}, "detector: unknown field 'dimensions'"),
        ({"partitions": [partition(model=1)]}, "partitions[0].model: expected 0 to 0"),
        ({"partitions": [partition(engine="scann")]}, "'scann'; this release knows annoy, faiss-hnsw, exact"),
        ({"partitions": [partition(storage="int4")]}, "'int4'; this release knows float32, fp16, int8"),
        ({"partitions": [partition(storage="int8")]}, "partitions[0].storage: annoy can't keep vectors as int8"),
        ({"partitions": [partition(width=0)]}, "partitions[0].width"),
        ({"partitions": [partition(queries_per_second=-1)]}, "partitions[0].queries_per_second"),
    ],
)
def test_an_index_manifest_that_contradicts_itself_is_refused(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(DocumentMalformed) as caught:
        parse_index_manifest(json.dumps(index(**changes)).encode(), PREFIX)
    assert str(caught.value).startswith("indexes/home/b1/index.json: ")
    assert says in str(caught.value)


def test_a_model_manifest_of_the_first_schema_is_read() -> None:
    read = parse_model_manifest(json.dumps(model_of_schema_1()).encode(), MODEL)
    assert read == parse_model_manifest(json.dumps(model()).encode(), MODEL)
    with pytest.raises(DocumentMalformed, match="unknown field 'kind'"):
        parse_model_manifest(json.dumps(model_of_schema_1(kind="embedder")).encode(), MODEL)


def test_an_index_manifest_of_the_first_schema_is_read() -> None:
    read = parse_index_manifest(json.dumps(index_of_schema_1()).encode(), PREFIX)
    assert read == parse_index_manifest(json.dumps(index()).encode(), PREFIX)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"models": [reference()]}, "unknown field 'models'"),
        ({"partitions": [partition()]}, "partitions[0]: unknown field"),
        ({"trees": 0}, "trees: expected 1"),
        ({"detector": detector_reference()}, "unknown field 'detector'"),
        ({"model": reference(dimensions=5)}, "vectors of 4 dimensions, but models/lite/1 makes 5"),
        ({"partitions": index_of_schema_1()["partitions"] * 2}, "a category stands twice"),
    ],
)
def test_an_index_manifest_of_the_first_schema_that_contradicts_itself_is_refused(
    changes: dict[str, Any], says: str
) -> None:
    with pytest.raises(DocumentMalformed) as caught:
        parse_index_manifest(json.dumps(index_of_schema_1(**changes)).encode(), PREFIX)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"version": "2"}, "must stand where its manifest says"),
        ({"runtime": "torch"}, "runtime 'torch'"),
        ({"file": "other.onnx"}, "used but not listed"),
        ({"kind": "ranker"}, "'ranker'; this release knows embedder, detector"),
        ({"kind": "detector"}, "kind: is 'detector'; what is needed here is of kind 'embedder'"),
        ({"input": INPUT | {"size": 7}}, "input.size: expected 8"),
        ({"input": INPUT | {"layout": "chwn"}}, "'chwn'; this release knows nchw, nhwc"),
        ({"input": INPUT | {"dtype": "float64"}}, "'float64'; this release knows float32, uint8"),
        ({"input": INPUT | {"resize": "warp"}}, "'warp'; this release knows area, square, crop, pad"),
        ({"input": INPUT | {"mean": [0.0]}}, "input: mean and std need a number for each"),
        ({"input": INPUT | {"std": [1.0, 0.0, 1.0]}}, "input: std: expected numbers above 0"),
        ({"input": INPUT | {"dtype": "uint8", "mean": [1.0, 1.0, 1.0]}}, "input: uint8: such a model"),
        ({"input": INPUT | {"crop": 1}}, "input: unknown field 'crop'"),
        ({"output": {"dimensions": 4}}, "output: field 'normalised' is missing"),
        ({"least_cosine": 2}, "least_cosine: expected"),
        ({"golden_images": [{"image": "golden/1.jpg", "embedding": "golden/0.f32"}]}, "used but not listed"),
        ({"golden_images": [{"image": "golden/0.jpg"}]}, "golden_images[0]: field 'embedding' is missing"),
        ({"files": [*model()["files"], file("model.json")]}, "can't list itself"),
    ],
)
def test_a_model_manifest_that_contradicts_itself_is_refused(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(DocumentMalformed) as caught:
        parse_model_manifest(json.dumps(model(**changes)).encode(), MODEL)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"kind": "embedder"}, "kind: is 'embedder'; what is needed here is of kind 'detector'"),
        ({"schema_version": 1}, "schema_version 1 has no detectors"),
        ({"runtime": "torch"}, "runtime 'torch'"),
        ({"file": "other.onnx"}, "used but not listed"),
        ({"classes": []}, "classes: at least one is needed"),
        ({"classes": ["Chair", "Chair"]}, "and none twice"),
        ({"classes": ["Mug"]}, "'Chair' is none of the classes"),
        ({"input": INPUT}, "input.resize: area; boxes are shares of the whole picture"),
        ({"least_overlap": 2}, "least_overlap: expected"),
        ({"golden_images": [{"image": "golden/1.jpg", "regions": []}]}, "used but not listed"),
        ({"golden_images": [{"image": "golden/0.jpg", "regions": [REGION | {"box": [0, 0, 1]}]}]}, "regions[0].box"),
        ({"golden_images": [{"image": "golden/0.jpg", "regions": [REGION | {"box": [1, 0, 0, 1]}]}]}, "from 0 to 1"),
        ({"golden_images": [{"image": "golden/0.jpg", "regions": [REGION | {"class": 1}]}]}, "unknown field 'class'"),
    ],
)
def test_a_detector_manifest_that_contradicts_itself_is_refused(changes: dict[str, Any], says: str) -> None:
    assert parse_detector_manifest(json.dumps(detector()).encode(), MODEL).classes == ("Chair", "Mug")
    with pytest.raises(DocumentMalformed) as caught:
        parse_detector_manifest(json.dumps(detector(**changes)).encode(), MODEL)
    assert says in str(caught.value)
