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


QUESTION: Final = struct.Struct("!II")
"""Begins a question: how many bytes the pickled `Question` that follows has, and the picture; the server may be
believed."""

ANSWER: Final = struct.Struct("!BI")
"""Begins an answer: what it is, and how many bytes follow; whoever read a stranger's picture is never believed more."""

LONGEST_ANSWER: Final = 2**20
"""Bytes."""

VECTOR, UNREADABLE, FAILED, TURN, OVERLOADED, LOST, LEAVING, REGIONS, MISSED = range(9)
"""Numbers, float32 and little-endian. In UTF-8, what is wrong with the picture, or with the model. The picture is to be
sent now. In UTF-8, why another try may pass: the queue is full, the process was lost, the server is leaving. Of each
region a `REGION`, and then the vector that its category's model makes of it. In UTF-8, what of a golden image wasn't
found; nothing, if all was."""

REGION: Final = struct.Struct("<H5f")
"""The number of its class among the detector's, the score, the box."""


@dataclass(frozen=True, slots=True)
class ModelFile:
    """What embeds. takes: what it wants of a picture. normalised: whether it gives vectors of length 1."""

    path: str
    takes: ModelInput
    normalised: bool


@dataclass(frozen=True, slots=True)
class DetectorFile:
    """What detects."""

    path: str
    takes: ModelInput
    classes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Embed:
    """Asks for the VECTOR of a picture, or of what is in a box of it."""

    model: ModelFile
    box: Box | None = None

    @property
    def files(self) -> tuple[ModelFile | DetectorFile, ...]:
        """What has to be open."""
        return (self.model,)


@dataclass(frozen=True, slots=True)
class Detect:
    """Asks for the REGIONS of a picture, best first; for the VECTOR that `whole` makes of all of it if there is none.

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
        return (self.detector, *self.models.values(), *((self.whole,) if self.whole else ()))


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


Question = Embed | Detect | Prove
