"""Catalogues of an object a line.

Python's json reads them, one line after another: Arrow's own reader ends lines at carriage returns too, and can't say
which line is wrong.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from typing import Any, Final

import pyarrow as pa

from embedding_batch.errors import CatalogueMalformed
from embedding_batch.sources.files import SourceFile, reading
from embedding_batch.sources.rows import (
    CATALOGUE_SCHEMA,
    CATEGORY_LIMIT,
    ID_LIMIT,
    ROWS_AT_ONCE,
    SAMPLE,
    VERSION_LIMIT,
    Origin,
    check_rows,
)

_BOM: Final = b"\xef\xbb\xbf"

_SPACE: Final = " \t\r\n"
"""What JSON calls white space."""
_decode: Final = json.JSONDecoder().raw_decode
"""Without what json.loads does around it, which takes as long."""
_STRINGS: Final = frozenset({str})
_SAMPLE: Final = json.dumps(SAMPLE)

_Row = tuple[str, str, str, str | None, list[str] | None]
"""As in CATALOGUE_SCHEMA."""


class _WrongLine(Exception):
    """Says what is wrong with it; whoever reads the file knows which."""


def read_jsonl(file: SourceFile) -> Iterator[pa.RecordBatch]:
    """Read UTF-8, maybe with a byte order mark, whose lines end at LF only: other separators may stand in a name."""
    rows: list[_Row] = []
    numbers: list[int] = []
    with reading(file.name), file.path.open("rb") as stream:
        for number, line in enumerate(stream, start=1):
            data = line.removeprefix(_BOM) if number == 1 else line
            if data.isspace() or not data:
                continue
            try:
                rows.append(_row(data))
            except _WrongLine as error:
                yield from _batch(file, rows, numbers)  # what is wrong with an earlier line comes first
                raise CatalogueMalformed(f"{file.name}:{number}: {error}; a line is such as {_SAMPLE}") from error
            numbers.append(number)
            if len(rows) == ROWS_AT_ONCE:
                yield from _batch(file, rows, numbers)
                rows, numbers = [], []
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


def _row(data: bytes) -> _Row:
    try:
        text = data.decode().strip(_SPACE)
        fields, end = _decode(text)
    except UnicodeDecodeError as error:
        raise _WrongLine(f"not UTF-8 ({error})") from error
    except (ValueError, RecursionError) as error:
        raise _WrongLine(f"not JSON ({error})") from error
    if end != len(text):
        raise _WrongLine("not JSON (it goes on after its value)")
    if type(fields) is not dict:
        raise _WrongLine("expected an object")
    row = _texts(fields)
    if "\\u" in text:  # only so can half a character come, which nothing that is written down can hold
        try:
            "".join((*row[:3], row[3] or "", *(row[4] or ()))).encode()
        except UnicodeEncodeError as error:
            raise _WrongLine(f"half a character, \\u{ord(error.object[error.start]):x}") from error
    return row


def _texts(fields: dict[str, Any]) -> _Row:
    """What is the line's own; lengths and characters are looked at in columns, which is faster."""
    item, category, version, tags = fields.get("id"), fields.get("category"), fields.get("version"), fields.get("tags")
    if type(item) is not str:
        if type(item) is not int:
            raise _WrongLine(f"'id' should be 1 to {ID_LIMIT} printable characters, or a whole number")
        item = str(item)
    if type(category) is not str:
        raise _WrongLine(f"'category' should be 1 to {CATEGORY_LIMIT} printable characters")
    if version is not None and type(version) is not str:
        if type(version) is not int:
            raise _WrongLine(f"'version' should be at most {VERSION_LIMIT} printable characters, or a whole number")
        version = str(version)
    if tags is not None and not (type(tags) is list and _STRINGS.issuperset(map(type, tags))):
        raise _WrongLine("'tags' should be a list of texts")
    return item, category, _picture(fields), version, tags


def _picture(fields: dict[str, Any]) -> str:
    name = "picture" if "picture" in fields else "file"
    picture = fields.get(name)
    if type(picture) is not str or not picture:
        raise _WrongLine(f"{name!r} should be a picture's path{' or URI' * (name == 'picture')}")
    if name == "picture":
        return picture
    if picture.startswith("/"):
        raise _WrongLine(f"file {picture!r} must lie within the catalogue's folder")
    return f"./{picture}"  # a file may be called what a URI is called
