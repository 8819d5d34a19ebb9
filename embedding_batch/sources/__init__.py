"""Where a catalogue comes from: files here or in a bucket, or BigQuery, behind one door: `read_catalogue`.

A catalogue has the columns `id` (text or whole numbers), `category` and `picture` (text), and may have `version` (text,
whole numbers, times) and `tags` (a list of texts, or one text with `;` between them). Others are ignored. Rows are read
and checked many at once and never held all together.

JSONL   an object a line; in place of `picture` it may have `file`, a path within the catalogue's folder
CSV     RFC 4180, with a row of names
Parquet
folders     no file at all: pictures in folders that are named as their categories; see `folders`
BigQuery    a table by ``bigquery://<project>/<dataset>/<table>``; by ``bigquery://<project>`` what a query finds
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Final

import pyarrow as pa

from embedding_batch.errors import CatalogueMalformed
from embedding_batch.sources.bigquery import SCHEME as BIGQUERY
from embedding_batch.sources.bigquery import parse_bigquery, read_bigquery
from embedding_batch.sources.files import PATTERN, SourceFile, find_files
from embedding_batch.sources.folders import has_pictures, read_folders
from embedding_batch.sources.jsonl import read_jsonl
from embedding_batch.sources.rows import CATALOGUE_SCHEMA, CATEGORY_LIMIT, ID_LIMIT, PICTURE_LIMIT, is_utf_8
from embedding_batch.sources.tables import read_csv, read_parquet
from model_repository.bucket.gcs_store import GcsStore
from model_repository.bucket.store import Store
from model_repository.errors import Misconfigured

__all__ = ["CATALOGUE_SCHEMA", "CATEGORY_LIMIT", "ID_LIMIT", "PICTURE_LIMIT", "read_catalogue"]

FILE: Final = "catalogue.jsonl"
_READERS: Final[dict[str, Callable[[SourceFile], Iterator[pa.RecordBatch]]]] = {
    ".jsonl": read_jsonl,
    ".csv": read_csv,
    ".parquet": read_parquet,
}
_KINDS: Final = (
    f"name a folder with {FILE} or with a folder for each category, or a .jsonl, .csv or .parquet file or pattern"
)


def read_catalogue(
    where: str, *, query: str = "", open_bucket: Callable[[str], Store] = GcsStore, scratch: Path | None = None
) -> Iterator[pa.RecordBatch]:
    """Read a catalogue: batches of `CATALOGUE_SCHEMA`, of some ten thousand rows, in the order of files and rows.

    where: a folder with `catalogue.jsonl`, or with a folder for each category; a .jsonl, .csv or .parquet file or
    pattern (`*`, `?`, `[...]`), on this machine or ``gs://<bucket>/...``; or ``bigquery://...`` (see `bigquery`), with
    the text of a query for a project.
    open_bucket: by its name. scratch: the folder that files of a bucket are downloaded into, one after another, and
    gone from when read; else TMPDIR.

    `picture` comes out as an absolute path of this machine, or as ``gs://``, ``http://`` or ``https://``; see
    `pictures`. `version` is opaque: whoever wrote the catalogue changes it with the picture's bytes.

    Raises Misconfigured. While it is read: CatalogueMalformed for the first row that is wrong, with its file and line
    or row, and if there are none; Misconfigured where BigQuery's client isn't installed; CatalogueUnavailable and
    AccessDenied of BigQuery; and what the store raises. Whether an id stands twice is for the caller, who sees all.
    """
    if where.startswith(BIGQUERY):
        return _some(where, read_bigquery(parse_bigquery(where, query)))
    if query:
        raise Misconfigured(f"--query: goes with {BIGQUERY}<project>, and the catalogue is {where}")
    if not where or ("://" in where and not where.startswith("gs://")):
        raise Misconfigured(f"--catalogue: {where!r}: {_KINDS}, here or gs://; or {BIGQUERY}...")
    return _some(where, _read_files(where, open_bucket, scratch))


def _read_files(where: str, open_bucket: Callable[[str], Store], scratch: Path | None) -> Iterator[pa.RecordBatch]:
    if Path(where).is_dir() and not Path(where, FILE).exists() and has_pictures(Path(where)):
        yield from read_folders(Path(where))
        return
    pattern = where if _names_files(where) else f"{where.rstrip('/')}/{FILE}"
    found = False
    for file in find_files(pattern, open_bucket, scratch):
        found = True
        reader = _READERS.get(PurePosixPath(file.name).suffix.lower())
        if reader is None:
            raise CatalogueMalformed(f"{file.name}: of no known kind; {_KINDS}")
        if not is_utf_8(file.folder):
            raise Misconfigured(f"--catalogue: {file.name!r}: the names of its folders should be UTF-8")
        yield from reader(file)
    if not found:
        raise CatalogueMalformed(f"{pattern}: no such file; {_KINDS}")


def _names_files(where: str) -> bool:
    """Whether it isn't a folder's name; a bucket's folder is known by having no file's suffix."""
    path = Path(where)
    if path.is_dir():
        return False
    return path.suffix.lower() in _READERS or re.search(PATTERN, where) is not None or path.is_file()


def _some(where: str, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    rows = 0
    for batch in batches:
        rows += batch.num_rows
        yield batch
    if not rows:
        raise CatalogueMalformed(f"{where}: has no items")
