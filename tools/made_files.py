"""Model files that are made once and kept: each is named by what it was made from and by its own bytes."""

from __future__ import annotations

import hashlib
import importlib.metadata
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class MadeFile:
    """An ONNX file. sha256: of it, in hex."""

    path: Path
    sha256: str


def made_from(weights_sha256: str, code: Iterable[Path]) -> str:
    """Name what a model's bytes follow from: whoever changes one of these gets a new file, not a stale one."""
    parts = [
        weights_sha256.encode(),
        importlib.metadata.version("onnx").encode(),
        *(path.read_bytes() for path in code),
    ]
    return hashlib.sha256(b"\0".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()[:16]


def kept(folder: Path, stem: str) -> MadeFile | None:
    """The file of that name in `folder`, whole; None: it is to be made."""
    for path in sorted(folder.glob(f"{stem}-*.onnx")):
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        if path.stem.endswith(digest[:16]):  # or the disk has damaged it: then it is made again
            return MadeFile(path, digest)
    return None


def keep(folder: Path, stem: str, data: bytes) -> MadeFile:
    """Write the file, whole or not at all."""
    digest = hashlib.sha256(data).hexdigest()
    path = folder / f"{stem}-{digest[:16]}.onnx"
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".model-", delete=False) as partial:
        partial.write(data)
    Path(partial.name).replace(path)
    return MadeFile(path, digest)
