"""What is in an image, read from its layers: Debian's packages and Python's."""

from __future__ import annotations

import posixpath
import re
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from email.parser import Parser
from pathlib import Path

_STATUS = "var/lib/dpkg/status"
_RELEASE = ("etc/os-release", "usr/lib/os-release")
_OURS = "app/"
_PYVENV = "app/pyvenv.cfg"
_DISTRIBUTION = re.compile(r"(?P<site>.*/)[^/]+\.dist-info/(?:METADATA|RECORD)$")
_OF_DEBIAN = "usr/lib/python3/dist-packages/"  # dpkg knows these


@dataclass(frozen=True, slots=True)
class PythonPackage:
    """license: as the package says it; empty if it doesn't say. ours: whether we installed it, or the parent has it."""

    name: str
    version: str
    license: str
    ours: bool


@dataclass(frozen=True, slots=True)
class DebianPackage:
    """architecture: amd64, all, ..."""

    name: str
    version: str
    architecture: str


@dataclass(frozen=True, slots=True)
class Contents:
    """What is installed. release: Debian's ID and VERSION_ID, debian-13. python: the interpreter's version, 3.13.5."""

    python: str
    python_packages: tuple[PythonPackage, ...]
    release: str
    debian_packages: tuple[DebianPackage, ...]


@dataclass(slots=True)
class _Files:
    """The paths of an image, and the texts of those that are read."""

    paths: set[str] = field(default_factory=set)
    texts: dict[str, str] = field(default_factory=dict)

    def add_layer(self, layer: Path) -> None:
        """Lay it over what is there; its whiteouts remove (image-spec, layer.md)."""
        added, removed = _Files(), []
        with tarfile.open(layer, "r:*") as tar:
            for member in tar:
                path = posixpath.normpath(member.name).lstrip("/")
                folder, name = posixpath.split(path)
                if name == ".wh..wh..opq":
                    removed.append(f"{folder}/")
                elif name.startswith(".wh."):
                    removed.append(posixpath.join(folder, name.removeprefix(".wh.")))
                elif not member.isdir():
                    added.paths.add(path)
                    if member.isfile() and _is_read(path) and (file := tar.extractfile(member)):
                        added.texts[path] = file.read().decode(errors="replace")
        for gone in removed:
            self.paths = {path for path in self.paths if not _within(path, gone)}
        self.paths |= added.paths
        self.texts = {path: text for path, text in {**self.texts, **added.texts}.items() if path in self.paths}


def read_contents(layers: Iterable[Path]) -> Contents:
    """Read an image's layers, the lowest first, each a tar that may be compressed."""
    files = _Files()
    for layer in layers:
        files.add_layer(layer)
    release = _assignments(next((files.texts[path] for path in _RELEASE if path in files.texts), ""))
    return Contents(
        python=_assignments(files.texts.get(_PYVENV, "")).get("version", ""),
        python_packages=_python_packages(files),
        release=f"{release.get('ID', 'linux')}-{release.get('VERSION_ID', 'unknown')}",
        debian_packages=_debian_packages(files.texts.get(_STATUS, "")),
    )


def _python_packages(files: _Files) -> tuple[PythonPackage, ...]:
    found = set()
    for path, text in files.texts.items():
        match = _DISTRIBUTION.match(path)
        if not match or not path.endswith("METADATA") or path.startswith(_OF_DEBIAN):
            continue
        ours = path.startswith(_OURS)  # installed by pip and removed by it, whatever we strip of headers and tests
        if ours or _is_there(files, match["site"], files.texts.get(path.removesuffix("METADATA") + "RECORD", "")):
            headers = Parser().parsestr(text, headersonly=True)
            said = headers["License-Expression"] or headers["License"] or ""
            one_line = said if "\n" not in said else ""
            found.add(PythonPackage(headers["Name"], headers["Version"], one_line, ours))
    return tuple(sorted(found, key=lambda package: (package.name.lower(), package.version)))


def _is_there(files: _Files, site: str, record: str) -> bool:
    """Whether any module of a package is left: who removes a package by hand leaves its name behind."""
    recorded = [line.partition(",")[0] for line in record.splitlines()]
    own = [path for path in recorded if not path.startswith("..") and ".dist-info/" not in path]
    return not own or any(site + path in files.paths for path in own)


def _debian_packages(status: str) -> tuple[DebianPackage, ...]:
    paragraphs = [Parser().parsestr(text, headersonly=True) for text in status.split("\n\n") if text.strip()]
    return tuple(
        DebianPackage(each["Package"], each["Version"], each["Architecture"])
        for each in paragraphs
        if each["Status"] == "install ok installed"
    )


def _assignments(text: str) -> dict[str, str]:
    """NAME=value lines."""
    pairs = (line.partition("=") for line in text.splitlines())
    return {name.strip(): value.strip().strip('"') for name, equals, value in pairs if equals}


def _is_read(path: str) -> bool:
    return path in (_STATUS, _PYVENV, *_RELEASE) or _DISTRIBUTION.match(path) is not None


def _within(path: str, gone: str) -> bool:
    return path.startswith(gone) if gone.endswith("/") else path == gone or path.startswith(f"{gone}/")
