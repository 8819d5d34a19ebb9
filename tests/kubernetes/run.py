"""Starts a node, puts the images on it, runs the tests in its network, and takes it away again.

The tests that are named for it get Argo Workflows there, too.

    python -m tests.kubernetes.run [--keep DIR] [PYTEST ARGUMENTS...]

With KUBECONFIG set it uses that cluster, on which images and Argo must be already (README.md beside says how). --keep:
the node's folder; the node stays up afterwards, and a node that is up there already is used, with the images it has.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
LAB = HERE / "lab"
ARGO = HERE / "argo"
TESTS = ("tests/kubernetes", "tests/cd_webhook/test_cluster_contract.py")
"""What runs unless the arguments name files: the whole path, and the contract that every cluster is held to."""
IMAGES = (
    ("localhost/indexpush:0.1.0", "base_image/Dockerfile"),
    ("localhost/indexpush-cd-webhook:0.1.0", "cd_webhook/Dockerfile"),
    ("localhost/indexpush-stand-ins:0.1.0", "tests/kubernetes/stand_ins/Dockerfile"),
)
BATCH_IMAGE = ("localhost/indexpush-batch:0.1.0", "embedding_batch/Dockerfile")


def main() -> int:
    """Returns pytest's exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keep", type=Path, help="use, or start and keep, the node in this folder")
    options, for_pytest = parser.parse_known_args()
    chosen = [path for argument in for_pytest if (path := ROOT / argument.partition("::")[0]).exists()]
    tests = [sys.executable, "-m", "pytest", "-m", "kubernetes", *for_pytest, *([] if chosen else TESTS)]
    argo = not chosen or any(path.is_dir() or path.name.startswith("test_argo") for path in chosen)
    if os.environ.get("KUBECONFIG"):
        return subprocess.run(tests, cwd=ROOT, check=False).returncode
    for number in (signal.SIGTERM, signal.SIGHUP):  # the node must not outlive us: leave by way of finally
        signal.signal(number, lambda *_: sys.exit(1))
    if options.keep:
        return _on_node(options.keep, tests, argo=argo)
    state = Path(tempfile.mkdtemp(prefix="kubernetes-"))
    try:
        return _on_node(state, tests, argo=argo)
    finally:
        stop_node(state)


def _on_node(state: Path, tests: list[str], *, argo: bool) -> int:
    start_node(state, IMAGES)
    if argo:
        start_argo(state)
    ended = subprocess.run([LAB / "enter.sh", state, *tests], cwd=ROOT, check=False).returncode
    if ended:  # if a part of the node ended, and the node with it, it says so there
        sys.stdout.write((state / "logs" / "node.log").read_text())
    return ended


def start_node(state: Path, images: Iterable[tuple[str, str]]) -> None:
    """Start a node in this folder, unless one is up there. images: (tag, Dockerfile below the repository's root)."""
    if (state / "ready").exists():
        return
    for script in ("install", "build"):
        _script(LAB, script)
    _script(LAB, "up", str(state))
    for tag, dockerfile in images:
        _image(state, tag, dockerfile)


def start_argo(state: Path) -> None:
    """Put Argo Workflows and the batch's image on the node of this folder, unless they are there; they end with it."""
    if (state / "argo").exists():
        return
    _script(ARGO, "build")
    _script(ARGO, "up", str(state))
    _image(state, *BATCH_IMAGE)
    (state / "argo").touch()


def stop_node(state: Path) -> None:
    """End the node of this folder and remove the folder."""
    _script(LAB, "down", str(state))
    shutil.rmtree(state, ignore_errors=True)


def _image(state: Path, tag: str, dockerfile: str) -> None:
    _script(LAB, "image", str(state), str(ROOT), tag, "-f", str(ROOT / dockerfile))


def _script(folder: Path, script: str, *arguments: str) -> None:
    began = time.monotonic()
    done = subprocess.run(
        ["nice", folder / f"{script}.sh", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(
            f"{folder.name}/{script}.sh {' '.join(arguments)} ended with {done.returncode}:\n{done.stdout[-4000:]}"
        )
    sys.stdout.write(f"{folder.name}/{script}.sh {' '.join(arguments[2:3])}: {time.monotonic() - began:.0f} s\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
