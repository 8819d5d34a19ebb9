"""The recipe that turns published EfficientNet-Lite weights into an ONNX file.

    python -m tools.make_model efficientnet-lite0 FOLDER

`make_model` is the door; nothing outside knows what the weights are or how they are read.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tools.made_files import keep, kept, made_from
from tools.make_model.variants import DIMENSIONS, VARIANTS, Variant

NAMES = tuple(sorted(VARIANTS))
"""The models that can be made."""


@dataclass(frozen=True, slots=True)
class MadeModel:
    """An ONNX file. sha256: of it, in hex. input_size: pixels a side. dimensions: of an embedding."""

    path: Path
    sha256: str
    weights_version: str
    input_size: int
    dimensions: int


def make_model(name: str, folder: Path) -> MadeModel:
    """Return the model of that name, made from its packaged weights if `folder` doesn't have it.

    Raises KeyError for an unknown name, WeightsMissing.
    """
    variant = VARIANTS[name]
    folder_of_code = Path(__file__).parent
    code = [folder_of_code / file for file in ("efficientnet_lite.py", "legacy_torch.py", "variants.py")]
    stem = f"{variant.name}-{made_from(variant.weights_sha256, code)}"
    made = kept(folder, stem) or keep(folder, stem, _onnx_bytes(variant))
    return MadeModel(made.path, made.sha256, variant.distribution_version, variant.input_size, DIMENSIONS)


def _onnx_bytes(variant: Variant) -> bytes:
    from tools.make_model.efficientnet_lite import onnx_bytes  # noqa: PLC0415 - it imports onnx: most of a second

    return onnx_bytes(variant)
