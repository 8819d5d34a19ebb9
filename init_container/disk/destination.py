"""The place where a build appears: whole, by one rename, or not at all.

<parent>/.<name>.partial/   being filled, locked by the pull that fills it, kept for the next one if it is killed
<parent>/<name>/            index/, models/ and .pull.json, which says that all of it was verified, and since which boot
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from init_container.disk.layout import INDEX_MANIFEST, JOURNAL, MARK, DiskTrouble, boot, disk
from model_repository.errors import BucketUnavailable, Misconfigured
from model_repository.names import IndexPrefix

if TYPE_CHECKING:
    from init_container.plan import Plan

_AGAIN = 0.1


class Destination:
    """A destination and the folder beside it that is being filled."""

    def __init__(self, path: Path) -> None:
        """path: the folder that is to appear; raises `Misconfigured` if its parent isn't there."""
        with disk(path.parent):
            there = path.parent.is_dir()
        if not there:
            raise Misconfigured(f"DESTINATION: {path.parent} is not a folder; mount the volume there")
        self.path = path
        self.partial = path.with_name(f".{path.name}.partial")
        self._lock = -1

    def lock(self, deadline: float, waiting: Callable[[], None]) -> None:
        """Make the partial folder and keep other pulls out of it; waits for one that is at it.

        The lock is on the folder itself: it ends with the process, however that ends, and leaves no file behind.
        waiting: called once if there is somebody to wait for.
        """
        while True:
            with disk(self.partial):
                self.partial.mkdir(exist_ok=True)
                descriptor = os.open(self.partial, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
                mine = _lock(descriptor)
            if not mine:
                os.close(descriptor)
                waiting()
                if time.monotonic() > deadline:
                    raise BucketUnavailable(f"{self.partial}: another pull is still at it; try again") from None
                time.sleep(_AGAIN)
                continue
            if self._is_partial(descriptor):
                self._lock = descriptor
                return
            os.close(descriptor)  # the other pull has published it: what is there now is another folder

    def make_way(self) -> None:
        """Remove what stands at the destination: an empty folder, or what is left of this build.

        To be done before the pull: where it can't go, as where a volume is mounted, the build couldn't take its place.
        """
        if self.path.is_symlink():
            raise Misconfigured(f"{self.path} is a link; DESTINATION must be a folder's own name")
        if os.path.lexists(self.path):
            with disk(self.path):
                _remove(self.path)

    def _is_partial(self, descriptor: int) -> bool:
        try:
            return os.path.samestat(os.fstat(descriptor), self.partial.stat())
        except FileNotFoundError:
            return False

    def unlock(self) -> None:
        """Let others in."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def prepare(self, plan: Plan, manifest: bytes) -> None:
        """Make the partial folder ready for a plan: what is left of another one goes."""
        with disk(self.partial):
            path = self.partial / INDEX_MANIFEST
            if not path.is_file() or path.read_bytes() != manifest:
                for entry in self.partial.iterdir():
                    _remove(entry)
                path.parent.mkdir()
                path.write_bytes(manifest)
            room = os.statvfs(self.partial)
            here = sum(entry.stat().st_blocks * 512 for entry in self.partial.rglob("*") if entry.is_file())
            free = room.f_bavail * room.f_frsize + here
        if free < plan.bytes:
            raise DiskTrouble(
                f"{self.partial}: {plan.bytes} bytes are needed, {free} are free; give the volume more room"
            )

    def discard(self) -> None:
        """Remove the partial folder: it isn't needed."""
        with disk(self.partial):
            _remove(self.partial)

    def publish(self, prefix: IndexPrefix, plan: Plan) -> None:
        """Let the build appear."""
        with disk(self.path):
            mark = {"prefix": str(prefix), "digest": plan.digest, "bytes": plan.bytes, "boot": boot()}
            (self.partial / MARK).write_text(json.dumps(mark) + "\n")
            self.partial.rename(self.path)
            (self.path / JOURNAL).unlink(missing_ok=True)


def _lock(descriptor: int) -> bool:
    """Whether nobody else has it locked."""
    with suppress(BlockingIOError):
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    return False


def _remove(path: Path) -> None:
    from shutil import rmtree  # noqa: PLC0415 - 10 ms that a pull into an empty volume does without

    rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
