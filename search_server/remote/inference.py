"""What is said in the Open Inference Protocol, however it travels."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol
from urllib.parse import quote

from model_repository.names import ModelPrefix

FP32: Final = "FP32"
UINT8: Final = "UINT8"
LONGEST_ANSWER: Final = 2**20
"""Bytes: a vector of 4,096 numbers in JSON has a tenth."""


class RemoteAway(Exception):
    """Nobody answers, or not in time, or asks to come back: it may pass."""


class RemoteUnfit(Exception):
    """What answers isn't what is asked for; its words say what is."""


class RemoteNotFinite(RemoteUnfit):
    """The numbers of an answer are none: a picture may do that to a model of 16 bits."""


@dataclass(frozen=True, slots=True)
class RemoteModel:
    """A model as the pool calls it. version: may be empty."""

    name: str
    version: str = ""

    @classmethod
    def of(cls, prefix: ModelPrefix, template: str) -> RemoteModel:
        """Return what `template`, such as ``{model}/{version}`` or ``{model}-{version}``, makes of a model's prefix."""
        name, _, version = template.format(model=prefix.model, version=prefix.version).partition("/")
        return cls(name, version)

    @property
    def path(self) -> str:
        """Of its own in HTTP."""
        version = f"/versions/{quote(self.version, safe='')}" if self.version else ""
        return f"/v2/models/{quote(self.name, safe='')}{version}"

    def __str__(self) -> str:
        return f"{self.name}/{self.version}" if self.version else self.name


@dataclass(frozen=True, slots=True)
class Tensor:
    """name: of the model's input. datatype: FP32 or UINT8. data: little-endian, in the shape's order."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    data: bytes


@dataclass(frozen=True, slots=True)
class Described:
    """A model's metadata: of each input and output its name and datatype. Servers may say nothing of either."""

    inputs: tuple[tuple[str, str], ...]
    outputs: tuple[tuple[str, str], ...]


class Inference(Protocol):
    """One way to speak with the pool. All raise `RemoteAway` or `RemoteUnfit`."""

    async def describe(self, model: RemoteModel) -> Described:
        """Return what the pool says of a model."""

    async def infer(self, model: RemoteModel, tensor: Tensor, output: str) -> Sequence[float]:
        """Return all numbers of an output; of the first one if no name is given."""

    async def close(self) -> None:
        """Leave."""


def normalised(numbers: Sequence[float], dimensions: int, *, already: bool) -> bytes:
    """Return a vector as little-endian float32, of length 1. already: whether its model made it so.

    Raises `RemoteUnfit` if it has other dimensions, and `RemoteNotFinite` where numbers are none.
    """
    if len(numbers) != dimensions:
        raise RemoteUnfit(f"answered {len(numbers)} numbers; the model has {dimensions} dimensions")
    length = 1.0 if already else max(math.hypot(*numbers), 1e-12)
    try:
        vector = struct.pack(f"<{dimensions}f", *(number / length for number in numbers))
    except (OverflowError, struct.error, TypeError):
        raise RemoteNotFinite("answered numbers that are no float32") from None
    if not all(map(math.isfinite, numbers)):
        raise RemoteNotFinite("answered no finite numbers")
    return vector


def floats(data: bytes) -> tuple[float, ...]:
    """Return little-endian float32; raises `RemoteUnfit`."""
    if len(data) % 4:
        raise RemoteUnfit(f"answered {len(data)} bytes, which are no float32")
    return struct.unpack(f"<{len(data) // 4}f", data)
