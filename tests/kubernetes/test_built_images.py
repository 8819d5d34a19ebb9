"""`./noxw -s images` makes a real image of the layers that this session has built, with true labels and a true bill."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from packaging.utils import canonicalize_name

from tools.images.bill import read_lock
from tools.images.layout import Layout
from tools.images.recipes import RECIPES
from tools.images.source import PREFIX, read_source

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(600)]

ROOT = Path(__file__).parents[2]
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "indexpush"
NAME = "cd-webhook"


@pytest.fixture(scope="module")
def buildah(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment in which buildah has the lab's images, and nobody else has them meanwhile."""
    if not (CACHE / "images" / "store").exists():
        pytest.skip("the images were built elsewhere")
    folder = tmp_path_factory.mktemp("buildah")
    storage = {"driver": "overlay", "graphroot": str(CACHE / "images" / "store"), "runroot": str(folder / "run")}
    lines = (f"{name} = {json.dumps(value)}" for name, value in storage.items())
    (folder / "storage.conf").write_text("[storage]\n" + "\n".join(lines))
    with (CACHE / "images.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        told = {"CONTAINERS_STORAGE_CONF": str(folder / "storage.conf"), "BUILDAH_ISOLATION": "chroot"}
        yield {**os.environ, **told}


@pytest.fixture(scope="module")
def base(buildah: dict[str, str]) -> str:
    """The parent that lab/image.sh made."""
    said = run(buildah, "buildah", "images", "--format", "{{.Name}}:{{.Tag}}").split()
    return next(name for name in said if name.startswith("localhost/debian-python:"))


@pytest.fixture(scope="module")
def folder(buildah: dict[str, str], base: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the session leaves."""
    into = tmp_path_factory.mktemp("images")
    lent = [f"--option=--volume={file}:{file}:ro" for file in LENT if Path(file).exists()]
    words = (NAME, "--builder", "buildah", "--base", base, "--into", str(into), *lent)
    run(buildah, sys.executable, "-m", "tools.images", *words)
    return into


LENT = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pip.conf")  # as lab/image.sh lends them


def test_its_labels_say_what_it_is_made_of(folder: Path, base: str) -> None:
    layout, source = Layout(folder / NAME), read_source(ROOT)
    found = layout.config["config"]["Labels"]
    assert layout.manifest["annotations"].items() <= found.items()
    assert found[f"{PREFIX}revision"] == source.revision
    assert found[f"{PREFIX}version"] == source.version
    assert found[f"{PREFIX}base.name"] == base
    assert found[f"{PREFIX}base.digest"].startswith("sha256:")
    assert f"INDEXPUSH_REVISION={source.revision}" in layout.config["config"]["Env"]


def test_every_package_of_its_lock_is_in_its_bill_and_so_is_debian(folder: Path) -> None:
    listed = json.loads((folder / f"{NAME}.cdx.json").read_text())
    components: list[dict[str, Any]] = listed["components"]
    found = {canonicalize_name(each["name"]): each["version"] for each in components if "pkg:pypi/" in each["purl"]}
    python = next(each["version"] for each in components if each["purl"].startswith("pkg:generic/python@"))
    lock = read_lock((ROOT / RECIPES[NAME].lock).read_text(), python)
    assert len(lock) > 20
    assert {locked.name: locked.version for locked in lock.values()}.items() <= found.items()
    assert any(each["purl"].startswith("pkg:deb/debian/libc6@") for each in components)


def test_its_bill_is_attached_to_it(folder: Path) -> None:
    layout = Layout(folder / NAME)
    (attached,) = [layout.json(digest) for digest in layout.referrers]
    assert attached["subject"]["digest"] == layout.digest
    assert layout.blob(attached["layers"][0]["digest"]).read_bytes() == (folder / f"{NAME}.cdx.json").read_bytes()


def run(environment: dict[str, str], *command: str) -> str:
    """In a mount namespace that takes with it what buildah mounts; its standard output."""
    alone = ("unshare", "--mount", "--propagation", "private")
    done = subprocess.run([*alone, *command], cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout
