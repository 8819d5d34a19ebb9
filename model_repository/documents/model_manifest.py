"""model.json: what a model is, written last into its folder."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import partial

from model_repository.documents.files import File, check_used, format_files, parse_files
from model_repository.fields import Fields, format_document, format_moment, parse_document
from model_repository.names import ModelPrefix, check_file, check_name

MODEL_MANIFEST_LIMIT = 4 * 1024 * 1024
"""Most bytes of a model.json."""

_SCHEMA = 1
_RUNTIMES = ("onnx",)


@dataclass(frozen=True, slots=True)
class GoldenImage:
    """A picture whose embedding the model's maker recorded; a server must reproduce it before it answers.

    image: file name of an encoded picture.
    embedding: file name of its vector, little-endian float32, `dimensions` long.
    """

    image: str
    embedding: str


@dataclass(frozen=True, slots=True)
class ModelManifest:
    """A model version, whole and immutable.

    file: the model's own file, for example ``model.onnx``: float32[N,3,input_size,input_size] RGB 0-255 in,
        float32[N,dimensions], L2-normalised, out.
    input_size: edge of the square input, in pixels. dimensions: length of an embedding.
    runtime: ``onnx``.
    files: every file of the folder but model.json itself.
    """

    prefix: ModelPrefix
    created: datetime
    runtime: str
    file: str
    input_size: int
    dimensions: int
    golden_images: tuple[GoldenImage, ...]
    files: tuple[File, ...]


def parse_model_manifest(data: bytes, prefix: ModelPrefix) -> ModelManifest:
    """Read the model.json that stands below `prefix`; raises `DocumentMalformed`."""
    fields = parse_document(data, prefix.manifest, limit=MODEL_MANIFEST_LIMIT)
    fields.schema_version(_SCHEMA)
    stated = ModelPrefix(
        fields.parsed("model", partial(check_name, "model")),
        fields.parsed("version", partial(check_name, "version")),
    )
    if stated != prefix:
        fields.refuse(f"says it is {stated}; a model must stand where its manifest says")
    manifest = ModelManifest(
        prefix=prefix,
        created=fields.moment("created"),
        runtime=fields.text("runtime"),
        file=fields.parsed("file", check_file),
        input_size=fields.whole("input_size", least=8, most=4096),
        dimensions=fields.whole("dimensions", least=1, most=65536),
        golden_images=tuple(_parse_golden(fields)),
        files=parse_files(fields),
    )
    fields.done()
    if manifest.runtime not in _RUNTIMES:
        fields.refuse(f"runtime {manifest.runtime!r}; this release knows {', '.join(_RUNTIMES)}")
    used = [manifest.file, *(name for golden in manifest.golden_images for name in (golden.image, golden.embedding))]
    check_used(fields, manifest.files, used, itself="model.json")
    return manifest


def _parse_golden(fields: Fields) -> Iterator[GoldenImage]:
    for entry in fields.objects("golden_images", most=100):
        yield GoldenImage(entry.parsed("image", check_file), entry.parsed("embedding", check_file))
        entry.done()


def format_model_manifest(manifest: ModelManifest) -> bytes:
    """Write a model.json: parse(format(x)) == x when the files are in order."""
    return format_document(
        {
            "schema_version": _SCHEMA,
            "model": manifest.prefix.model,
            "version": manifest.prefix.version,
            "created": format_moment(manifest.created),
            "runtime": manifest.runtime,
            "file": manifest.file,
            "input_size": manifest.input_size,
            "dimensions": manifest.dimensions,
            "golden_images": [asdict(golden) for golden in manifest.golden_images],
            "files": format_files(manifest.files),
        }
    )
