"""Models: the built-in ones, made once on this machine and published with the first build; and everybody's own.

A model is published once to the bucket, and the same there for good.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from embedding_batch.errors import ModelUnsound, NameTaken
from embedding_batch.steps.publish.uploading import Content, describe, upload_files, upload_manifest
from image_embedder import PREPROCESSING, Embedder, InputRefused
from model_repository.bucket.store import Store
from model_repository.builds import check_folder
from model_repository.digests import sha256_digest
from model_repository.documents.detector_manifest import DetectorManifest
from model_repository.documents.model_manifest import (
    LEAST_COSINE,
    MODEL_MANIFEST_LIMIT,
    GoldenImage,
    ModelInput,
    ModelManifest,
    format_model_manifest,
    parse_model_manifest,
)
from model_repository.documents.references import ModelReference
from model_repository.errors import BuildIncomplete, DocumentMalformed, ObjectMissing
from model_repository.names import ModelPrefix
from tools.make_model import make_model

MODEL_FILE = "model.onnx"
RUNTIME = "onnx"

_LENGTH_TOLERANCE = 0.01
"""Of a vector that the model says it makes of length 1."""

Opened = TypeVar("Opened")


@dataclass(frozen=True, slots=True)
class LocalModel:
    """A model file on this machine.

    prefix: where it stands, or will stand, in the bucket; the version names the file's bytes, so that it can be no
    other. sha256: of the file, in hex. embedder: the file, opened; each call uses one core, callers bring the threads.
    takes, dimensions, normalised, least_cosine: as model.json says them.
    """

    prefix: ModelPrefix
    path: Path
    sha256: str
    embedder: Embedder
    takes: ModelInput
    dimensions: int
    normalised: bool = True
    least_cosine: float = LEAST_COSINE

    @property
    def features_key(self) -> str:
        """Names all that an embedding depends on besides the picture."""
        takes = "" if self.takes == ModelInput(self.takes.size) else f"-{_digest(repr(self.takes).encode())}"
        raw = "" if self.normalised else "-raw"
        return f"{self.sha256}-preprocessing-{PREPROCESSING}{takes}{raw}"

    def embed(self, picture: bytes) -> NDArray[np.float32]:
        """The embedding, float32[D], of an encoded picture; raises PictureUnreadable."""
        return self.embedder.embed_picture(picture, self.takes)


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
    """Return a built-in model by its name, made by the recipe if `cache` doesn't have it.

    Raises KeyError for an unknown name, and what the recipe does.
    """
    made = make_model(name, cache)
    prefix = ModelPrefix(name, f"{made.weights_version}-{made.sha256[:12]}")
    embedder = Embedder(made.path)
    return LocalModel(prefix, made.path, made.sha256, embedder, ModelInput(made.input_size), made.dimensions)


def own_model(
    path: Path, name: str, version: str, takes: ModelInput, *, normalised: bool, least_cosine: float
) -> LocalModel:
    """Return somebody's own ONNX file as a model, tried with an empty picture.

    version: or empty, for the file's bytes. Raises OSError, `ModelUnsound`, `NameRefused`.
    """
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    embedder = opened_alone(path, lambda alone: _opened(alone, normalised=normalised))
    prefix = ModelPrefix(name, version or sha256[:12])
    try:
        dimensions = embedder.probe(takes)
    except InputRefused as error:
        raise ModelUnsound(f"{path}: {error}") from error
    return LocalModel(prefix, path, sha256, embedder, takes, dimensions, normalised, least_cosine)


def fetched_model(store: Store, prefix: ModelPrefix, cache: Path) -> tuple[LocalModel, ModelReference]:
    """Return a model that stands in the bucket, its file fetched into `cache` if that doesn't have it.

    Raises `ObjectMissing`, DocumentMalformed, BuildIncomplete, `ModelUnsound`, and what the store does.
    """
    data = store.read(prefix.manifest, limit=MODEL_MANIFEST_LIMIT).data
    manifest = parse_model_manifest(data, prefix)
    reference = _reference(manifest, data)
    check_folder(store, prefix, reference.files)
    path = fetched_file(store, manifest, data, cache)
    model = LocalModel(
        prefix=prefix,
        path=path,
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        embedder=_opened(path, normalised=manifest.normalised),
        takes=manifest.input,
        dimensions=manifest.dimensions,
        normalised=manifest.normalised,
        least_cosine=manifest.least_cosine,
    )
    return model, reference


def fetched_file(store: Store, manifest: ModelManifest | DetectorManifest, data: bytes, cache: Path) -> Path:
    """Return the copy in `cache` of a model's own file; data: the bytes of its model.json. Raises BuildIncomplete."""
    prefix, name = manifest.prefix, manifest.file
    (stated,) = (file for file in manifest.files if file.name == name)
    path = cache / f"{prefix.model}-{prefix.version}-{_digest(data)}.onnx"
    if not path.exists() or describe({name: path}) != (stated,):
        with tempfile.TemporaryDirectory(dir=cache, prefix=".model-") as partial:
            fetched = Path(partial) / path.name
            fetched.write_bytes(store.read(f"{prefix}/{name}", limit=stated.size).data)
            if describe({name: fetched}) != (stated,):
                raise BuildIncomplete(f"{prefix}/{name}", f"crc32c {stated.crc32c}", "other bytes")
            fetched.replace(path)
    return path


