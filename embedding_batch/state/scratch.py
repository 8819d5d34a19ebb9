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
    for left in folder.iterdir():
        _delete_if_left(left)
    own = Path(tempfile.mkdtemp(dir=folder, prefix="run-"))
    with (own / _LOCK).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            yield own
        finally:
            shutil.rmtree(own, ignore_errors=True)


def _delete_if_left(folder: Path) -> None:
    """One without a lock was made this moment, or its process was killed in it: the run after the next deletes it."""
    try:
        with (folder / _LOCK).open("r+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
    except OSError:  # somebody's who is alive, or just gone
        return
