"""model.json of a detector: what finds things of known classes in a picture."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Annotated

from model_repository.documents.files import FileName, Files, format_files
from model_repository.documents.model_manifest import (
    DETECTOR,
    EARLIER,
    GOLDEN_IMAGES,
    ModelInput,
    Resize,
    close_model_document,
    format_head,
    open_model_document,
    parse_input,
    parse_kind,
)
from model_repository.fields import Fields, format_document
from model_repository.names import ModelPrefix
from model_repository.records import Bound, Share, read, written

LEAST_OVERLAP = 0.9
"""Of a golden image's region and the recorded one, where nothing else is said: machines round differently."""

_BOX = 4


@dataclass(frozen=True, slots=True)
class GoldenRegion:
    """A part of a golden image. box: left, top, right, bottom, as shares of the upright picture's width and height.

    name: of the class. score: 0 to 1.
    """

    box: Annotated[tuple[float, ...], Bound(entries=_BOX)]
    name: Annotated[str, Bound(longest=100)]
    score: Share

    def check(self, fields: Fields) -> None:
        """Refuse a box that is no part of a picture."""
        if len(self.box) != _BOX or not _is_inside(self.box):
            fields.refuse("expected left, top, right, bottom, from 0 to 1, with something between them", "box")


@dataclass(frozen=True, slots=True)
class GoldenDetection:
    """A picture of which the detector's maker recorded what is in it; a server must find that before it answers.

    image: file name of an encoded picture. regions: those that are clear; others may be found, too.
    """

    image: FileName
    regions: Annotated[tuple[GoldenRegion, ...], Bound(entries=100)]


@dataclass(frozen=True, slots=True)
class DetectorManifest:
    """A version of a detector, whole and immutable.

    runtime: ``onnx``. file: the detector's own file: pictures as `input` says in, squeezed to a square; out `boxes`,
        float32[N,B,4], left, top, right, bottom as shares of the sides, and `scores`, float32[N,B,C], 0 to 1.
    classes: what it finds, in the scores' order; as its maker writes them.
    least_overlap: of a golden image's region and the recorded one (intersection over union), to be the same.
    files: every file of the folder but model.json itself.
    """

    prefix: ModelPrefix
    created: datetime
    runtime: str
    file: FileName
    input: ModelInput
    classes: Annotated[tuple[str, ...], Bound(entries=10_000, longest=100)]
    golden_images: Annotated[tuple[GoldenDetection, ...], Bound(entries=GOLDEN_IMAGES)]
    files: Files
    least_overlap: float = LEAST_OVERLAP


def parse_detector_manifest(data: bytes, prefix: ModelPrefix) -> DetectorManifest:
    """Read the model.json of a detector that stands below `prefix`; raises `DocumentMalformed`."""
    fields, schema = open_model_document(data, prefix)
    if schema == EARLIER:
        fields.refuse(f"schema_version {schema} has no detectors")
    parse_kind(fields, DETECTOR)
    takes, least_overlap = parse_input(fields.object("input")), fields.number("least_overlap", least=0.0, most=1.0)
    manifest = read(DetectorManifest, fields, prefix=prefix, input=takes, least_overlap=least_overlap)
    close_model_document(
        fields, manifest.runtime, manifest.files, [manifest.file, *(golden.image for golden in manifest.golden_images)]
    )
    if not manifest.classes or len(set(manifest.classes)) != len(manifest.classes):
        fields.refuse("classes: at least one is needed, and none twice")
    if manifest.input.resize is not Resize.SQUARE:
        fields.refuse(f"input.resize: {manifest.input.resize}; boxes are shares of the whole picture: use square")
    for golden in manifest.golden_images:
        if strangers := {region.name for region in golden.regions} - set(manifest.classes):
            fields.refuse(f"golden_images: {min(strangers)!r} is none of the classes")
    return manifest


def _is_inside(box: tuple[float, ...]) -> bool:
    left, top, right, bottom = box
    return 0 <= left < right <= 1 and 0 <= top < bottom <= 1


def format_detector_manifest(manifest: DetectorManifest) -> bytes:
    """Write a detector's model.json: parse(format(x)) == x when the files are in order."""
    return format_document(
        {
            **format_head(manifest.prefix, manifest.created, DETECTOR),
            "runtime": manifest.runtime,
            "file": manifest.file,
            "input": asdict(manifest.input),
            "classes": list(manifest.classes),
            "least_overlap": manifest.least_overlap,
            "golden_images": [written(golden) for golden in manifest.golden_images],
            "files": format_files(manifest.files),
        }
    )
