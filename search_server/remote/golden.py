"""What a pool must prove before it is asked about anybody's photo: the golden images of the build's models."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from model_repository.digests import sha256_digest
from model_repository.documents.index_manifest import parse_index_manifest
from model_repository.documents.model_manifest import ModelManifest, parse_model_manifest
from model_repository.names import IndexPrefix
from search_server.remote.inference import RemoteModel, RemoteUnfit, floats


@dataclass(frozen=True, slots=True)
class Golden:
    """An encoded picture, and its vector as the batch recorded it."""

    name: str
    picture: bytes
    vector: Sequence[float]


@dataclass(frozen=True, slots=True)
class ProvableModel:
    """A model that embeds elsewhere. name: there. digest: sha256 of its model.json. folder: of its golden images."""

    name: RemoteModel
    manifest: ModelManifest
    digest: str
    folder: Path

    def golden_images(self) -> list[Golden]:
        """Read them; raises OSError, and `RemoteUnfit` for a vector that is none."""
        return [
            Golden(
                each.image, (self.folder / each.image).read_bytes(), floats((self.folder / each.embedding).read_bytes())
            )
            for each in self.manifest.golden_images
        ]


def provable_models(data: Path, prefix: IndexPrefix, digest: str, template: str) -> tuple[ProvableModel, ...]:
    """The models of the build in `data`, as the puller published it. template: of their names, see `RemoteModel`.

    Raises OSError, `PermanentError` or ValueError where there is no such build: the workers say what is wrong with it.
    """
    said = _read(data / "index" / "index.json", digest)
    models = []
    for reference in parse_index_manifest(said, prefix).models:
        folder = data / str(reference.prefix)
        manifest = parse_model_manifest(_read(folder / "model.json", reference.digest), reference.prefix)
        models.append(ProvableModel(RemoteModel.of(reference.prefix, template), manifest, reference.digest, folder))
    return tuple(models)


def _read(path: Path, digest: str) -> bytes:
    said = path.read_bytes()
    if sha256_digest(said) != digest:
        raise ValueError(f"{path}: isn't the one with {digest}")
    return said


def check_same(golden: Golden, embedded: Sequence[float], least_cosine: float) -> None:
    """Raises `RemoteUnfit` if a golden image was embedded to another vector than the recorded one."""
    recorded = golden.vector
    if len(embedded) != len(recorded):
        raise RemoteUnfit(f"golden image {golden.name!r}: embedded to {len(embedded)} numbers, not {len(recorded)}")
    lengths = math.hypot(*embedded) * math.hypot(*recorded)
    cosine = sum(map(float.__mul__, map(float, embedded), map(float, recorded))) / lengths if lengths else 0.0
    if not cosine >= least_cosine:
        raise RemoteUnfit(
            f"golden image {golden.name!r}: embedded to cosine {cosine:.6f} with the recorded vector, at least "
            f"{least_cosine} is needed; it isn't the model that the index was built with"
        )
