"""A catalogue that nobody wrote: folders, each named as a category, with its items' pictures in them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Final, NoReturn

import pyarrow as pa

from embedding_batch.errors import CatalogueMalformed
from embedding_batch.sources.files import reading
from embedding_batch.sources.rows import ROWS_AT_ONCE, Origin, check_rows, is_utf_8

SUFFIXES: Final = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
"""Of files that are items; others are passed over, and so is what begins with a dot."""

EXAMPLE: Final = "such as chairs/oak-chair.jpg"


def has_pictures(folder: Path) -> bool:
    """Whether there is a picture in it, or below."""
    return any(True for _ in _pictures(folder))


def read_folders(folder: Path) -> Iterator[pa.RecordBatch]:
    """Each picture is an item: its category is the folder in `folder`, its id the path from there without suffix.

    Raises CatalogueMalformed for a picture that lies in no such folder.
    """
    found = iter(sorted(_pictures(folder)))
    while paths := list(islice(found, ROWS_AT_ONCE)):
        columns: dict[str, list[str]] = {"id": [], "category": [], "picture": []}
        for path in paths:
            if len(path.parts) == 1:
                raise CatalogueMalformed(f"{folder / path}: lies in no category's folder; move it into one, {EXAMPLE}")
            if not is_utf_8(str(path)):
                raise CatalogueMalformed(f"{str(folder / path)!r}: the names of folders and files should be UTF-8")
            columns["id"].append(path.with_suffix("").as_posix())
            columns["category"].append(path.parts[0])
            columns["picture"].append(f"./{path.as_posix()}")  # a file may be called what a URI is called
        rows = {name: pa.array(values, pa.string()) for name, values in columns.items()}
        yield check_rows(rows, Origin(str(folder), str(folder.absolute()), partial(_named, folder, paths)))


def _named(folder: Path, paths: list[Path], row: int) -> str:
    return str(folder / paths[row])


def _pictures(folder: Path) -> Iterator[Path]:
    with reading(str(folder)):
        for here, folders, names in os.walk(folder, onerror=_raise, followlinks=True):
            folders[:] = sorted(name for name in folders if not name.startswith(".") and not _holds(here, name))
            inner = Path(here).relative_to(folder)
            for name in names:
                if not name.startswith(".") and Path(name).suffix.lower() in SUFFIXES:
                    yield inner / name


def _holds(here: str, name: str) -> bool:
    """Whether what a link in a folder leads to has that folder in it, which would be found in it again for ever."""
    path = Path(here, name)
    return path.is_symlink() and Path(here).resolve().is_relative_to(path.resolve())


def _raise(error: OSError) -> NoReturn:
    """A folder that can't be looked into isn't passed over: its items would be gone without a word."""
    raise error
