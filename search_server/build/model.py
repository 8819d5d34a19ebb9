"""The model that the build was made with: its files, looked at but not opened, which only who embeds does."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from model_repository.documents.model_manifest import ModelInput, ModelManifest, parse_model_manifest
from model_repository.documents.references import ModelReference
from search_server.build.index import check_sizes, read_document


@dataclass(frozen=True, slots=True)
class Model:
    """A model version. folder: where its files stand. digest: sha256 of its model.json."""

    manifest: ModelManifest
    folder: Path
    digest: str

    @property
    def path(self) -> Path:
        """Of the network's file."""
        return self.folder / self.manifest.file

    @property
    def takes(self) -> ModelInput:
        """What the network takes in."""
        return self.manifest.input

    @property
    def normalised(self) -> bool:
        """Whether the network itself gives vectors of length 1."""
        return self.manifest.normalised

    @property
    def dimensions(self) -> int:
        """Of its vectors."""
        return self.manifest.dimensions


def open_model(folder: Path, reference: ModelReference) -> Model:
    """The model that index.json refers to; raises `BuildUnfit` or `DocumentMalformed` if it isn't in `folder`."""
    data = read_document(folder, "model.json", reference.digest)
    manifest = parse_model_manifest(data, reference.prefix)
    check_sizes(folder, reference.files)
    return Model(manifest, folder, reference.digest)
