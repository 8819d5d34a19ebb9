"""Files by name or pattern, on this machine or in a bucket."""

from __future__ import annotations

import fnmatch
import glob
import gzip
import re
import shutil
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pyarrow as pa

from embedding_batch.errors import CatalogueMalformed, CatalogueUnavailable
from model_repository.bucket.store import Store
from model_repository.names import parse_bucket_url

GCS: Final = "gs://"
PATTERN: Final = r"[*?\[]"
"""What makes a name a pattern."""
_GZIP: Final = b"\x1f\x8b"
_OF_THE_FILE: Final = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError)
"""Another try finds the same; see `errors.said_of`."""


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file that was found. name: as it is called here, or gs://<bucket>/<object>. path: where to read it.

    An object is downloaded; its path is there until the next file is asked for.
    """

    name: str
    path: Path

    @property
    def folder(self) -> str:
        """Where it lies, without a slash at the end: an absolute path, or gs://<bucket>[/<folder>]."""
        if self.name.startswith(GCS):
            return self.name.rpartition("/")[0]
        folder = self.path.parent
        return str(folder.resolve() if ".." in folder.parts else folder.absolute())


def find_files(where: str, open_bucket: Callable[[str], Store], scratch: Path | None = None) -> Iterator[SourceFile]:
    """Every file that is meant, in order of their names; none if there is none.

    where: a name, or a pattern (`*`, `?`, `[...]`), here or in ``gs://<bucket>/``, where `*` stands for slashes too.
    scratch: the folder that objects are downloaded into, one after another; else TMPDIR. Raises NameRefused for what
    can't be a bucket, what the store raises, and OSError where the folder takes no more.
    """
    if not where.startswith(GCS):
        literal = Path(where).exists()  # a file may be called a[1].csv
        for name in [where] if literal else sorted(glob.glob(where)):  # noqa: PTH207 - an absolute pattern, too
            yield SourceFile(name, Path(name))
        return
    bucket, _, pattern = where.removeprefix(GCS).partition("/")
    store = open_bucket(parse_bucket_url(f"{GCS}{bucket}"))
    names = [info.name for info in store.listing(re.split(PATTERN, pattern)[0])]
    for name in [pattern] if pattern in names else sorted(name for name in names if fnmatch.fnmatchcase(name, pattern)):
        with tempfile.TemporaryDirectory(dir=scratch) as folder:
            stored = Path(folder, "stored")
            store.download(name, stored)
            yield SourceFile(f"{GCS}{bucket}/{name}", _unpacked(stored))


@contextmanager
def reading(name: str) -> Iterator[None]:
    """Raise CatalogueMalformed for what a file's reader raises, CatalogueUnavailable where the disk fails."""
    try:
        yield
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        errno = getattr(error, "errno", None)  # Arrow has OSErrors without one, for files that are no Parquet
        if errno is not None and not isinstance(error, _OF_THE_FILE):
            raise CatalogueUnavailable(f"{name}: can't be read now ({error}); it may pass") from error
        raise CatalogueMalformed(f"{name}: can't be read ({error})") from error


def _unpacked(stored: Path) -> Path:
    """The bytes of what was stored as gzip, as some uploads are; those of anything else as they are."""
    with stored.open("rb") as file:
        if file.read(len(_GZIP)) != _GZIP:
            return stored
    unpacked = stored.with_name("unpacked")
    try:
        with gzip.open(stored) as source, unpacked.open("wb") as target:
            shutil.copyfileobj(source, target)
    except (gzip.BadGzipFile, EOFError, zlib.error):
        return stored  # whoever reads it says what is wrong with it
    return unpacked
