"""model.json: what a model is, written last into its folder. Of a detector, see `detector_manifest`."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime
from enum import StrEnum
from functools import partial
from typing import Annotated, Any

from model_repository.documents.files import File, FileName, Files, check_used, format_files
from model_repository.fields import Fields, format_document, format_moment, parse_document
from model_repository.names import ModelPrefix, check_name
from model_repository.records import Bound, read, written

MODEL_MANIFEST_LIMIT = 4 * 1024 * 1024
"""Most bytes of a model.json."""

_SCHEMA = 2
EARLIER = 1
"""Is still read."""
_RUNTIMES = ("onnx",)
EMBEDDER = "embedder"
DETECTOR = "detector"
_KINDS = (EMBEDDER, DETECTOR)
GOLDEN_IMAGES = 100
"""The most that a model may have."""
_CHANNELS = 3
_LARGEST_NUMBER = 1e6
ON_CPU, BY_PILLOW = "cpu", "pillow"
"""What makes golden images' embeddings, as every server does."""
LEAST_COSINE = 0.999
"""Between a golden image's embedding and the recorded one, where nothing else is said: machines round differently."""


class Layout(StrEnum):
    """The order of a batch's axes: pictures, channels (RGB), height, width."""

    NCHW = "nchw"
    NHWC = "nhwc"


class PixelType(StrEnum):
    """What a channel's value of 0 to 255 is given as."""

    FLOAT32 = "float32"
    UINT8 = "uint8"


class Resize(StrEnum):
    """How a picture becomes a square."""

    AREA = "area"
    """As much is cut off along as white is added across (see `image_embedder.preprocessing`)."""
    SQUARE = "square"
    """Squeezed."""
    CROP = "crop"
    """The middle square."""
    PAD = "pad"
    """All of it, on white."""


@dataclass(frozen=True, slots=True)
class ModelInput:
    """What a model takes. size: edge of the square, in pixels.

    mean, std: of the channels red, green and blue, from 0 to 255: a model of float32 is given (value - mean) / std.
    """

    size: int
    layout: Layout = Layout.NCHW
    dtype: PixelType = PixelType.FLOAT32
    resize: Resize = Resize.AREA
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)

    @property
    def as_they_are(self) -> bool:
        """Whether the values are given as they are."""
        return (self.mean, self.std) == ((0.0,) * _CHANNELS, (1.0,) * _CHANNELS)


@dataclass(frozen=True, slots=True)
class GoldenImage:
    """A picture whose embedding the model's maker recorded; a server must reproduce it before it answers.

    image: file name of an encoded picture.
    embedding: file name of its vector, little-endian float32, `dimensions` long.
    """

    image: FileName
    embedding: FileName


@dataclass(frozen=True, slots=True)
class ModelManifest:
    """A version of an embedder, whole and immutable.

    runtime: ``onnx``. file: the model's own file, for example ``model.onnx``: pictures as `input` says in,
        float32[N,dimensions] out.
    dimensions: length of an embedding. normalised: whether the model itself makes them of length 1; else whoever runs
        it does.
    least_cosine: between a golden image's embedding and the recorded one, for the two to be the same.
    device, decode: what made the recorded ones.
    files: every file of the folder but model.json itself.
    """

    prefix: ModelPrefix
    created: datetime
    runtime: str
    file: FileName
    input: ModelInput
    dimensions: int
    golden_images: Annotated[tuple[GoldenImage, ...], Bound(entries=GOLDEN_IMAGES)]
    files: Files
    normalised: bool = True
    least_cosine: float = LEAST_COSINE
    device: Annotated[str, Bound(longest=40)] = ON_CPU
    decode: Annotated[str, Bound(longest=40)] = BY_PILLOW


def parse_model_manifest(data: bytes, prefix: ModelPrefix) -> ModelManifest:
    """Read the model.json that stands below `prefix`; raises `DocumentMalformed`."""
    fields, schema = open_model_document(data, prefix)
    known = _parse_earlier(fields) if schema == EARLIER else _parse_present(fields)
    manifest = read(ModelManifest, fields, prefix=prefix, **known)
    used = [name for golden in manifest.golden_images for name in (golden.image, golden.embedding)]
    close_model_document(fields, manifest.runtime, manifest.files, [manifest.file, *used])
    return manifest


