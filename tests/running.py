"""Which programs run for a folder: others run beside them, so that a program's name alone says too little."""

from __future__ import annotations

import os
from pathlib import Path


def running_for(folder: Path) -> list[int]:
    """The pids of all processes on this machine that work in a folder, or have it in their command or environment."""
    return [int(process.name) for process in Path("/proc").glob("[0-9]*") if _mentions(process, os.fsencode(folder))]


def _mentions(process: Path, folder: bytes) -> bool:
    try:
        known = (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
        return folder in known + os.fsencode((process / "cwd").readlink())
    except OSError:  # it ended meanwhile, or is being ended
        return False
