"""The detector that the build's pictures were cut with: its files, looked at but not opened, and its proof."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from model_repository.documents.detector_manifest import DetectorManifest, GoldenDetection, parse_detector_manifest
from model_repository.documents.references import DetectorReference
from search_server.build.index import MappedIndex, check_sizes, read_document
from search_server.build.prove import ProofFailed


@dataclass(frozen=True, slots=True)
class BuildDetector:
    """A detector version. folder: where its files stand. models: the place of the model that embeds a category."""

    manifest: DetectorManifest
    folder: Path
    reference: DetectorReference
    models: Mapping[str, int]

    @property
    def path(self) -> Path:
        """Of the network's file."""
        return self.folder / self.manifest.file


Missed = Callable[[BuildDetector, GoldenDetection, bytes], str]
"""What of a golden image, which is given encoded, isn't found: in words, none if all is."""


def open_detector(data: Path, index: MappedIndex) -> BuildDetector | None:
    """The build's detector; None if it has none, or none of whose categories a picture can be searched in.

    Raises `BuildUnfit` or `DocumentMalformed` if it isn't in `data`.
    """
    reference = index.manifest.detector
    if reference is None:
        return None
    spaces = {category: {each.space for each in index.select(category)} for category in reference.categories.values()}
    models = {
        category: model for category, its in spaces.items() if len(its) == 1 for model, _ in its if model is not None
    }
    if not models:
        return None
    folder = data / str(reference.prefix)
    manifest = parse_detector_manifest(read_document(folder, "model.json", reference.digest), reference.prefix)
    check_sizes(folder, reference.files)
    return BuildDetector(manifest, folder, reference, models)


def prove_detector(detector: BuildDetector, missed: Missed) -> None:
    """Let it find what was recorded of its golden images; raises `ProofFailed` for the first that it doesn't."""
    prefix = detector.manifest.prefix
    if not detector.manifest.golden_images:
        raise ProofFailed(f"{prefix}: without a golden image the detector can't be proved")
    for golden in detector.manifest.golden_images:
        name = f"{prefix}: golden image {golden.image!r}"
        try:
            lost = missed(detector, golden, (detector.folder / golden.image).read_bytes())
        except Exception as error:  # whatever a detector or a picture does wrong: nothing can be found here
            raise ProofFailed(f"{name}: nothing can be detected: {error}") from error
        if lost:
            raise ProofFailed(f"{name}: doesn't find {lost}; the detector or its runtime isn't the batch's")