def open_model_document(data: bytes, prefix: ModelPrefix) -> tuple[Fields, int]:
    """Read what every model.json has first, and return the rest and its schema; raises `DocumentMalformed`."""
    fields = parse_document(data, prefix.manifest, limit=MODEL_MANIFEST_LIMIT)
    schema = fields.schema_version(EARLIER, _SCHEMA)
    stated = ModelPrefix(
        fields.parsed("model", partial(check_name, "model")),
        fields.parsed("version", partial(check_name, "version")),
    )
    if stated != prefix:
        fields.refuse(f"says it is {stated}; a model must stand where its manifest says")
    return fields, schema


def close_model_document(fields: Fields, runtime: str, files: tuple[File, ...], used: list[str]) -> None:
    """Refuse a runtime that nobody knows, and a file that is used and not listed."""
    if runtime not in _RUNTIMES:
        fields.refuse(f"runtime {runtime!r}; this release knows {', '.join(_RUNTIMES)}")
    check_used(fields, files, used, itself="model.json")


def parse_kind(fields: Fields, wanted: str) -> None:
    """Refuse any kind of model but the wanted one."""
    if (kind := fields.text("kind")) not in _KINDS:
        fields.refuse(f"{kind[:40]!r}; this release knows {', '.join(_KINDS)}", "kind")
    if kind != wanted:
        fields.refuse(f"is {kind!r}; what is needed here is of kind {wanted!r}", "kind")


def _parse_earlier(fields: Fields) -> dict[str, Any]:
    """Schema 1: float32 of 0 to 255 in, vectors of length 1 out."""
    takes = ModelInput(_parse_size(fields, "input_size"))
    return {"input": takes, "dimensions": _parse_dimensions(fields), "normalised": True, "least_cosine": LEAST_COSINE}


def _parse_present(fields: Fields) -> dict[str, Any]:
    parse_kind(fields, EMBEDDER)
    output = fields.object("output")
    gives = {"dimensions": _parse_dimensions(output), "normalised": output.flag("normalised")}
    output.done()
    least_cosine = fields.number("least_cosine", least=-1.0, most=1.0)
    return {"input": parse_input(fields.object("input")), "least_cosine": least_cosine, **gives}


def _parse_size(fields: Fields, field: str) -> int:
    return fields.whole(field, least=8, most=4096)


def _parse_dimensions(fields: Fields) -> int:
    return fields.whole("dimensions", least=1, most=65536)


def parse_input(fields: Fields) -> ModelInput:
    """Read what a model takes in."""
    found = ModelInput(
        size=_parse_size(fields, "size"),
        layout=fields.choice("layout", Layout),
        dtype=fields.choice("dtype", PixelType),
        resize=fields.choice("resize", Resize),
        mean=fields.numbers("mean", most=_CHANNELS),
        std=fields.numbers("std", most=_CHANNELS),
    )
    fields.done()
    if len(found.mean) != _CHANNELS or len(found.std) != _CHANNELS:
        fields.refuse("mean and std need a number for each of red, green and blue")
    if not all(0 < value <= _LARGEST_NUMBER for value in found.std):
        fields.refuse("std: expected numbers above 0")
    if found.dtype is PixelType.UINT8 and not found.as_they_are:
        fields.refuse("uint8: such a model is given the values as they are; leave mean 0 and std 1")
    return found


def format_model_manifest(manifest: ModelManifest) -> bytes:
    """Write a model.json: parse(format(x)) == x when the files are in order."""
    return format_document(
        {
            **format_head(manifest.prefix, manifest.created, EMBEDDER),
            "runtime": manifest.runtime,
            "file": manifest.file,
            "input": asdict(manifest.input),
            "output": {"dimensions": manifest.dimensions, "normalised": manifest.normalised},
            "least_cosine": manifest.least_cosine,
            "device": manifest.device,
            "decode": manifest.decode,
            "golden_images": [written(golden) for golden in manifest.golden_images],
            "files": format_files(manifest.files),
        }
    )


def format_head(prefix: ModelPrefix, created: datetime, kind: str) -> dict[str, Any]:
    """Write what every model.json has first."""
    return {
        "schema_version": _SCHEMA,
        "model": prefix.model,
        "version": prefix.version,
        "created": format_moment(created),
        "kind": kind,
    }
