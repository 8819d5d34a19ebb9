"""The model that the build was made with, opened beside it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from image_embedder import Embedder, preprocess
from model_repository.documents.index_manifest import ModelReference
from model_repository.documents.model_manifest import ModelManifest, parse_model_manifest
from search_server.build.index import BuildUnfit, check_sizes, read_document

Vector = NDArray[np.float32]


class Embeds(Protocol):
    """What turns preprocessed pictures into vectors."""

    def embed(self, batch: NDArray[Any]) -> NDArray[np.float32]:
        """N preprocessed pictures in, float32[N,D], L2-normalised, out."""


@dataclass(frozen=True, slots=True)
class Model:
    """A model version, opened. folder: where its files stand."""

    manifest: ModelManifest
    folder: Path
    embedder: Embeds

    def embed(self, data: bytes) -> Vector:
        """The embedding, float32[dimensions], of an encoded picture; raises what `image_embedder.preprocess` does."""
        batch = preprocess(data, self.manifest.input)[np.newaxis]
        vector: Vector = self.embedder.embed(batch)[0]
        return vector


def open_model(folder: Path, reference: ModelReference) -> Model:
    """Open the model that index.json refers to; raises `BuildUnfit` or `DocumentMalformed` if it isn't in `folder`."""
    data = read_document(folder, "model.json", reference.digest)
    manifest = parse_model_manifest(data, reference.prefix)
    check_sizes(folder, reference.files)
    try:
        embedder = Embedder(folder / manifest.file, threads=1, normalised=manifest.normalised)
    except Exception as error:  # onnxruntime has a dozen exceptions of its own, none with a common base
        raise BuildUnfit(f"{folder / manifest.file}: onnxruntime can't load it: {error}") from error
    return Model(manifest, folder, embedder)
