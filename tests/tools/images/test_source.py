"""The labels say which commit an image is made of, and whether it is one."""

from __future__ import annotations

import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest

from model_repository import __version__
from model_repository.errors import Misconfigured
from tools.images.recipes import RECIPES
from tools.images.source import Base, Source, labels, read_source, web_address

BASE = Base("python:3.13", "sha256:bbbb")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    (tmp_path / "file").write_text("as committed")
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", "file")
    author = ("-c", "user.name=A", "-c", "user.email=a@example.com")
    git(tmp_path, *author, "commit", "--quiet", "--message=one", "--date=2026-01-01T00:00:00Z")
    return tmp_path


def git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(folder), *arguments], check=True, capture_output=True, text=True)
    return done.stdout.strip()


def test_a_version_is_the_release_and_the_commit(checkout: Path) -> None:
    commit = git(checkout, "rev-parse", "HEAD")
    found = read_source(checkout)
    assert (found.version, found.revision) == (f"{__version__}+{commit[:12]}", commit)
    assert found.tag == f"{__version__}-{commit[:12]}"
    assert found.url is None


def test_the_commit_with_the_version_s_tag_is_the_release(checkout: Path) -> None:
    git(checkout, "tag", f"v{__version__}")
    assert read_source(checkout).version == read_source(checkout).tag == __version__


@pytest.mark.parametrize("changed", ["file", "another"])
def test_a_tree_that_no_commit_has_says_so_even_at_a_release(checkout: Path, changed: str) -> None:
    git(checkout, "tag", f"v{__version__}")
    (checkout / changed).write_text("as it is")
    found = read_source(checkout)
    assert found.version == f"{__version__}+{found.commit[:12]}.dirty"
    assert found.revision == f"{found.commit}-dirty"


def test_labels_are_the_same_for_the_same_commit(checkout: Path) -> None:
    git(checkout, "remote", "add", "origin", "git@github.com:acme/indexpush.git")
    found = read_source(checkout)
    assert labels(RECIPES["search"], found, BASE) == labels(RECIPES["search"], read_source(checkout), BASE)
    said = labels(RECIPES["search"], Source("c" * 40, datetime(2026, 5, 1, tzinfo=UTC), found.url, False, False), BASE)
    assert said == {
        "org.opencontainers.image.title": "indexpush search server",
        "org.opencontainers.image.version": f"{__version__}+{'c' * 12}",
        "org.opencontainers.image.revision": "c" * 40,
        "org.opencontainers.image.created": "2026-05-01T00:00:00Z",
        "org.opencontainers.image.source": "https://github.com/acme/indexpush",
        "org.opencontainers.image.licenses": "Apache-2.0",
        "org.opencontainers.image.base.name": "python:3.13",
        "org.opencontainers.image.base.digest": "sha256:bbbb",
    }


@pytest.mark.parametrize(
    ("remote", "address"),
    [
        ("https://github.com/acme/indexpush.git", "https://github.com/acme/indexpush"),
        ("https://who:secret@git.acme.com/team/indexpush", "https://git.acme.com/team/indexpush"),
        ("git@github.com:acme/indexpush.git", "https://github.com/acme/indexpush"),
        ("ssh://git@git.acme.com:2222/team/indexpush.git", "https://git.acme.com/team/indexpush"),
        ("/srv/git.d/indexpush.git", None),
        ("../indexpush", None),
        ("", None),
    ],
)
def test_a_remote_is_told_as_people_open_it_and_without_its_password(remote: str, address: str | None) -> None:
    assert web_address(remote) == address


@pytest.mark.parametrize(
    ("name", "pinned"),
    [
        ("docker.io/library/python:3.13-slim", "docker.io/library/python@sha256:bbbb"),
        ("registry.acme.com:5000/python", "registry.acme.com:5000/python@sha256:bbbb"),
        ("python@sha256:aaaa", "python@sha256:bbbb"),
        ("localhost/debian-python:7bcb", "localhost/debian-python:7bcb"),
    ],
)
def test_a_parent_is_taken_by_its_digest_and_not_by_a_tag_that_moves(name: str, pinned: str) -> None:
    assert Base(name, "sha256:bbbb").pinned == pinned


def test_outside_of_a_checkout_nothing_is_built(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="build images in a git checkout"):
        read_source(tmp_path)
