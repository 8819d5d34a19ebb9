"""Which commit is built, and the labels that say so."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from model_repository import __version__
from model_repository.errors import Misconfigured
from tools.images.recipes import Recipe

PREFIX = "org.opencontainers.image."


@dataclass(frozen=True, slots=True)
class Source:
    """A commit. url: where it can be read, if anywhere. dirty: the tree is none. released: it has the version's tag."""

    commit: str
    committed: datetime
    url: str | None
    dirty: bool
    released: bool

    @property
    def revision(self) -> str:
        """The commit, whole."""
        return f"{self.commit}-dirty" if self.dirty else self.commit

    @property
    def version(self) -> str:
        """0.1.0 for the commit tagged v0.1.0; 0.1.0+0123456789ab for any other, and .dirty for a tree that is none."""
        if self.released and not self.dirty:
            return __version__
        return f"{__version__}+{self.commit[:12]}{'.dirty' if self.dirty else ''}"

    @property
    def tag(self) -> str:
        """The version, as a registry takes it."""
        return self.version.replace("+", "-")


@dataclass(frozen=True, slots=True)
class Base:
    """The parent of all images. name: as one would pull it. digest: of what was there when this build began."""

    name: str
    digest: str

    @property
    def pinned(self) -> str:
        """By its digest, as the name may move while images are built; what is on this machine alone can't be pulled."""
        path, slash, last = self.name.partition("@")[0].rpartition("/")
        here = self.name.startswith("localhost/")
        return self.name if here else f"{path}{slash}{last.partition(':')[0]}@{self.digest}"


def read_source(root: Path, url: str | None = None) -> Source:
    """Read it of git. url: instead of where `origin` is. Raises `Misconfigured` outside of a checkout."""
    commit, seconds = _git(root, "log", "-1", "--format=%H %ct").split()
    return Source(
        commit=commit,
        committed=datetime.fromtimestamp(int(seconds), UTC),
        url=url or web_address(_git(root, "config", "--default", "", "--get", "remote.origin.url")),
        dirty=bool(_git(root, "status", "--porcelain")),
        released=f"v{__version__}" in _git(root, "tag", "--points-at", "HEAD").split(),
    )


def web_address(remote: str) -> str | None:
    """Where people can read a remote; without a password that stands in it. None: it's a folder of this machine."""
    found = re.match(
        r"(?:(?:https?|ssh|git)://)?(?:[^/@]+@)?([\w.-]+\.\w+)(?::\d+(?=/))?[:/](.+?)(?:\.git)?/?$", remote
    )
    return f"https://{found[1]}/{found[2]}" if found and not remote.startswith((".", "/")) else None


def labels(recipe: Recipe, source: Source, base: Base) -> dict[str, str]:
    """OCI's predefined annotations; the same for the same commit and base."""
    said = {
        "title": recipe.title,
        "version": source.version,
        "revision": source.revision,
        "created": source.committed.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "source": source.url,
        "licenses": "Apache-2.0",
        "base.name": base.name,
        "base.digest": base.digest,
    }
    return {PREFIX + name: value for name, value in said.items() if value is not None}


def _git(root: Path, *arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise Misconfigured(
            f"{root}: {done.stderr.strip()}; build images in a git checkout, as their labels name its commit"
        )
    return done.stdout.strip()
