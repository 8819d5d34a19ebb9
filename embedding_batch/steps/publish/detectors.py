"""Detectors: published once to the bucket by whoever has one, and fetched from there by a run that names one."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from embedding_batch.embedding import Cutting
from embedding_batch.errors import ModelUnsound
from embedding_batch.steps.publish.models import MODEL_FILE, RUNTIME, fetched_file, opened_alone
from embedding_batch.steps.publish.uploading import Content, describe, upload_files, upload_manifest
from image_embedder import CROPPING, Detector, InputRefused, open_picture
from model_repository.bucket.store import Store
from model_repository.builds import check_folder
from model_repository.digests import sha256_digest
from model_repository.documents.detector_manifest import (
    DetectorManifest,
    GoldenDetection,
    GoldenRegion,
    format_detector_manifest,
    parse_detector_manifest,
)
from model_repository.documents.model_manifest import MODEL_MANIFEST_LIMIT, ModelInput
from model_repository.documents.references import DetectorReference
from model_repository.errors import Misconfigured
from model_repository.names import ModelPrefix

_CLEAR = 0.5
"""A region's score by which a pod proves itself: what is found below it may be lost to another machine's rounding."""


@dataclass(frozen=True, slots=True)
class LocalDetector:
    """A detector file on this machine, and what index.json says of it.

    sha256: of the file, in hex. classes: what it finds, in the scores' order. reference: with all categories that the
    command names.
    """

    path: Path
    sha256: str
    takes: ModelInput
    classes: tuple[str, ...]
    reference: DetectorReference

    def cutting(self, classes: Sequence[str]) -> Cutting:
        """What cuts the best region of these classes out of a picture."""
        return Cutting(self.path, self.takes, self.classes, frozenset(classes), self.reference.least_score)

    def features_key(self, classes: Sequence[str]) -> str:
        """Names all that a picture's part depends on besides the picture."""
        parts = (CROPPING, self.sha256, self.takes, self.classes, self.reference.least_score, sorted(classes))
        return hashlib.sha256(repr(parts).encode()).hexdigest()[:12]

    def reference_for(self, categories: Iterable[str]) -> DetectorReference | None:
        """What the index.json of a build with these categories says; None: it has none of the detector's."""
        of = set(categories)
        known = {name: its for name, its in self.reference.categories.items() if its in of}
        return replace(self.reference, categories=known) if known else None


def fetched_detector(
    store: Store, prefix: ModelPrefix, cache: Path, categories: Mapping[str, str], least_score: float
) -> LocalDetector:
    """Return a detector that stands in the bucket, its file fetched into `cache` if that doesn't have it.

    Raises Misconfigured for a class that it doesn't find, ObjectMissing, DocumentMalformed, BuildIncomplete,
    ModelUnsound, and what the store does.
    """
    data = store.read(prefix.manifest, limit=MODEL_MANIFEST_LIMIT).data
    manifest = parse_detector_manifest(data, prefix)
    if strangers := set(categories) - set(manifest.classes):
        raise Misconfigured(f"--region: {prefix} finds no {min(strangers)!r}; it finds {', '.join(manifest.classes)}")
    reference = DetectorReference(
        prefix=prefix,
        digest=sha256_digest(data),
        files=tuple(sorted((*manifest.files, *describe({"model.json": data})))),
        categories=categories,
        least_score=least_score,
    )
    check_folder(store, prefix, reference.files)
    path = fetched_file(store, manifest, data, cache)
    _opened(path, manifest.input, manifest.classes)
    return LocalDetector(
        path, hashlib.sha256(path.read_bytes()).hexdigest(), manifest.input, manifest.classes, reference
    )


def publish_detector(
    store: Store,
    prefix: ModelPrefix,
    path: Path,
    takes: ModelInput,
    classes: Sequence[str],
    *,
    golden: Iterable[bytes],
    created: datetime,
) -> DetectorManifest:
    """Upload a detector's file, with what it finds in some encoded pictures.

    Raises ModelUnsound for a file that isn't one, DocumentMalformed if the contract's reader would not take it,
    PictureUnreadable, NameTaken, and what the store does.
    """
    detector = opened_alone(path, lambda alone: _opened(alone, takes, classes))
    contents: dict[str, Content] = {MODEL_FILE: path}
    golden_images = []
    for picture in golden:
        name = f"golden/{hashlib.sha256(picture).hexdigest()[:12]}.image"
        contents[name] = picture
        found = detector.detect(open_picture(picture), {name: name for name in classes}, _CLEAR)
        golden_images.append(GoldenDetection(name, tuple(GoldenRegion(one.box, one.name, one.score) for one in found)))
    manifest = DetectorManifest(
        prefix=prefix,
        created=created,
        runtime=RUNTIME,
        file=MODEL_FILE,
        input=takes,
        classes=tuple(classes),
        golden_images=tuple(golden_images),
        files=describe(contents),
    )
    data = format_detector_manifest(manifest)
    parse_detector_manifest(data, prefix)
    upload_files(store, prefix, contents, manifest.files)
    upload_manifest(store, prefix, data)
    return manifest


def _opened(path: Path, takes: ModelInput, classes: Sequence[str]) -> Detector:
    try:
        detector = Detector(path, takes, classes)
    except Exception as error:  # onnxruntime has a dozen exceptions of its own, none with a common base
        raise ModelUnsound(f"{path}: onnxruntime can't load it: {error}") from error
    try:
        detector.probe()
    except InputRefused as error:
        raise ModelUnsound(f"{path}: {error}") from error
    return detector
