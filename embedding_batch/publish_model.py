"""`python -m embedding_batch model publish`, `detector publish`: somebody's own ONNX file goes into the bucket."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path

from embedding_batch.command_line.parsers import NO_REPOSITORY, Parser, add_repository, bounded
from embedding_batch.steps.publish.detectors import publish_detector
from embedding_batch.steps.publish.models import new_model, own_model, publish_model
from image_embedder import PictureUnreadable, open_picture
from model_repository.bucket.gcs_store import GcsStore
from model_repository.documents.model_manifest import LEAST_COSINE, Layout, ModelInput, PixelType, Resize
from model_repository.errors import Misconfigured, NameRefused
from model_repository.names import ModelPrefix, parse_bucket_url

_CHANNELS = 3
_MOST_COSINE = 0.999999
"""Of 1, nothing that is computed in float32 can be sure."""


def publish_own(
    kind: str, arguments: Sequence[str], environment: Mapping[str, str], now: datetime
) -> dict[str, object]:
    """Publish a model, or a detector, as `kind` says; returns what it became.

    Raises Misconfigured, ModelUnsound, PictureUnreadable for a golden picture, and what the store does.
    """
    parser, publish = {"model": (_parser, _publish_model), "detector": (_detector_parser, _publish_detector)}[kind]
    options = parser(environment).parse_args(arguments)
    if not options.repository:
        raise Misconfigured(NO_REPOSITORY)
    store = GcsStore(parse_bucket_url(options.repository))
    return publish(store, options, now)


def _publish_model(store: GcsStore, options: argparse.Namespace, now: datetime) -> dict[str, object]:
    _read("--onnx", options.onnx)
    try:
        how = {"normalised": not options.normalise, "least_cosine": options.least_cosine}
        model = own_model(options.onnx, options.name, options.version, _input(options), **how)
    except NameRefused as error:
        raise Misconfigured(f"--name, --version: {error}") from None
    golden = [_golden(path, model.embed) for path in options.golden]
    reference = publish_model(store, model, new_model(model, golden, now))
    size = sum(file.size for file in reference.files)
    return {"model_prefix": str(reference.prefix), "dimensions": reference.dimensions, "bytes": size}


def _publish_detector(store: GcsStore, options: argparse.Namespace, now: datetime) -> dict[str, object]:
    options.resize = Resize.SQUARE
    try:
        prefix = ModelPrefix.parse(f"models/{options.name}/{options.version}")
    except NameRefused as error:
        raise Misconfigured(f"--name, --version: {error}") from None
    _read("--onnx", options.onnx)
    golden = [_golden(path, open_picture) for path in options.golden]
    try:
        classes = _read("--classes", options.classes).decode("utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise Misconfigured(f"--classes: {options.classes}: isn't UTF-8 ({error})") from error
    made = publish_detector(store, prefix, options.onnx, _input(options), classes, golden=golden, created=now)
    found = sum(len(golden_image.regions) for golden_image in made.golden_images)
    return {"model_prefix": str(prefix), "classes": len(classes), "golden_regions": found}


def _read(option: str, path: Path) -> bytes:
    """The bytes of the file that an option names; raises Misconfigured, which names both."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise Misconfigured(f"{option}: {path}: can't be read ({error.strerror})") from error


def _golden(path: Path, take: Callable[[bytes], object]) -> bytes:
    """A golden picture; raises PictureUnreadable, with its name, where `take` makes nothing of it."""
    picture = _read("--golden", path)
    try:
        take(picture)
    except PictureUnreadable as error:
        raise PictureUnreadable(f"--golden: {path}: {error}") from error
    return picture


def _input(options: argparse.Namespace) -> ModelInput:
    """What the options say; raises Misconfigured for a normalisation of values from 0 to 1, as elsewhere it is."""
    takes = ModelInput(
        size=options.input_size,
        layout=Layout(options.layout),
        dtype=PixelType(options.dtype),
        resize=Resize(options.resize),
        mean=tuple(options.mean),
        std=tuple(options.std),
    )
    if not takes.as_they_are and max(map(abs, (*takes.mean, *takes.std))) <= 1:
        raise Misconfigured("--mean, --std: values go from 0 to 255 here; multiply what is meant for 0 to 1 by 255")
    return takes


def _parser(environment: Mapping[str, str]) -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m embedding_batch model publish",
        description="Put an ONNX model into the bucket, as models/<name>/<version>, for `--model` of the batch.",
    )
    add = parser.add_argument
    add("--onnx", type=Path, required=True, help="the model: a batch of pictures in, float32 of [N, D] out")
    add("--version", default="", help="(from the file's bytes)")
    _add_common(parser, environment)
    add("--resize", choices=list(Resize), default=Resize.AREA, help="how a picture becomes a square (%(default)s)")
    add("--normalise", action="store_true", help="the model's vectors aren't of length 1: make them so")
    add(
        "--least-cosine",
        type=bounded(float, 0, _MOST_COSINE),
        default=LEAST_COSINE,
        help="to golden pictures' vectors, on a pod (%(default)s)",
    )
    return parser


def _detector_parser(environment: Mapping[str, str]) -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m embedding_batch detector publish",
        description="Put an ONNX detector into the bucket, as models/<name>/<version>, for `--detector` of the batch.",
    )
    add = parser.add_argument
    add("--onnx", type=Path, required=True, help="the detector: out `boxes` of [N, B, 4], `scores` of [N, B, C]")
    add("--version", required=True, help="of the detector")
    add(
        "--classes", type=Path, required=True, help="file with the name of each class, a line each, as scores have them"
    )
    _add_common(parser, environment)
    return parser


def _add_common(parser: argparse.ArgumentParser, environment: Mapping[str, str]) -> None:
    add = parser.add_argument
    add("--name", required=True, help="of the model")
    add("--golden", type=Path, nargs="+", required=True, help="pictures of yours, by which every pod proves itself")
    add_repository(parser, environment)
    add("--input-size", type=bounded(int, 8, 4096), required=True, help="edge of the square picture, in pixels")
    add("--layout", choices=list(Layout), default=Layout.NCHW, help="(%(default)s)")
    add("--dtype", choices=list(PixelType), default=PixelType.FLOAT32, help="(%(default)s)")
    for option, default, what in (("--mean", 0.0, "subtracted from"), ("--std", 1.0, "then divides")):
        help_text = f"{what} the values of red, green, blue, from 0 to 255 ({default:g})"
        add(
            option,
            type=bounded(float, -(10**6), 10**6),
            nargs=_CHANNELS,
            default=[default] * _CHANNELS,
            metavar=("R", "G", "B"),
            help=help_text,
        )
