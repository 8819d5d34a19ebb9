"""The batch, killed at random moments: `python -m tests.batch_kills [--rounds 50] [--seed 1]`; a line a round."""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path

from local_stack import bucket_server, processes
from tests.batch_kills.rounds import Killing, length_of, one_round
from tests.conftest import HOME_STORE


def main() -> None:
    """Run the rounds; ends with 1 at the first that isn't right."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--pictures", type=int, default=60)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="batch-kills-") as name:
        folder = Path(name)
        port = processes.free_port()
        server = processes.RunningProgram.start(bucket_server.program(folder / "buckets", folder / "log", port, None))
        try:
            server.wait_ready()
            os.environ["STORAGE_EMULATOR_HOST"] = f"http://127.0.0.1:{port}"
            _rounds(folder, options)
        finally:
            server.stop()


def _rounds(folder: Path, options: argparse.Namespace) -> None:
    catalogue = sells(folder / "catalogue", options.pictures)
    chance = random.Random(options.seed)
    models = folder / "models"

    def shop(name: str) -> Killing:
        bucket_server.create_bucket(os.environ["STORAGE_EMULATOR_HOST"], name)
        cache = folder / f"cache-{name}"
        if models.exists():
            shutil.copytree(models, cache / "models")
        return Killing(catalogue, options.pictures, name, cache, chance)

    first = shop("undisturbed")
    first.run()
    shutil.copytree(first.cache / "models", models)
    expected = first.files()
    length = length_of(shop("length"))
    for number in range(options.rounds):
        begun = time.monotonic()
        try:
            said = one_round(shop(f"round-{number}"), length, expected)
        except AssertionError as error:
            sys.exit(f"round {number} of seed {options.seed}: {error}")
        print(f"round {number}: right; {said} ({time.monotonic() - begun:.0f} s)", flush=True)  # noqa: T201


def sells(folder: Path, count: int) -> Path:
    """A catalogue of some pictures of the demo's, each different."""
    folder.mkdir()
    lines = [json.loads(line) for line in (HOME_STORE / "catalogue.jsonl").open()][:count]
    for line in lines:
        shutil.copy(HOME_STORE / line["file"], folder / f"{line['id']}.jpg")
        line["file"] = f"{line['id']}.jpg"
    (folder / "catalogue.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return folder


if __name__ == "__main__":
    main()
