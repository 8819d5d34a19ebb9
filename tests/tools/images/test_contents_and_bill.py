"""What is in an image is found, written down, and held to its lock."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name

from tests.tools.images.small_images import PARENT, SITE, distribution, tar_of
from tools.images.bill import bill, hold_to_lock, read_lock
from tools.images.contents import Contents, DebianPackage, PythonPackage, read_contents
from tools.images.errors import NotAsLocked
from tools.images.recipes import RECIPES
from tools.images.source import Source

ROOT = Path(__file__).parents[3]
SOURCE = Source("c" * 40, datetime(2026, 5, 1, 12, tzinfo=UTC), None, dirty=False, released=False)
LOCK = """\
# a comment
colorama==0.4.6 ; sys_platform == 'win32' \\
    --hash=sha256:1111
old-one==1 ; python_full_version < '3.12' \\
    --hash=sha256:2222
    # via nobody
PyYAML==6.0.3 \\
    --hash=sha256:3333 \\
    --hash=sha256:4444
    # via somebody
"""


def contents_of(folder: Path, *layers: dict[str, str]) -> Contents:
    """Of an image that has these layers."""
    paths = []
    for number, files in enumerate(layers):
        paths.append(folder / f"{number}.tar")
        paths[-1].write_bytes(tar_of(files))
    return read_contents(paths)


def test_packages_of_debian_and_of_python_are_found(tmp_path: Path) -> None:
    found = contents_of(tmp_path, PARENT, distribution("yaml", "6.0.3"))
    assert found.release == "debian-13"
    assert found.python == "3.13.5"
    assert found.debian_packages == (DebianPackage("libc6", "2.41-12", "amd64"),)
    assert found.python_packages == (PythonPackage("yaml", "6.0.3", "MIT", ours=True),)


def test_what_a_later_layer_removes_or_replaces_is_not_there(tmp_path: Path) -> None:
    of_the_parent = "usr/local/lib/python3.13/site-packages"
    below = {**PARENT, **distribution("pip", "25", site=of_the_parent), **distribution("yaml", "6.0.2")}
    removed = {f"{of_the_parent}/.wh.pip": "", f"{SITE}/.wh.yaml-6.0.2.dist-info": "", "var/lib/dpkg/.wh..wh..opq": ""}
    found = contents_of(tmp_path, below, {**removed, **distribution("yaml", "6.0.3")})
    assert [(each.name, each.version) for each in found.python_packages] == [
        ("yaml", "6.0.3")
    ]  # pip's name is still there
    assert found.debian_packages == ()


def test_a_package_of_ours_without_its_headers_is_still_there(tmp_path: Path) -> None:
    only_headers = distribution("cuda-headers", "13")
    del only_headers[f"{SITE}/cuda-headers/__init__.py"]
    (found,) = contents_of(tmp_path, PARENT, only_headers).python_packages
    assert found.name == "cuda-headers"


def test_a_lock_has_what_its_markers_say_of_an_image() -> None:
    assert list(read_lock(LOCK, "3.13.5")) == ["pyyaml"]
    assert list(read_lock(LOCK, "3.11.2")) == ["old-one", "pyyaml"]
    assert read_lock(LOCK, "3.13.5")["pyyaml"].hashes == ("3333", "4444")


@pytest.mark.parametrize("name", RECIPES)
def test_every_package_of_an_image_s_lock_is_in_its_bill_with_its_version_and_hashes(name: str, tmp_path: Path) -> None:
    lock = read_lock((ROOT / RECIPES[name].lock).read_text(), "3.13.5")
    assert len(lock) > 20
    installed = [distribution(locked.name, locked.version) for locked in lock.values()]
    contents = contents_of(tmp_path, PARENT, *installed)
    hold_to_lock(RECIPES[name], contents, lock)
    made = json.loads(bill(RECIPES[name], SOURCE, f"sha256:{'a' * 64}", contents, lock))
    found = {canonicalize_name(each["name"]): each for each in made["components"]}
    for locked in lock.values():
        component = found[locked.name]
        assert component["version"] == locked.version
        assert component["purl"] == f"pkg:pypi/{locked.name}@{locked.version}"
        (source,) = component["externalReferences"]
        assert source["url"] == component["purl"]  # a lock names no registry, and neither does a bill
        assert {each["content"] for each in source["hashes"]} == set(locked.hashes)
    assert found["libc6"]["purl"] == "pkg:deb/debian/libc6@2.41-12?arch=amd64&distro=debian-13"
    assert found["python"]["version"] == "3.13.5"


def test_a_bill_is_the_same_bytes_every_time(tmp_path: Path) -> None:
    contents = contents_of(tmp_path, PARENT, distribution("PyYAML", "6.0.3"))
    lock = read_lock(LOCK, "3.13.5")
    made = [bill(RECIPES["search"], SOURCE, f"sha256:{'a' * 64}", contents, lock) for _ in range(2)]
    assert made[0] == made[1]
    assert json.loads(made[0])["metadata"]["timestamp"] == "2026-05-01T12:00:00+00:00"


@pytest.mark.parametrize(
    ("installed", "problem"),
    [
        ({}, "pyyaml 6.0.3 is missing"),
        (distribution("PyYAML", "6.0.2"), "pyyaml 6.0.3 is there as 6.0.2"),
        ({**distribution("PyYAML", "6.0.3"), **distribution("Six", "1.17")}, "six 1.17 isn't in it"),
    ],
)
def test_an_image_that_is_not_what_its_lock_says_is_refused(
    installed: dict[str, str], problem: str, tmp_path: Path
) -> None:
    contents = contents_of(tmp_path, PARENT, installed)
    with pytest.raises(NotAsLocked) as caught:
        hold_to_lock(RECIPES["search"], contents, read_lock(LOCK, "3.13.5"))
    assert f"base_image/requirements.txt says: {problem};" in str(caught.value)
