"""Catalogues of an object a line.

Python's json reads them, one line after another: Arrow's own reader ends lines at carriage returns too, and can't say
which line is wrong.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from typing import Final

import pyarrow as pa

from embedding_batch.errors import CatalogueMalformed
from embedding_batch.sources.files import SourceFile
from embedding_batch.sources.rows import (
    CATALOGUE_SCHEMA,
    CATEGORY_LIMIT,
    ID_LIMIT,
    ROWS_AT_ONCE,
    VERSION_LIMIT,
    Origin,
    check_rows,
)

_BOM: Final = b"\xef\xbb\xbf"

_Row = tuple[str, str, str, str | None, list[str] | None]
"""As in CATALOGUE_SCHEMA."""


def read_jsonl(file: SourceFile) -> Iterator[pa.RecordBatch]:
    """Read UTF-8, maybe with a byte order mark, whose lines end at LF only: other separators may stand in a name."""
    rows: list[_Row] = []
    numbers: list[int] = []
    try:
        with file.open() as stream:
            for number, line in enumerate(stream, start=1):
                data = line.removeprefix(_BOM) if number == 1 else line
                if data.isspace() or not data:
                    continue
                try:
                    rows.append(_row(f"{file.name}:{number}", data))
                except CatalogueMalformed:
                    yield from _batch(file, rows, numbers)  # what is wrong with an earlier line comes first
                    raise
                numbers.append(number)
                if len(rows) == ROWS_AT_ONCE:
                    yield from _batch(file, rows, numbers)
                    rows, numbers = [], []
    except OSError as error:
        raise CatalogueMalformed(f"{file.name}: can't be read ({error})") from error
    yield from _batch(file, rows, numbers)


def _batch(file: SourceFile, rows: list[_Row], numbers: list[int]) -> Iterator[pa.RecordBatch]:
    if rows:
        columns = {
            field.name: pa.array(values, field.type)
            for field, values in zip(CATALOGUE_SCHEMA, zip(*rows, strict=True), strict=True)
        }
        yield check_rows(columns, Origin(file.name, file.folder, partial(_line, file.name, numbers)))


def _line(name: str, numbers: list[int], row: int) -> str:
    return f"{name}:{numbers[row]}"


def _row(where: str, data: bytes) -> _Row:
    try:
        text = data.decode()
        fields = json.loads(text)
    except UnicodeDecodeError as error:
        raise CatalogueMalformed(f"{where}: not UTF-8 ({error})") from error
    except (ValueError, RecursionError) as error:
        raise CatalogueMalformed(f"{where}: not JSON ({error})") from error
    if not isinstance(fields, dict):
        raise CatalogueMalformed(f"{where}: expected an object")
    row = _texts(fields, where)
    if "\\u" in text:  # only so can half a character come, which nothing that is written down can hold
        try:
            "".join((*row[:3], row[3] or "", *(row[4] or ()))).encode()
        except UnicodeEncodeError as error:
            raise CatalogueMalformed(f"{where}: half a character, \\u{ord(error.object[error.start]):x}") from error
    return row


def _texts(fields: dict[str, object], where: str) -> _Row:
    item, category, version, tags = (fields.get(name) for name in ("id", "category", "version", "tags"))
    if type(item) is int:
        item = str(item)
    if type(version) is int:
        version = str(version)
    if not isinstance(item, str):
        raise CatalogueMalformed(f"{where}: 'id' should be 1 to {ID_LIMIT} printable characters, or a whole number")
    if not isinstance(category, str):
        raise CatalogueMalformed(f"{where}: 'category' should be 1 to {CATEGORY_LIMIT} printable characters")
    if version is not None and not isinstance(version, str):
        raise CatalogueMalformed(f"{where}: 'version' should be at most {VERSION_LIMIT} printable characters")
    if tags is not None and not (isinstance(tags, list) and all(isinstance(tag, str) for tag in tags)):
        raise CatalogueMalformed(f"{where}: 'tags' should be a list of texts")
    return item, category, _picture(fields, where), version, tags


def _picture(fields: dict[str, object], where: str) -> str:
    name = "picture" if "picture" in fields else "file"
    picture = fields.get(name)
    if not isinstance(picture, str) or not picture:
        raise CatalogueMalformed(f"{where}: {name!r} should be a picture's path{' or URI' * (name == 'picture')}")
    if name == "picture":
        return picture
    if picture.startswith("/"):
        raise CatalogueMalformed(f"{where}: file {picture!r} must lie within the catalogue's folder")
    return f"./{picture}"  # a file may be called what a URI is called
