"""Puts the contract beside each function, so that its folder can be deployed alone: a copy, made when it is deployed.

python functions/vendor.py [FOLDER...]
"""

# ruff: noqa: INP001 - a script beside the functions

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

FUNCTIONS = Path(__file__).resolve().parent
CONTRACT = FUNCTIONS.parent / "model_repository"


def vendor(folder: Path) -> None:
    """Put the contract into `folder`, in place of an older copy of it."""
    copy = folder / CONTRACT.name
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(CONTRACT, copy, ignore=shutil.ignore_patterns("__pycache__"))


def main(folders: Sequence[str]) -> int:
    """The command line; returns the exit status."""
    for folder in [Path(name) for name in folders] or [path.parent for path in FUNCTIONS.glob("*/main.py")]:
        vendor(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
