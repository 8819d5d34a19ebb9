"""How a worker, the pod's supervisor and a process that embeds speak of a picture."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from model_repository.documents.detector_manifest import GoldenDetection
from model_repository.documents.model_manifest import ModelInput

Box = tuple[float, float, float, float]
"""Left, top, right, bottom, as shares of width and height of the upright picture."""


Answer = tuple[int, bytes]
"""Its kind, and what it says."""

QUESTION: Final = struct.Struct("!II")
"""Begins a question: how many bytes the pickled `Question` that follows has, and the picture; the server may be
believed."""

PHOTO: Final = struct.Struct("!B32s")
"""Begins what a worker asks, before the `QUESTION`: 1 if the answer may be remembered, and the picture's sha256."""

ANSWER: Final = struct.Struct("!BI")
"""Begins an answer: what it is, and how many bytes follow; whoever read a stranger's picture is never believed more."""

LONGEST_ANSWER: Final = 2**20
"""Bytes."""

LONGEST_PIXELS: Final = 24 * 2**20
"""Bytes of an answer with what models take, where that was asked for: twenty squares of 320 pixels of float32."""

VECTOR, UNREADABLE, FAILED, TURN, OVERLOADED, LOST, LEAVING, REGIONS, MISSED, PIXELS, PIXEL_REGIONS, AWAY = range(12)
"""Numbers, float32 and little-endian. In UTF-8, what is wrong with the picture, or with the model. The picture is to be
sent now. In UTF-8, why another try may pass: the queue is full, the process was lost, the server is leaving. Of each
region a `REGION`, and then the vector that its category's model makes of it. In UTF-8, what of a golden image wasn't
found; nothing, if all was. As VECTOR and REGIONS, but with what the model takes, as its input says, in place of a
vector. In UTF-8, why whoever embeds elsewhere can't be asked now."""

REGION: Final = struct.Struct("<H5f")
"""The number of its class among the detector's, the score, the box."""


@dataclass(frozen=True, slots=True)
class ModelFile:
    """What embeds. takes: what it wants of a picture. normalised: whether it gives vectors of length 1.

    digest: sha256 of its model.json. dimensions: of its vectors. elsewhere: whether it embeds elsewhere: then here a
    picture becomes what it takes, and its file isn't opened.
    """

    path: str
    takes: ModelInput
    normalised: bool
    digest: str
    dimensions: int
    elsewhere: bool = False


@dataclass(frozen=True, slots=True)
class DetectorFile:
    """What detects. digest: sha256 of its model.json."""

    path: str
    takes: ModelInput
    classes: tuple[str, ...]
    digest: str


@dataclass(frozen=True, slots=True)
class Embed:
    """Asks for the VECTOR of a picture, or of what is in a box of it; for its PIXELS if the model is elsewhere."""

    model: ModelFile
    box: Box | None = None

    @property
    def files(self) -> tuple[ModelFile | DetectorFile, ...]:
        """What has to be open."""
        return _files(self.model)

    @property
    def longest(self) -> int:
        """Most bytes of an answer."""
        return _longest(self.model)


@dataclass(frozen=True, slots=True)
class Detect:
    """Asks for the REGIONS of a picture, best first; for the VECTOR that `whole` makes of all of it if there is none.

    For PIXEL_REGIONS, or PIXELS, if the models are elsewhere: all of them are then.

    categories: of the classes that are looked for. models: that embed what is of a category.
    """

    detector: DetectorFile
    categories: Mapping[str, str]
    least_score: float
    models: Mapping[str, ModelFile]
    whole: ModelFile | None

    @property
    def files(self) -> tuple[ModelFile | DetectorFile, ...]:
        """What has to be open."""
        return (self.detector, *_files(*self.models.values(), self.whole))

    @property
    def longest(self) -> int:
        """Most bytes of an answer."""
        return _longest(*self.models.values(), self.whole)


@dataclass(frozen=True, slots=True)
class Prove:
    """Asks for what is MISSED of a golden image."""

    detector: DetectorFile
    golden: GoldenDetection
    least_overlap: float

    @property
    def files(self) -> tuple[ModelFile | DetectorFile, ...]:
        """What has to be open."""
        return (self.detector,)

    @property
    def longest(self) -> int:
        """Most bytes of an answer."""
        return LONGEST_ANSWER


def _files(*models: ModelFile | None) -> tuple[ModelFile, ...]:
    return tuple(model for model in models if model and not model.elsewhere)


def _longest(*models: ModelFile | None) -> int:
    return LONGEST_PIXELS if any(model and model.elsewhere for model in models) else LONGEST_ANSWER


Question = Embed | Detect | Prove
