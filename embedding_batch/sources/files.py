"""Files by name or pattern, on this machine or in a bucket."""

from __future__ import annotations

import fnmatch
import glob
import io
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO, Final

from model_repository.names import parse_bucket_url
from model_repository.store import Store

GCS: Final = "gs://"
PATTERN: Final = r"[*?\[]"
"""What makes a name a pattern."""
_FILE_LIMIT: Final = 1 << 40


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file that was found. name: its path, or gs://<bucket>/<object>. source: gives the path, or an object's bytes.

    An object's bytes are all in memory while its source is in use.
    """

    name: str
    source: Callable[[], Path | io.BytesIO]

    @property
    def folder(self) -> str:
        """Where it lies, without a slash at the end: an absolute path, or gs://<bucket>[/<folder>]."""
        if self.name.startswith(GCS):
            return self.name.rpartition("/")[0]
        folder = Path(self.name).parent
        return str(folder.resolve() if ".." in folder.parts else folder.absolute())

    def open(self) -> BinaryIO:
        """Open it to be read from its beginning. Raises OSError, and what the store raises."""
        source = self.source()
        return source.open("rb") if isinstance(source, Path) else source


def find_files(where: str, open_bucket: Callable[[str], Store]) -> Iterator[SourceFile]:
    """Every file that is meant, in order of their names; none if there is none.

    where: a name, or a pattern (`*`, `?`, `[...]`), here or in ``gs://<bucket>/``, where `*` stands for slashes too.
    Raises NameRefused for what can't be a bucket, and what the store raises.
    """
    if not where.startswith(GCS):
        literal = Path(where).exists()  # a file may be called a[1].csv
        for name in [where] if literal else sorted(glob.glob(where)):  # noqa: PTH207 - an absolute pattern, too
            yield SourceFile(name, partial(Path, name))
        return
    bucket, _, pattern = where.removeprefix(GCS).partition("/")
    store = open_bucket(parse_bucket_url(f"{GCS}{bucket}"))
    names = [info.name for info in store.listing(re.split(PATTERN, pattern)[0])]
    for name in [pattern] if pattern in names else sorted(name for name in names if fnmatch.fnmatchcase(name, pattern)):
        yield SourceFile(f"{GCS}{bucket}/{name}", partial(_object, store, name))


def _object(store: Store, name: str) -> io.BytesIO:
    return io.BytesIO(store.read(name, limit=_FILE_LIMIT).data)
