"""``python -m tools.make_detector FOLDER``: make the detector, and say where it is."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from model_repository.errors import Misconfigured
from model_repository.exit_codes import ExitCode
from tools.make_detector import make_detector


def main() -> ExitCode:
    """Returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tools.make_detector", description="A detector as an ONNX file.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--package", type=Path, help="what `npm pack` gave, where this machine has no npm")
    options = parser.parse_args()
    try:
        made = make_detector(options.folder, options.package)
    except Misconfigured as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    sys.stdout.write(f"{made.path} sha256 {made.sha256}\nclasses: {', '.join(made.classes)}\n")
    return ExitCode.OK


if __name__ == "__main__":
    sys.exit(main())
