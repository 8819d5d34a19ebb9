"""Puts the contract into each function's folder, so that the folder can be deployed alone.

    python functions/vendor.py            build the wheel into functions/*/vendor/, write its hash into requirements.txt
    python functions/vendor.py --check    build nothing that stays; fail if a committed hash is stale
    python functions/vendor.py --lock     resolve requirements.in anew first (`--lock --upgrade` takes newer versions)

The wheel is the same byte for byte wherever it is built: a hash that changes means that the contract changed.
"""

# ruff: noqa: INP001 - a script beside the functions

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

FUNCTIONS = Path(__file__).resolve().parent
CONTRACT = FUNCTIONS.parent / "model_repository"
_LINE = "./vendor/"


def build_wheel(folder: Path) -> Path:
    """Build the contract's wheel into `folder`; returns its path."""
    with tempfile.TemporaryDirectory() as scratch:
        command = [*_uv(), "build", "--quiet", "--wheel", "--no-sources", "--out-dir", scratch, str(CONTRACT)]
        subprocess.run(command, check=True)
        (built,) = Path(scratch).glob("*.whl")
        folder.mkdir(exist_ok=True)
        for old in folder.glob("*.whl"):
            old.unlink()
        target = folder / built.name
        _store(built, target)
    return target


def _store(source: Path, target: Path) -> None:
    """Copy a wheel without compression: compressed bytes differ between releases of zlib."""
    with zipfile.ZipFile(source) as packed, zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as stored:
        for name in sorted(packed.namelist()):
            info = zipfile.ZipInfo(name, date_time=(2020, 2, 2, 0, 0, 0))
            info.external_attr = 0o100644 << 16
            info.create_system = 3  # as on Unix, whatever this runs on
            stored.writestr(info, packed.read(name))


def requirement(wheel: Path) -> str:
    """The line of requirements.txt that names `wheel`."""
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    return f"{_LINE}{wheel.name} --hash=sha256:{digest}"


def with_requirement(text: str, line: str) -> str:
    """The text of a requirements.txt with `line` in place of the one that named an older wheel."""
    kept = [old for old in text.splitlines() if not old.startswith(_LINE)]
    return "\n".join([line, *kept]) + "\n"


def lock(function: Path, arguments: Sequence[str]) -> None:
    """Resolve requirements.in into requirements.txt."""
    command = [*_uv(), "pip", "compile", "--quiet", "--generate-hashes", "--no-header", "--no-emit-index-url"]
    command += ["--universal", "--python-version", "3.11", "requirements.in", "-o", "requirements.txt", *arguments]
    locked = function / "requirements.txt"
    if locked.exists():  # uv keeps the versions that it finds here; the wheel's line is no concern of it
        locked.write_text(with_requirement(locked.read_text(), "").lstrip())
    subprocess.run(command, check=True, cwd=function)


def _uv() -> list[str]:
    if importlib.util.find_spec("uv"):
        return [sys.executable, "-m", "uv"]
    if found := shutil.which("uv"):
        return [found]
    sys.exit("vendor.py needs uv: pip install uv")


def main(arguments: Sequence[str]) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(description="Vendor the contract into the functions' folders.")
    parser.add_argument("--check", action="store_true", help="fail if a committed hash is stale")
    parser.add_argument("--lock", action="store_true", help="resolve requirements.in anew")
    parser.add_argument("--folder", type=Path, action="append", help="a function's folder; by default all of them")
    options, for_uv = parser.parse_known_args(arguments)
    folders = options.folder or sorted(path.parent for path in FUNCTIONS.glob("*/requirements.in"))
    if options.lock:
        for folder in folders:
            lock(folder, for_uv)
    elif for_uv:
        parser.error(f"unknown {' '.join(for_uv)}")
    return check(folders) if options.check else vendor(folders)


def vendor(folders: Sequence[Path]) -> int:
    """Vendor into each of `folders`."""
    for folder in folders:
        locked = folder / "requirements.txt"
        old = locked.read_text()
        new = with_requirement(old, requirement(build_wheel(folder / "vendor")))
        if new != old:
            locked.write_text(new)
            sys.stdout.write(f"{locked}: a new hash; commit it\n")
    return 0


def check(folders: Sequence[Path]) -> int:
    """Whether the hashes in the folders are those of the contract as it is."""
    with tempfile.TemporaryDirectory() as scratch:
        line = requirement(build_wheel(Path(scratch)))
    stale = [folder for folder in folders if line not in (folder / "requirements.txt").read_text().splitlines()]
    for folder in stale:
        sys.stderr.write(f"{folder / 'requirements.txt'}: stale; run python functions/vendor.py and commit it\n")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
