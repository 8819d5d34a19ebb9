"""What stands where below a destination, and what the file system's errors about it mean."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from model_repository.errors import Misconfigured, TransientError

INDEX_MANIFEST = "index/index.json"
JOURNAL = ".journal"
"""In a partial folder: which parts of it are known to be good."""
MARK = ".pull.json"
"""In a published one: that all of it was verified, and since which boot."""

_WRONG = (PermissionError, FileExistsError, FileNotFoundError, IsADirectoryError, NotADirectoryError)
_WRONG_TOO = frozenset({errno.EROFS, errno.EBUSY, errno.ELOOP, errno.ENAMETOOLONG})
"""The place itself is wrong: another try meets that again."""

_BOOT = Path("/proc/sys/kernel/random/boot_id")


class DiskTrouble(TransientError, code="disk-trouble"):
    """The disk is full or fails: another node, or another time, may do."""


@contextmanager
def disk(path: Path | str) -> Iterator[None]:
    """Turn what the file system raises about `path` into the two families."""
    try:
        yield
    except OSError as error:
        if not isinstance(error, _WRONG) and error.errno not in _WRONG_TOO:
            raise DiskTrouble(f"{path}: {error.strerror}; give the volume more room, or try another node") from error
        raise Misconfigured(
            f"{path}: {error.strerror}; DESTINATION must be a new folder in a writable one, as below a volume's mount"
        ) from error


def boot() -> str:
    """This boot's id, or empty."""
    try:
        return _BOOT.read_text().strip()
    except OSError:
        return ""
