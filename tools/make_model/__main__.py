"""``python -m tools.make_model NAME FOLDER``: make a model, and say where it is."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from model_repository.errors import Misconfigured
from model_repository.exit_codes import ExitCode
from tools.make_model import NAMES, make_model


def main() -> ExitCode:
    """Returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tools.make_model", description="Packaged weights to an ONNX file.")
    parser.add_argument("name", choices=NAMES)
    parser.add_argument("folder", type=Path)
    options = parser.parse_args()
    try:
        made = make_model(options.name, options.folder)
    except Misconfigured as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    sys.stdout.write(f"{made.path} sha256 {made.sha256}\n")
    return ExitCode.OK


if __name__ == "__main__":
    sys.exit(main())
