"""Reads a build's files into the page cache, which all workers map: so the first queries wait for no disk."""

from __future__ import annotations

import time
from pathlib import Path

from model_repository.telemetry.log import Log

_CHUNK = 4 * 2**20
_SECONDS = 60.0
"""Most time for it: a pod that starts on a slow disk becomes ready, and reads the rest when it is asked for it."""


def read_in(folder: Path, log: Log, seconds: float = _SECONDS) -> None:
    """Read all files below `folder`, for `seconds` at most, and log how far that got.

    It is read, not advised: the kernel takes posix_fadvise's advice for one readahead window alone.
    """
    begun, buffer, done, total = time.monotonic(), bytearray(_CHUNK), 0, 0
    for path in sorted(folder.rglob("*")):
        if not path.is_file():  # whether all files are there, and are files, the workers find out
            continue
        total += path.stat().st_size
        with path.open("rb", buffering=0) as file:
            while time.monotonic() - begun < seconds and (count := file.readinto(buffer)):
                done += count
    log.info(
        "the build is in memory" if done >= total else "a part of the build is in memory; the rest is read when needed",
        bytes=done,
        of=total,
        seconds=round(time.monotonic() - begun, 3),
    )
