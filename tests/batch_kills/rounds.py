"""A run of the batch that is killed at a random moment, and what must be true of those after it."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from model_repository.bucket.gcs_store import GcsStore
from model_repository.documents.files import check_files
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

    @property
    def temporary(self) -> Path:
        """TMPDIR of its runs."""
        return self.cache.with_name(f"{self.cache.name}-temporary")

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
        own = {**os.environ, "PROGRESS_SECONDS": "0", _MARK: str(self.cache), "TMPDIR": str(self.temporary)}
        self.temporary.mkdir(exist_ok=True)
        return subprocess.Popen(command, env=own, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def kill(self, moment: float, signal_number: int, *more: str) -> int:
        """Begin a run and end it; the status it ended with. moment: a line of its log (int), or seconds (float)."""
        with self.begin(*more) as batch:
            if isinstance(moment, int):
                for number, _ in enumerate(batch.stderr or ()):
                    if number == moment:
                        break
            else:
                with suppress(subprocess.TimeoutExpired):
                    batch.wait(moment)
            batch.send_signal(signal_number)
            batch.communicate(timeout=LONGEST)
        if signal_number == signal.SIGTERM:
            # the interpreter itself takes a moment to begin and to end
            assert batch.returncode in (0, 130, -signal.SIGTERM), batch.returncode
            self.check_left()
        return batch.returncode

    def is_committed(self) -> bool:
        """Whether there is a commit: a run that was killed after that is done."""
        return GcsStore(self.bucket).stat(Target(ENVIRONMENT, INDEX).commit_name) is not None

    def embedded(self) -> int:
        """Pictures that were embedded, in all runs that got as far as keeping them."""
        store = GcsStore(self.bucket)
        names = (info.name for info in store.listing(f"shards/{INDEX}/"))
        records = [name for name in names if "/embed-" in name and "/failed/" not in name]
        return sum(json.loads(store.read(name, limit=2**24).data)["embedded"] for name in records)

    def kept(self) -> int:
        """Embeddings in the bucket."""
        return sum(int(info.name.split("-")[-2]) for info in GcsStore(self.bucket).listing("features/"))

    def check_left(self) -> None:
        """Say what a run left on this machine."""
        scratch = self.cache / "scratch"
        left = [path.name for path in scratch.iterdir() if path.name != "lock"] if scratch.exists() else []
        assert left == [], "something is left in the folder for what isn't whole"
        assert list(self.temporary.iterdir()) == [], "something is left in TMPDIR"
        assert self.workers() == [], "a process is left"

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
        assert self.embedded() <= self.pictures, "a shard that was done was embedded again"
        assert self.kept() <= self.pictures + SHARD_PICTURES, "more than a shard was embedded twice"
        self.check_left()

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


def length_of(killing: Killing) -> tuple[int, float]:
    """How many lines a whole run writes, and how many seconds it takes."""
    begun = time.monotonic()
    done = killing.run("--no-commit")
    assert done.returncode == 0, done.stderr[-2000:]
    return len(done.stderr.splitlines()), time.monotonic() - begun


def one_round(killing: Killing, length: tuple[int, float], expected: dict[str, str]) -> str:
    """Kill a run, once or twice, and let the next one end; returns what was done."""
    same_name = killing.chance.random() < 0.5
    more = ("--build", "again") if same_name else ()
    lines, seconds = length
    kills: list[float] = [
        killing.chance.choice((killing.chance.randrange(lines), killing.chance.uniform(0, seconds)))
        for _ in range(killing.chance.choice((1, 2)))
    ]
    how = killing.chance.choice((signal.SIGKILL, signal.SIGTERM))
    statuses = [killing.kill(moment, how, *more) for moment in kills]
    said = f"{how.name} at {kills} of {lines} lines or {seconds:.0f} s"
    if not (same_name and (0 in statuses or killing.is_committed())):
        killing.check(killing.run(*more))
        said += f", then {'the same name' if same_name else 'another name'}"
    assert killing.files() == expected, "not the build that an undisturbed run makes"
    return said
