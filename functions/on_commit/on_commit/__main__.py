"""``python -m on_commit --check``: says what is misconfigured, and ends with 64 if anything is."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from on_commit.check import check
from on_commit.service import open_store

_MISCONFIGURED = 64


def run(arguments: Sequence[str]) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python main.py", description="The function's set-up check.")
    parser.add_argument("--check", action="store_true", required=True, help="say what is misconfigured")
    parser.parse_args(arguments)
    well = True
    for fine, sentence in check(os.environ, open_store):
        well = well and fine
        sys.stdout.write(f"{'ok    ' if fine else 'WRONG '} {sentence}\n")
        sys.stdout.flush()
    return 0 if well else _MISCONFIGURED


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
