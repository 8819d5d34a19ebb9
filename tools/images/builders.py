"""docker or buildah: each makes an OCI layout of a Dockerfile, uncompressed."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from model_repository.errors import Misconfigured
from tools.images.errors import BuildFailed
from tools.images.source import Base


class Builder(Protocol):
    """A program that builds images."""

    def base(self, name: str) -> Base:
        """Fetch the parent, unless it is one of this machine's own (localhost/...), and say which it is."""

    def build(self, context: Path, dockerfile: str, build: Build, into: Path) -> None:
        """Build, and leave an OCI layout in the empty folder `into`. Raises `BuildFailed`."""


@dataclass(frozen=True, slots=True)
class Build:
    """What a build is told. tag: name:tag. more: options that the person gave for the builder itself."""

    tag: str
    arguments: Mapping[str, str]
    labels: Mapping[str, str]
    more: tuple[str, ...] = ()

    @property
    def options(self) -> list[str]:
        """The options that both programs take."""
        arguments = [word for name, value in self.arguments.items() for word in ("--build-arg", f"{name}={value}")]
        labels = [word for name, value in self.labels.items() for word in ("--label", f"{name}={value}")]
        return [*arguments, *labels, *self.more]


class Docker:
    """docker 25 or newer: before it, `docker save` wrote no OCI layout."""

    def base(self, name: str) -> Base:
        """See `Builder`."""
        if not name.startswith("localhost/"):
            _run("docker", "pull", name)
        form = "{{if .RepoDigests}}{{index .RepoDigests 0}}{{else}}{{.Id}}{{end}}"
        return Base(name, _said("docker", "image", "inspect", "--format", form, name).rpartition("@")[2])

    def build(self, context: Path, dockerfile: str, build: Build, into: Path) -> None:
        """See `Builder`."""
        _run("docker", "build", "--file", str(context / dockerfile), "--tag", build.tag, *build.options, str(context))
        archive = into / "saved.tar"
        _run("docker", "save", "--output", str(archive), build.tag)
        with tarfile.open(archive) as saved:
            saved.extractall(into, filter="data")
        archive.unlink()
        if not (into / "index.json").exists():
            raise BuildFailed(f"{build.tag}: docker save wrote no OCI layout; take docker 25 or newer, or buildah")


class Buildah:
    """buildah: needs no daemon. Where its images are is for CONTAINERS_STORAGE_CONF to say, as ever."""

    def base(self, name: str) -> Base:
        """See `Builder`."""
        if not name.startswith("localhost/"):
            _run("buildah", "pull", "--quiet", name)
        return Base(name, _said("buildah", "inspect", "--type", "image", "--format", "{{.FromImageDigest}}", name))

    def build(self, context: Path, dockerfile: str, build: Build, into: Path) -> None:
        """See `Builder`."""
        file = ("--file", str(context / dockerfile), "--ignorefile", f"{context / dockerfile}.dockerignore")
        known = file if Path(file[-1]).exists() else file[:2]
        into_layout = ("--tag", f"oci:{into}:{build.tag.rpartition(':')[2]}")
        _run("buildah", "build", "--layers", *known, *into_layout, *build.options, str(context))


def choose(wanted: str | None) -> Builder:
    """The builder of that name, or the one that works here. Raises `Misconfigured`."""
    if wanted == "buildah" or (wanted is None and not _works("docker", "info") and _works("buildah", "--version")):
        return Buildah()
    if wanted == "docker" or (wanted is None and _works("docker", "info")):
        return Docker()
    raise Misconfigured(
        "nothing here builds images: no docker whose daemon answers, and no buildah; start Docker (25 or newer), or "
        "apt-get install buildah (1.28 or newer), which needs no daemon"
    )


def _works(program: str, word: str) -> bool:
    return (
        shutil.which(program) is not None
        and not subprocess.run([program, word], capture_output=True, check=False).returncode
    )


def _run(*command: str) -> None:
    """Run it, with what it says on our standard error."""
    sys.stderr.flush()
    done = subprocess.run(command, stdout=sys.stderr, check=False)
    if done.returncode:
        raise BuildFailed(f"{' '.join(command[:2])} ended with {done.returncode}; its reason is above")


def _said(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BuildFailed(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout.strip()
