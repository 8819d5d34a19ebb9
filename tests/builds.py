"""Small builds and what is said of them, for tests and benchmarks.

Each builder makes a value that the contract's readers accept; keywords give a field another value. Ask for what the
test is about, and leave the rest to these defaults.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import google_crc32c

from model_repository.bucket.store import Store
from model_repository.deployment import DeploymentRequest, Footprint
from model_repository.digests import format_crc32c, sha256_digest
from model_repository.documents.detector_manifest import DetectorManifest, format_detector_manifest
from model_repository.documents.files import BLOCK_BYTES, File
from model_repository.documents.index_manifest import (
    Engine,
    IndexManifest,
    Partition,
    Recall,
    Storage,
    format_index_manifest,
)
from model_repository.documents.model_manifest import ModelInput, ModelManifest, Resize, format_model_manifest
from model_repository.documents.receipts.receipt import Outcome, Receipt
from model_repository.documents.references import DetectorReference, ModelReference
from model_repository.names import IndexPrefix, ModelPrefix, Target

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
TARGET = Target("staging", "home")
BUILD = IndexPrefix("home", "b1")
MODEL = ModelPrefix("lite", "v1")
DETECTOR = ModelPrefix("ssd", "v1")
DIGEST = "sha256:" + "ab" * 32
DIMENSIONS = 4


def described(name: str, data: bytes) -> File:
    """What a manifest says of a file with these bytes."""
    blocks = tuple(_crc32c(data[at : at + BLOCK_BYTES]) for at in range(0, len(data), BLOCK_BYTES))
    return File(name, len(data), _crc32c(data), blocks if len(blocks) > 1 else ())


def described_folder(folder: Path, *, without: str = "") -> tuple[File, ...]:
    """What a manifest says of the files that lie in a folder; `without`: the manifest itself."""
    paths = sorted(path for path in folder.iterdir() if path.name != without)
    return tuple(described(path.name, path.read_bytes()) for path in paths)


def model_manifest(prefix: ModelPrefix = MODEL, **fields: Any) -> ModelManifest:
    """A model without golden images, of one file."""
    model = ModelManifest(
        prefix=prefix,
        created=NOW,
        runtime="onnx",
        file="model.onnx",
        input=ModelInput(224),
        dimensions=DIMENSIONS,
        golden_images=(),
        files=(described("model.onnx", b"weights"),),
    )
    return replace(model, **fields)


def model_reference(model: ModelManifest, **fields: Any) -> ModelReference:
    """What a build says of that model, whose model.json is what `format_model_manifest` writes."""
    data = format_model_manifest(model)
    files = tuple(sorted((*model.files, described("model.json", data))))
    return replace(ModelReference(model.prefix, sha256_digest(data), model.dimensions, files), **fields)


def detector_manifest(prefix: ModelPrefix = DETECTOR, **fields: Any) -> DetectorManifest:
    """A detector of two classes, of one file."""
    detector = DetectorManifest(
        prefix=prefix,
        created=NOW,
        runtime="onnx",
        file="model.onnx",
        input=ModelInput(300, resize=Resize.SQUARE),
        classes=("Chair", "Mug"),
        golden_images=(),
        files=(described("model.onnx", b"boxes"),),
    )
    return replace(detector, **fields)


def publish_detector(store: Store, detector: DetectorManifest | None = None, **fields: Any) -> DetectorReference:
    """Put a detector's files into the bucket; return what a build says of it, of which `chairs` has a class."""
    detector = detector or detector_manifest()
    data = format_detector_manifest(detector)
    store.write(f"{detector.prefix}/model.onnx", b"boxes", if_generation_match=None)
    store.write(detector.prefix.manifest, data, if_generation_match=None)
    files = tuple(sorted((*detector.files, described("model.json", data))))
    made = DetectorReference(detector.prefix, sha256_digest(data), files, {"Chair": "chairs"}, 0.5)
    return replace(made, **fields)


