"""Room on this machine's disk, which is given back even by a process that was killed: by the next one."""

from __future__ import annotations

import fcntl
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_LOCK = "lock"


@contextmanager
def scratch(folder: Path) -> Iterator[Path]:
    """An empty folder within `folder` while the block runs; those whose process died are deleted before."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / _LOCK).open("w") as whole:  # one at a time: a folder that isn't locked has lost its process
        fcntl.flock(whole, fcntl.LOCK_EX)
        for left in folder.iterdir():
            if left.is_dir():
                _delete_if_left(left)
        own = Path(tempfile.mkdtemp(dir=folder, prefix="run-"))
        lock = (own / _LOCK).open("w")
        fcntl.flock(lock, fcntl.LOCK_EX)
    with lock:
        try:
            yield own
        finally:
            shutil.rmtree(own, ignore_errors=True)


def _delete_if_left(folder: Path) -> None:
    try:
        with (folder / _LOCK).open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
    except OSError:  # somebody's who is alive, or just gone
        return
