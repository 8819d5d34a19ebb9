"""Catalogues in files of columns: CSV and Parquet, both read by Arrow."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from typing import Final

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from embedding_batch.errors import CatalogueMalformed
from embedding_batch.sources.files import SourceFile, reading
from embedding_batch.sources.rows import ROWS_AT_ONCE, check_batches, wanted

_BLOCK: Final = 4 << 20
"""Bytes of CSV that become a batch."""
_FIRST_ROW_OF_CSV: Final = 2
"""The names are row 1, as where people look at it."""
_QUOTED: Final = re.compile(rb'"(?<![^,\r\n]")[^"]*+(?:""[^"]*+)*+("?)([^,\r\n]?)')
"""A cell within quotes, the quote that closes it, if there is one, and what stands where the cell should end."""
_CLOSED: Final = re.compile(rb'[^"]*+(?:""[^"]*+)*+"([^,\r\n]?)')
"""The rest of such a cell, and the same."""
_GOES_ON: Final = "a cell goes on behind the quote that closes it; double a quote within it (in Spark: escape='\"')"


def read_parquet(file: SourceFile) -> Iterator[pa.RecordBatch]:
    """Read Parquet. Its rows count from 0."""
    with reading(file.name):
        parquet = pq.ParquetFile(file.path)
        columns = wanted(file.name, parquet.schema_arrow.names)
        batches = parquet.iter_batches(batch_size=ROWS_AT_ONCE, columns=columns)
        yield from check_batches(batches, file.name, file.folder)


def read_csv(file: SourceFile) -> Iterator[pa.RecordBatch]:
    """Read CSV of RFC 4180 in UTF-8: commas, quotes that are doubled within, lines within quotes; all cells are text.

    The row of names is row 1. Empty lines are skipped and not counted.
    """
    with reading(file.name):
        columns = wanted(file.name, _names(file))
        _check_quotes(file)
        reader = pa_csv.open_csv(
            file.path,
            # one thread knows which row is wrong, and is as fast: the checks take longer than the reading
            read_options=pa_csv.ReadOptions(block_size=_BLOCK, use_threads=False),
            parse_options=pa_csv.ParseOptions(newlines_in_values=True),
            convert_options=pa_csv.ConvertOptions(
                column_types=dict.fromkeys(columns, pa.string()), include_columns=columns, strings_can_be_null=False
            ),
        )
        yield from check_batches(reader, file.name, file.folder, _FIRST_ROW_OF_CSV)


def _check_quotes(file: SourceFile) -> None:
    """Raise CatalogueMalformed where quotes aren't closed, or their cell goes on: Arrow takes rows behind for its text.

    Spark's quotes are such, unless it is told to double them: it puts a backslash before one.
    """
    opened = b""
    with file.path.open("rb") as data:
        while text := b"".join(data.readlines(_BLOCK)):
            rest = _CLOSED.match(text) if opened else None
            if opened and not rest:
                continue
            if rest and rest[1]:
                raise _misquoted(file, _GOES_ON, opened)
            opened = b""
            for cell in _QUOTED.finditer(text, rest.end() if rest else 0):
                if cell[2]:
                    raise _misquoted(file, _GOES_ON, cell[0])
                if not cell[1]:
                    opened = cell[0]
    if opened:
        raise _misquoted(file, "a quote is never closed, or the file was cut", opened)


def _misquoted(file: SourceFile, what: str, cell: bytes) -> CatalogueMalformed:
    return CatalogueMalformed(f"{file.name}: {what}: {cell[:40].decode(errors='replace')!r}")


def _names(file: SourceFile) -> list[str]:
    # other bytes than UTF-8's are Arrow's to refuse: what is read ahead here may be of any row
    with file.path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as text:
        try:
            return next(csv.reader(text, strict=True), [])
        except csv.Error as error:
            raise CatalogueMalformed(f"{file.name}: its first row can't be read ({error})") from error
