"""The model: made once on this machine, published once to the bucket, and the same in both for good."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from embedding_batch.errors import NameTaken
from embedding_batch.steps.embedding import embed_picture
from embedding_batch.steps.uploading import Content, describe, upload
from image_embedder import PREPROCESSING, Embedder
from model_repository.digests import sha256_digest
from model_repository.documents.files import check_files
from model_repository.documents.index_manifest import ModelReference
from model_repository.documents.model_manifest import (
    MODEL_MANIFEST_LIMIT,
    GoldenImage,
    ModelManifest,
    format_model_manifest,
    parse_model_manifest,
)
from model_repository.errors import DocumentMalformed, ObjectMissing
from model_repository.names import ModelPrefix
from model_repository.store import Store
from tools.make_model import make_model

MODEL_FILE = "model.onnx"
RUNTIME = "onnx"


@dataclass(frozen=True, slots=True)
class LocalModel:
    """A model file on this machine.

    prefix: where it stands, or will stand, in the bucket; the version names the file's bytes, so that it can be no
    other. sha256: of the file, in hex. embedder: the file, opened; each call uses one core, callers bring the threads.
    """

    prefix: ModelPrefix
    path: Path
    sha256: str
    embedder: Embedder

    @property
    def features_key(self) -> str:
        """Names all that an embedding depends on besides the picture."""
        return f"{self.sha256}-preprocessing-{PREPROCESSING}"


@dataclass(frozen=True, slots=True)
class NewModel:
    """A model before its upload. contents: its files by name. data: its model.json, as the contract reads it."""

    manifest: ModelManifest
    contents: Mapping[str, Content]
    data: bytes

    @property
    def reference(self) -> ModelReference:
        """What index.json says of it."""
        return _reference(self.manifest, self.data)


def local_model(name: str, cache: Path) -> LocalModel:
    """Return a model by its name, made by the recipe if `cache` doesn't have it.

    Raises KeyError for an unknown name, and what the recipe does.
    """
    made = make_model(name, cache)
    prefix = ModelPrefix(name, f"{made.weights_version}-{made.sha256[:12]}")
    return LocalModel(prefix, made.path, made.sha256, Embedder(made.path, threads=1))


def published_model(store: Store, model: LocalModel) -> ModelReference | None:
    """Return the reference to the model in the bucket; None: it isn't there.

    Raises NameTaken when another model stands there, BuildIncomplete when it lacks files, and DocumentMalformed when
    nobody can read its model.json: builds of other models don't mind.
    """
    try:
        data = store.read(model.prefix.manifest, limit=MODEL_MANIFEST_LIMIT).data
    except ObjectMissing:
        return None
    try:
        manifest = parse_model_manifest(data, model.prefix)
    except DocumentMalformed as error:
        mend = f"if nothing uses it, delete {model.prefix.manifest}: the next batch publishes the model anew"
        raise DocumentMalformed(str(model.prefix), f"{error}; {mend}") from error
    stated = next(file for file in manifest.files if file.name == manifest.file)
    (local,) = describe({manifest.file: model.path})
    if stated != local:
        raise NameTaken(
            f"{model.prefix}/{manifest.file} has {stated.size} bytes with crc32c {stated.crc32c}, the one made here "
            f"{local.size} with {local.crc32c}; models are immutable: delete that one if nothing uses it"
        )
    reference = _reference(manifest, data)
    check_files(str(model.prefix), reference.files, store.listing(f"{model.prefix}/"))
    return reference


def new_model(model: LocalModel, golden_pictures: Iterable[bytes], created: datetime) -> NewModel:
    """Return the model as it is to be published, with what it makes of some encoded pictures of the catalogue.

    Raises DocumentMalformed if the contract's own reader would not take it, PictureUnreadable for a picture that gives
    no vector.
    """
    contents: dict[str, Content] = {MODEL_FILE: model.path}
    golden_images = []
    for picture in golden_pictures:
        vector = embed_picture(picture, model.embedder).astype("<f4").tobytes()
        # Named by their bytes: a shop's name for a picture may be no file's here, and another machine's vector, which
        # differs in its last bits, must not meet this one's.
        golden = GoldenImage(f"golden/{_digest(picture)}.image", f"golden/{_digest(vector)}.f32")
        contents |= {golden.image: picture, golden.embedding: vector}
        golden_images.append(golden)
    manifest = ModelManifest(
        prefix=model.prefix,
        created=created,
        runtime=RUNTIME,
        file=MODEL_FILE,
        input_size=model.embedder.input_size,
        dimensions=model.embedder.dimensions,
        golden_images=tuple(golden_images),
        files=describe(contents),
    )
    data = format_model_manifest(manifest)
    parse_model_manifest(data, model.prefix)
    return NewModel(manifest, contents, data)


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:12]


def publish_model(store: Store, model: LocalModel, new: NewModel) -> ModelReference:
    """Upload the model; return the reference to it, or to that of another batch that was faster.

    Raises what `published_model` does.
    """
    try:
        upload(store, model.prefix, new.contents, new.manifest.files, new.data)
    except NameTaken:  # another batch's golden images are as good
        reference = published_model(store, model)
        if reference is None:
            raise
        return reference
    return new.reference


def _reference(manifest: ModelManifest, data: bytes) -> ModelReference:
    files = (*manifest.files, *describe({"model.json": data}))
    return ModelReference(manifest.prefix, sha256_digest(data), manifest.dimensions, tuple(sorted(files)))
