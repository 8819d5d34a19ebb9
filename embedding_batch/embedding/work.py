"""What is done to a picture in a worker: small values that travel to it, and become functions there."""

from __future__ import annotations

import mmap
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from embedding_batch.embedding.processes import Died
from image_embedder import (
    Detector,
    Embedder,
    PictureUnreadable,
    Pixels,
    crop_pixels,
    finite,
    preprocess,
    preprocessed_shape,
)
from image_embedder.confinement import confine, one_picture
from model_repository.documents.model_manifest import ModelInput
from model_repository.resources.pictures import PROCESSOR_SECONDS_LIMIT


class Model(Protocol):
    """A model file on this machine. takes, normalised: as model.json says them."""

    @property
    def path(self) -> Path: ...  # noqa: D102
    @property
    def takes(self) -> ModelInput: ...  # noqa: D102
    @property
    def normalised(self) -> bool: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class Cutting:
    """What cuts the part of a picture out that shows the thing: the best region of the wanted classes.

    path: of the detector's file. takes, classes: as model.json says them. least_score: of a region.
    """

    path: Path
    takes: ModelInput
    classes: tuple[str, ...]
    wanted: frozenset[str]
    least_score: float

    def open(self, takes: ModelInput) -> Callable[[bytes], Pixels]:
        """Open the detector; the function gives what an embedder takes of an encoded picture."""
        detector = Detector(self.path, self.takes, self.classes)
        return lambda data: crop_pixels(data, takes, detector, self.wanted, self.least_score)


def _reading(takes: ModelInput, cutting: Cutting | None) -> Callable[[bytes], Pixels]:
    return cutting.open(takes) if cutting is not None else lambda data: preprocess(data, takes)


@dataclass(frozen=True, slots=True)
class EmbedWork:
    """Encoded pictures to vectors, one by one on one core. cutting: None: all of a picture is embedded."""

    path: Path
    takes: ModelInput
    normalised: bool
    cutting: Cutting | None = None

    def open(self) -> Callable[[bytes], NDArray[np.float32] | str]:
        """Open the model; the function gives float32[D], or why there is none."""
        confine(self.path.stat().st_size + _bytes(self.cutting))
        embedder = Embedder(self.path, normalised=self.normalised)
        read = _reading(self.takes, self.cutting)

        def embed(data: bytes) -> NDArray[np.float32] | str:
            try:
                with one_picture():
                    return finite(embedder.embed(read(data)[np.newaxis])[0])
            except PictureUnreadable as error:
                return str(error)

        return embed


@dataclass(frozen=True, slots=True)
class DecodeWork:
    """Encoded pictures into rows of shared memory, as the model takes them. file: descriptor of the memory.

    cutting: None: all of a picture is embedded.
    """

    file: int
    rows: int
    takes: ModelInput
    cutting: Cutting | None = None

    def open(self) -> Callable[[tuple[int, bytes]], str | None]:
        """Map the memory; the function takes a row and a picture, and gives what is wrong with that."""
        confine(_bytes(self.cutting))
        pixels = shared_pixels(self.file, self.rows, self.takes)
        read = _reading(self.takes, self.cutting)

        def decode(task: tuple[int, bytes]) -> str | None:
            row, data = task
            try:
                with one_picture():
                    pixels[row] = read(data)
            except PictureUnreadable as error:
                return str(error)
            return None

        return decode


def _bytes(cutting: Cutting | None) -> int:
    return 0 if cutting is None else cutting.path.stat().st_size


def picture_bytes(takes: ModelInput) -> int:
    """Bytes of one picture as the model takes it."""
    return int(np.prod(preprocessed_shape(takes))) * np.dtype(takes.dtype).itemsize


def shared_pixels(file: int, rows: int, takes: ModelInput) -> NDArray[Any]:
    """Return the memory behind a descriptor as an array of `rows` pictures."""
    memory = mmap.mmap(file, rows * picture_bytes(takes))
    return np.frombuffer(memory, takes.dtype).reshape(rows, *preprocessed_shape(takes))


def killed(died: Died) -> str:
    """Return why a picture of which a worker died has no vector."""
    if died.out_of_time:
        return f"the picture takes more than {PROCESSOR_SECONDS_LIMIT} s of a processor to be decoded"
    return f"the process that decoded the picture died {died}"
