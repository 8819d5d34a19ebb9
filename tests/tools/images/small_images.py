"""Images as builders leave them, a few kilobytes large; and a builder that makes one in no time."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tools.images.bill import read_lock
from tools.images.builders import Build
from tools.images.recipes import RECIPES
from tools.images.source import Base

ROOT = Path(__file__).parents[3]
SITE = "app/lib/python3.13/site-packages"
STATUS = """\
Package: libc6
Status: install ok installed
Architecture: amd64
Version: 2.41-12
Description: a library
 that has Version: 1 in its description

Package: gone
Status: deinstall ok config-files
Architecture: all
Version: 1

"""
PARENT = {
    "etc/os-release": 'ID=debian\nVERSION_ID="13"\n',
    "var/lib/dpkg/status": STATUS,
    "usr/lib/python3/dist-packages/pip-25.dist-info/METADATA": "Name: pip\nVersion: 25\n",
    "app/pyvenv.cfg": "home = /usr/bin\nversion = 3.13.5\n",
}


def distribution(name: str, version: str, licence: str = "MIT", site: str = SITE) -> dict[str, str]:
    """The files of an installed package."""
    info = f"{site}/{name}-{version}.dist-info"
    record = f"{name}/__init__.py,sha256=x,1\n../../../bin/{name},,\n{info.rpartition('/')[2]}/METADATA,,\n"
    metadata = f"Metadata-Version: 2.4\nName: {name}\nVersion: {version}\nLicense-Expression: {licence}\n\nAbout it.\n"
    return {f"{site}/{name}/__init__.py": "", f"{info}/METADATA": metadata, f"{info}/RECORD": record}


def tar_of(files: Mapping[str, str]) -> bytes:
    """A layer."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as tar:
        for name, text in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(text.encode())
            tar.addfile(member, io.BytesIO(text.encode()))
    return made.getvalue()


def write_layout(folder: Path, layers: list[bytes], labels: Mapping[str, str]) -> None:
    """An OCI layout of uncompressed layers, as `buildah build --tag oci:` writes it."""
    blobs = folder / "blobs" / "sha256"
    blobs.mkdir(parents=True)

    def put(data: bytes, media_type: str) -> dict[str, Any]:
        digest = hashlib.sha256(data).hexdigest()
        (blobs / digest).write_bytes(data)
        return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(data)}

    entries = [put(layer, "application/vnd.oci.image.layer.v1.tar") for layer in layers]
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Labels": dict(labels)},
        "rootfs": {"type": "layers", "diff_ids": [entry["digest"] for entry in entries]},
    }
    manifest = {
        "schemaVersion": 2,
        "config": put(json.dumps(config).encode(), "application/vnd.oci.image.config.v1+json"),
        "layers": entries,
    }
    named = put(json.dumps(manifest).encode(), "application/vnd.oci.image.manifest.v1+json")
    (folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [named]}))


class BuilderInNoTime:
    """Builds what it was told to; remembers with which words."""

    def __init__(self, *files: Mapping[str, str]) -> None:
        self.files = files
        self.builds: list[tuple[str, Build]] = []

    def base(self, name: str) -> Base:
        """See `tools.images.builders.Builder`."""
        return Base(name, f"sha256:{'b' * 64}")

    def build(self, context: Path, dockerfile: str, build: Build, into: Path) -> None:
        """See `tools.images.builders.Builder`."""
        self.builds.append((dockerfile, build))
        assert (context / dockerfile).exists()
        write_layout(into, [tar_of(files) for files in self.files], build.labels)


def builder_of(name: str) -> BuilderInNoTime:
    """One whose image has what the lock says."""
    lock = read_lock((ROOT / RECIPES[name].lock).read_text(), "3.13.5")
    files: dict[str, str] = {}
    for locked in lock.values():
        files |= distribution(locked.name, locked.version)
    return BuilderInNoTime(PARENT, files)