def opened_alone(path: Path, opening: Callable[[Path], Opened]) -> Opened:
    """Open a copy of a model's file that has nothing beside it, as elsewhere it will have; raises ModelUnsound."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            return opening(Path(shutil.copyfile(path, Path(folder, path.name))))
        except ModelUnsound as error:
            reason = str(error).replace(str(Path(folder, path.name)), str(path)).replace(folder, str(path.parent))
            mend = "; save all weights within the file: only that is uploaded" if "xternal data" in reason else ""
            raise ModelUnsound(f"{reason}{mend}") from error


def _opened(path: Path, *, normalised: bool) -> Embedder:
    try:
        return Embedder(path, normalised=normalised)
    except Exception as error:  # onnxruntime has a dozen exceptions of its own, none with a common base
        raise ModelUnsound(f"{path}: onnxruntime can't load it: {error}") from error


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
    how = manifest.input, manifest.normalised, manifest.least_cosine
    if how != (model.takes, model.normalised, model.least_cosine):
        raise NameTaken(
            f"{model.prefix}: this file stands there with other options (input, normalised, least cosine: "
            f"{', '.join(map(str, how))}); models are immutable: take a new version"
        )
    reference = _reference(manifest, data)
    check_folder(store, model.prefix, reference.files)
    return reference


def new_model(model: LocalModel, golden_pictures: Iterable[bytes], created: datetime) -> NewModel:
    """Return the model as it is to be published, with what it makes of some encoded pictures of the catalogue.

    Raises ModelUnsound where its vectors aren't what it says, or others each time; DocumentMalformed if the contract's
    own reader would not take it, PictureUnreadable for a picture that gives no vector.
    """
    contents: dict[str, Content] = {MODEL_FILE: model.path}
    golden_images = []
    for picture in golden_pictures:
        vector = _golden_vector(model, picture).astype("<f4").tobytes()
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
        input=model.takes,
        dimensions=model.dimensions,
        normalised=model.normalised,
        least_cosine=model.least_cosine,
        golden_images=tuple(golden_images),
        files=describe(contents),
    )
    data = format_model_manifest(manifest)
    parse_model_manifest(data, model.prefix)
    return NewModel(manifest, contents, data)


def _golden_vector(model: LocalModel, picture: bytes) -> NDArray[np.float32]:
    vector, again = model.embed(picture), model.embed(picture)
    length = float(np.linalg.norm(vector))
    if abs(length - 1) > _LENGTH_TOLERANCE:
        raise ModelUnsound(
            f"{model.prefix}: its vectors have the length {length:.4g} and not 1; publish with --normalise"
        )
    if (cosine := float(vector @ again) / length / float(np.linalg.norm(again))) < model.least_cosine:
        raise ModelUnsound(
            f"{model.prefix}: gives one picture another vector each time (cosine {cosine:.4f}), so that no pod could "
            "prove itself; export it as it is for inference: without dropout, augmentation or noise"
        )
    return vector


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:12]


def publish_model(store: Store, model: LocalModel, new: NewModel) -> ModelReference:
    """Upload the model; return the reference to it, or to that of another batch that was faster.

    Raises what `published_model` does.
    """
    try:
        upload_files(store, model.prefix, new.contents, new.manifest.files)
        upload_manifest(store, model.prefix, new.data)
    except NameTaken:  # another batch's golden images are as good
        reference = published_model(store, model)
        if reference is None:
            raise
        return reference
    return new.reference


def _reference(manifest: ModelManifest, data: bytes) -> ModelReference:
    files = (*manifest.files, *describe({"model.json": data}))
    return ModelReference(manifest.prefix, sha256_digest(data), manifest.dimensions, tuple(sorted(files)))
