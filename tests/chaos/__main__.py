"""``python -m tests.chaos``: real processes that are killed, and bursts of commits; says what was counted."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from tests.chaos import bursts, kills


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--rounds", type=int, default=20, help="of kills (default: 20)")
    parser.add_argument("--seed", type=int, default=1, help="of the kills")
    parser.add_argument("--bursts", type=int, default=2, help="of 1,000 commits over 100 indexes (default: 2)")
    options = parser.parse_args()

    def tell(line: str) -> None:
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()

    broken = 0
    with tempfile.TemporaryDirectory(prefix="indexpush-chaos-") as folder:
        if options.rounds:
            broken += kills.run(Path(folder) / "kills", options.rounds, options.seed, tell)
        if options.bursts:
            broken += bursts.run(Path(folder) / "bursts", options.bursts, tell)
    return int(broken > 0)


if __name__ == "__main__":
    sys.exit(main())
