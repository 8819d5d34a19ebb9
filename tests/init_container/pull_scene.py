"""What the tests of the puller share: a build in a bucket, and the puller as a process."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from random import Random

from model_repository.digests import sha256_digest
from model_repository.documents.files import File
from model_repository.documents.index_manifest import (
    format_index_manifest,
)
from model_repository.documents.model_manifest import format_model_manifest
from model_repository.names import IndexPrefix, ModelPrefix
from tests import builds

PREFIX = IndexPrefix("shop", "b1")
MODEL = ModelPrefix("lite0", "v1")
MIB = 1024 * 1024


@dataclass
class Build:
    """A build's objects, by name, and the digest of its index.json."""

    objects: dict[str, bytes]
    digest: str

    def replaced(self, old: bytes, new: bytes) -> Build:
        """The same build with something replaced in index.json."""
        name = PREFIX.manifest
        assert old in self.objects[name]
        data = self.objects[name].replace(old, new)
        return Build({**self.objects, name: data}, sha256_digest(data))


def make_build(sizes: dict[str, int], *, seed: int = 1) -> Build:
    """A build with files of these sizes besides the few that it must have."""
    random = Random(seed)
    model = {"model.onnx": random.randbytes(5000)}
    manifest = builds.model_manifest(MODEL, files=_described(model))
    model["model.json"] = format_model_manifest(manifest)
    content = {"p.ann": random.randbytes(100), "p.ids": random.randbytes(10), "items.lookup": random.randbytes(10)}
    content |= {name: random.randbytes(size) for name, size in sizes.items()}
    index = builds.index_manifest(
        PREFIX,
        builds.model_reference(manifest),
        partitions=(builds.partition(file="p.ann", ids="p.ids", items=1),),
        files=_described(content),
    )
    objects = {f"{MODEL}/{name}": data for name, data in model.items()}
    objects |= {f"{PREFIX}/{name}": data for name, data in content.items()}
    objects[PREFIX.manifest] = format_index_manifest(index)
    return Build(objects, sha256_digest(objects[PREFIX.manifest]))


def _described(contents: dict[str, bytes]) -> tuple[File, ...]:
    return tuple(builds.described(name, data) for name, data in contents.items())


@dataclass
class Outcome:
    """How a run of the puller ended."""

    code: int
    lines: list[dict[str, object]]
    last_words: str

    @property
    def message(self) -> str:
        """The last line's message."""
        return str(self.lines[-1]["message"])


@dataclass
class Puller:
    """Runs ``python -m init_container``. settings: its environment."""

    folder: Path
    settings: dict[str, str]

    @property
    def destination(self) -> Path:
        """Where the build is to appear."""
        return self.folder / "current"

    @property
    def partial(self) -> Path:
        """Where it is while it is coming in."""
        return self.folder / ".current.partial"

    def environment(self, **changes: str) -> dict[str, str]:
        """The process's environment."""
        basic = {"PATH": os.environ["PATH"], "HOME": str(self.folder), "DESTINATION": str(self.destination)}
        return {**basic, "TERMINATION_LOG": str(self.folder / "last-words"), **self.settings, **changes}

    def start(self, **changes: str) -> subprocess.Popen[str]:
        """Start the process."""
        return subprocess.Popen(
            [sys.executable, "-m", "init_container"],
            env=self.environment(**changes),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )

    def finish(self, process: subprocess.Popen[str], timeout: float = 150) -> Outcome:
        """Wait for the process to end."""
        _, stderr = process.communicate(timeout=timeout)
        lines = [json.loads(line) for line in stderr.splitlines()]
        words = self.folder / "last-words"
        return Outcome(process.returncode, lines, words.read_text() if words.exists() else "")

    def run(self, **changes: str) -> Outcome:
        """Pull, and wait for the end."""
        return self.finish(self.start(**changes))

    def check_whole(self, build: Build) -> None:
        """Assert that exactly this build is there, and nothing half-done beside it."""
        found = {
            path.relative_to(self.destination).as_posix(): hashlib.sha256(path.read_bytes()).digest()
            for path in self.destination.rglob("*")
            if path.is_file() and not path.name.startswith(".")
        }
        wanted = {
            name.replace(str(PREFIX), "index"): hashlib.sha256(data).digest() for name, data in build.objects.items()
        }
        assert found == wanted
        assert not self.partial.exists()

    def check_nothing_there(self) -> None:
        """Assert that nothing stands under its final name."""
        assert not self.destination.exists()
