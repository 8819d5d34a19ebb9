"""The model: made once on this machine, published once to the bucket, and the same in both for good."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embedding_batch.errors import NameTaken
from embedding_batch.steps.embedding import Embeds
from embedding_batch.steps.uploading import describe_bytes, describe_file, put, put_all
from image_embedder import PREPROCESSING, Embedder, preprocess
from model_repository.digests import sha256_digest
from model_repository.documents.files import File, check_files
from model_repository.documents.index_manifest import ModelReference
from model_repository.documents.model_manifest import (
    MODEL_MANIFEST_LIMIT,
    GoldenImage,
    ModelManifest,
    format_model_manifest,
    parse_model_manifest,
)
from model_repository.errors import ObjectMissing
from model_repository.names import ModelPrefix
from model_repository.store import Store
from tools.make_model import make_model

MODEL_FILE = "model.onnx"
RUNTIME = "onnx"


@dataclass(frozen=True, slots=True)
class LocalModel:
    """A model file on this machine.

    prefix: where it stands, or will stand, in the bucket; the version names the file's bytes, so that it can be no
    other. sha256: of the file, in hex. input_size, dimensions: see `model_manifest.ModelManifest`.
    """

    prefix: ModelPrefix
    path: Path
    sha256: str
    input_size: int
    dimensions: int

    @property
    def features_key(self) -> str:
        """Names all that an embedding depends on besides the picture."""
        return f"{self.sha256}-preprocessing-{PREPROCESSING}"


class OnDemand:
    """Embeds with a local model that is only opened when there is something to embed: most runs have nothing new."""

    def __init__(self, model: LocalModel) -> None:
        """Open nothing yet."""
        self._model = model
        self._lock = threading.Lock()
        self._embedder: Embedder | None = None

    @property
    def input_size(self) -> int:
        """S, the edge of the square input in pixels."""
        return self._model.input_size

    @property
    def dimensions(self) -> int:
        """D, the length of an embedding."""
        return self._model.dimensions

    def embed(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """See `embedding.Embeds`. Each call uses one core; callers bring the threads."""
        with self._lock:
            self._embedder = self._embedder or Embedder(self._model.path, threads=1)
        return self._embedder.embed(batch)


def local_model(name: str, cache: Path) -> LocalModel:
    """Return a model by its name, made by the recipe if `cache` doesn't have it.

    Raises KeyError for an unknown name, and what the recipe does.
    """
    made = make_model(name, cache)
    prefix = ModelPrefix(name, f"{made.weights_version}-{made.sha256[:12]}")
    return LocalModel(prefix, made.path, made.sha256, made.input_size, made.dimensions)


def publish_model(
    store: Store, model: LocalModel, embedder: Embeds, golden_pictures: Sequence[Path], created: datetime
) -> ModelReference:
    """Return the reference to the model in the bucket, uploading it with its golden images if it isn't there.

    golden_pictures: some pictures of the catalogue; what the model makes of them is recorded with it. They are not
    looked at when the model is there: it is immutable.

    Raises NameTaken when another model stands there, BuildIncomplete when one stands there without all of its files.
    """
    reference = _published(store, model)
    if reference is not None:
        return reference
    contents: dict[str, bytes | Path] = {MODEL_FILE: model.path}
    golden_images = []
    for path in golden_pictures:
        picture = path.read_bytes()
        vector = embedder.embed(preprocess(picture, embedder.input_size)[np.newaxis])[0].astype("<f4").tobytes()
        # Named by their bytes: another machine's vector differs in its last bits, and must not meet this one's.
        image = f"golden/{hashlib.sha256(picture).hexdigest()[:12]}{path.suffix.lower()}"
        embedding = f"golden/{hashlib.sha256(vector).hexdigest()[:12]}.f32"
        contents |= {image: picture, embedding: vector}
        golden_images.append(GoldenImage(image, embedding))
    files = put_all(store, str(model.prefix), contents)
    manifest = ModelManifest(
        prefix=model.prefix,
        created=created,
        runtime=RUNTIME,
        file=MODEL_FILE,
        input_size=model.input_size,
        dimensions=model.dimensions,
        golden_images=tuple(golden_images),
        files=files,
    )
    data = format_model_manifest(manifest)
    try:
        put(store, model.prefix.manifest, data)
    except NameTaken:  # another batch was faster; its golden images are as good
        reference = _published(store, model)
        if reference is None:
            raise
        return reference
    return _reference(manifest, data)


def _published(store: Store, model: LocalModel) -> ModelReference | None:
    try:
        data = store.read(model.prefix.manifest, limit=MODEL_MANIFEST_LIMIT).data
    except ObjectMissing:
        return None
    manifest = parse_model_manifest(data, model.prefix)
    stated = next(file for file in manifest.files if file.name == manifest.file)
    local = describe_file(model.path, manifest.file)
    if stated != local:
        raise NameTaken(
            f"{model.prefix}/{manifest.file} has {stated.size} bytes with crc32c {stated.crc32c}, the one made here "
            f"{local.size} with {local.crc32c}; models are immutable: delete that one if nothing uses it"
        )
    reference = _reference(manifest, data)
    check_files(str(model.prefix), reference.files, store.listing(f"{model.prefix}/"))
    return reference


def _reference(manifest: ModelManifest, data: bytes) -> ModelReference:
    files: tuple[File, ...] = (*manifest.files, describe_bytes(data, "model.json"))
    return ModelReference(manifest.prefix, sha256_digest(data), manifest.dimensions, tuple(sorted(files)))
