"""A run of the batch that is killed at a random moment, and what must be true of those after it."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from model_repository.documents.files import check_files
from model_repository.gcs_store import GcsStore
from model_repository.names import IndexPrefix, Target
from model_repository.repository import read_build, read_live_commit

INDEX, ENVIRONMENT = "shop", "production"
SHARD_PICTURES = 10
_MARK = "A_BATCH_OF"
LONGEST = 180
"""Seconds that no run takes."""


@dataclass
class Killing:
    """A shop whose batch is killed. catalogue: a folder with `pictures` different pictures. cache: of its machine."""

    catalogue: Path
    pictures: int
    bucket: str
    cache: Path
    chance: random.Random

    def run(self, *more: str) -> subprocess.CompletedProcess[str]:
        """To its end."""
        with self.begin(*more) as batch:
            out, err = batch.communicate(timeout=LONGEST)
        return subprocess.CompletedProcess(batch.args, batch.returncode, out, err)

    def begin(self, *more: str) -> subprocess.Popen[str]:
        """Begin a run, or a step."""
        command = [sys.executable, "-m", "embedding_batch", "run", "--catalogue", str(self.catalogue), "--index", INDEX]
        command += ["--environment", ENVIRONMENT, "--repository", f"gs://{self.bucket}", "--cache", str(self.cache)]
        command += ["--shard-pictures", str(SHARD_PICTURES), "--part-items", "8", "--workers", "2", *more]
        own = {**os.environ, "PROGRESS_SECONDS": "0", _MARK: str(self.cache)}
        return subprocess.Popen(command, env=own, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def kill(self, line: int, signal_number: int, *more: str) -> int:
        """Begin a run and end it after a line of its log; the status it ended with."""
        with self.begin(*more) as batch:
            for number, _ in enumerate(batch.stderr or ()):
                if number == line:
                    batch.send_signal(signal_number)
                    break
            batch.communicate(timeout=LONGEST)
        return batch.returncode

    def embedded(self) -> int:
        """Pictures that were embedded, in all runs that got as far as keeping them."""
        store = GcsStore(self.bucket)
        records = [info.name for info in store.listing(f"shards/{INDEX}/") if "/embed-" in info.name]
        return sum(json.loads(store.read(name, limit=2**24).data)["embedded"] for name in records)

    def check(self, done: subprocess.CompletedProcess[str]) -> None:
        """Say what is wrong after a run that was let to end."""
        assert done.returncode == 0, done.stderr[-2000:]
        store = GcsStore(self.bucket)
        said = json.loads(done.stdout)
        live = read_live_commit(store, Target(ENVIRONMENT, INDEX))
        assert str(live.commit.index_prefix) == said["index_prefix"], "the commit names the build of the run that ended"
        manifest = read_build(store, live.commit.index_prefix).manifest
        check_files(str(manifest.prefix), manifest.files, store.listing(f"{manifest.prefix}/"))
        assert manifest.items == self.pictures
        assert self.embedded() <= self.pictures + SHARD_PICTURES, "more than a shard was embedded twice"
        left = [path.name for path in (self.cache / "scratch").iterdir() if path.is_dir()]
        assert left == [], "something is left in the folder for what isn't whole"
        assert self.workers() == [], "a process is left"

    def workers(self) -> list[int]:
        """Processes of ours that are still there: all of them have the mark in their environment."""
        found = []
        for folder in Path("/proc").iterdir():
            if folder.name.isdigit():
                try:
                    line = (folder / "environ").read_bytes()
                except OSError:
                    continue
                if f"{_MARK}={self.cache}".encode() in line:
                    found.append(int(folder.name))
        return found

    def files(self) -> dict[str, str]:
        """The live build's files by name, with their digests."""
        store = GcsStore(self.bucket)
        prefix: IndexPrefix = read_live_commit(store, Target(ENVIRONMENT, INDEX)).commit.index_prefix
        return {file.name: file.crc32c for file in read_build(store, prefix).manifest.files}


def lines_of(killing: Killing) -> int:
    """How many lines a whole run writes."""
    done = killing.run("--no-commit")
    assert done.returncode == 0, done.stderr[-2000:]
    return len(done.stderr.splitlines())


def one_round(killing: Killing, lines: int, expected: dict[str, str]) -> str:
    """Kill a run, once or twice, and let the next one end; returns what was done."""
    same_name = killing.chance.random() < 0.5
    more = ("--build", "again") if same_name else ()
    kills = [killing.chance.randrange(lines) for _ in range(killing.chance.choice((1, 2)))]
    how = killing.chance.choice((signal.SIGKILL, signal.SIGTERM))
    statuses = [killing.kill(line, how, *more) for line in kills]
    if 0 in statuses and same_name:  # it was done before the signal came
        return "it was done before it was killed"
    killing.check(killing.run(*more))
    assert killing.files() == expected, "not the build that an undisturbed run makes"
    return f"{how.name} at lines {kills} of {lines}, then {'the same name' if same_name else 'another name'}"
