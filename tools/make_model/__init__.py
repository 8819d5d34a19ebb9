"""The recipe that turns published EfficientNet-Lite weights into an ONNX file.

    python -m tools.make_model efficientnet-lite0 FOLDER

`make_model` is the door; nothing outside knows what the weights are or how they are read.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import tempfile
from dataclasses import dataclass
from pathlib import Path

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
    path, digest = _cached(folder, variant) or _made(folder, variant)
    return MadeModel(path, digest, variant.distribution_version, variant.input_size, DIMENSIONS)


def _cached(cache: Path, variant: Variant) -> tuple[Path, str] | None:
    for path in sorted(cache.glob(f"{variant.name}-{_made_from(variant)}-*.onnx")):
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        if path.stem.endswith(digest[:16]):  # or the disk has damaged it: then it is made again
            return path, digest
    return None


def _made(cache: Path, variant: Variant) -> tuple[Path, str]:
    from tools.make_model.efficientnet_lite import onnx_bytes  # noqa: PLC0415 - it imports onnx: most of a second

    data = onnx_bytes(variant)
    digest = hashlib.sha256(data).hexdigest()
    path = cache / f"{variant.name}-{_made_from(variant)}-{digest[:16]}.onnx"
    _write_whole(path, data)
    return path, digest


def _made_from(variant: Variant) -> str:
    """Name what a model's bytes follow from: whoever changes one of these gets a new file, not a stale one."""
    folder = Path(__file__).parent
    code = [(folder / name).read_bytes() for name in ("efficientnet_lite.py", "legacy_torch.py", "variants.py")]
    parts = [variant.weights_sha256.encode(), importlib.metadata.version("onnx").encode(), *code]
    return hashlib.sha256(b"\0".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()[:16]


def _write_whole(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".model-", delete=False) as partial:
        partial.write(data)
    Path(partial.name).replace(path)