def partition(number: int = 0, category: str = "chairs", items: int = 3, **fields: Any) -> Partition:
    """A partition whose files are named by its number: Annoy of ten trees."""
    made = Partition(
        category=category,
        file=f"{number}.annoy",
        ids=f"{number}.ids",
        items=items,
        engine=Engine.ANNOY,
        storage=Storage.FLOAT32,
        dimensions=DIMENSIONS,
        metric="angular",
        model=0,
        width=100,
        recall=Recall(at=10, value=0.99, queries=100),
    )
    return replace(made, **fields)


def index_manifest(prefix: IndexPrefix = BUILD, model: ModelReference | None = None, **fields: Any) -> IndexManifest:
    """A build of one partition, without golden queries; `files`: those it uses, a byte each.

    model: what it was made with.
    """
    model = model or model_reference(model_manifest())
    manifest = IndexManifest(
        prefix=prefix,
        created=NOW,
        models=(model,),
        lookup="items.lookup",
        partitions=(partition(dimensions=model.dimensions),),
        golden_queries=(),
        files=(),
    )
    manifest = replace(manifest, **fields)
    if "files" not in fields:
        used = [manifest.lookup, *(name for one in manifest.partitions for name in (one.file, one.ids))]
        used += [manifest.tags.file] if manifest.tags else []
        manifest = replace(manifest, files=tuple(described(name, b"0") for name in sorted(used)))
    return manifest


def request(generation: int = 1763683200000001, target: Target = TARGET, **fields: Any) -> DeploymentRequest:
    """What the function asks of the CD side: serve build b1 of the target's index."""
    asked = DeploymentRequest(
        target=target,
        generation=generation,
        bucket="a-bucket",
        index_prefix=IndexPrefix(target.index, "b1"),
        index_generation=1763683200000000,
        index_digest=DIGEST,
        models=(MODEL,),
        footprint=Footprint(memory_mib=300, volume_mib=100, deadline_seconds=120),
    )
    return replace(asked, **fields)


def receipt(generation: int = 1763683200000001, target: Target = TARGET, **fields: Any) -> Receipt:
    """What became of a commit: build b1 of the target's index serves."""
    said = Receipt(
        target=target,
        generation=generation,
        outcome=Outcome.SERVED,
        index_prefix=IndexPrefix(target.index, "b1"),
        detail="",
        started=NOW,
        finished=NOW,
    )
    return replace(said, **fields)


def publish_model(store: Store, prefix: ModelPrefix = MODEL, **fields: Any) -> ModelReference:
    """Upload a model as the batch does, model.json last; returns what builds say of it."""
    model = model_manifest(prefix, **({"files": _upload(store, prefix, {"model.onnx": b"weights"})} | fields))
    store.write(prefix.manifest, format_model_manifest(model), if_generation_match=None)
    return model_reference(model)


def publish_build(
    store: Store, prefix: IndexPrefix = BUILD, model: ModelReference | None = None, **fields: Any
) -> IndexManifest:
    """Upload a whole build as the batch does, index.json last, with its model unless one is given."""
    manifest = index_manifest(prefix, model or publish_model(store), **fields)
    if "files" not in fields:
        contents = {file.name: f"{file.name} of {prefix}".encode() for file in manifest.files}
        manifest = replace(manifest, files=_upload(store, prefix, contents))
    store.write(prefix.manifest, format_index_manifest(manifest), if_generation_match=None)
    return manifest


def _upload(store: Store, prefix: IndexPrefix | ModelPrefix, contents: Mapping[str, bytes]) -> tuple[File, ...]:
    for name, data in contents.items():
        store.write(f"{prefix}/{name}", data, if_generation_match=None)
    return tuple(described(name, data) for name, data in sorted(contents.items()))


def _crc32c(data: bytes) -> str:
    return format_crc32c(google_crc32c.value(data))
