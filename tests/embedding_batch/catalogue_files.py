"""Catalogues as files of each kind, and what is read of them."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from embedding_batch.sources import CATALOGUE_SCHEMA, read_catalogue
from tests.memory_store import MemoryStore

Row = dict[str, Any]
KINDS = ("jsonl", "csv", "parquet")


def nowhere(bucket: str) -> MemoryStore:
    raise AssertionError(bucket)


def line(item: str, **changes: Any) -> Row:
    return {"id": item, "category": "Chairs", "picture": f"{item}.jpg", **changes}


def write(path: Path, *rows: Row) -> Path:
    """Write rows as the kind of file that the name says."""
    match path.suffix:
        case ".jsonl":
            path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
        case ".parquet":
            pq.write_table(pa.Table.from_pylist(list(rows)), path)
        case ".csv":
            with path.open("w", encoding="utf-8", newline="") as file:
                writer = csv.DictWriter(file, list(dict.fromkeys(name for row in rows for name in row)))
                writer.writeheader()
                writer.writerows(
                    {name: ";".join(value) if isinstance(value, list) else value for name, value in row.items()}
                    for row in rows
                )
    return path


def read(where: object) -> list[Row]:
    batches = list(read_catalogue(str(where), open_bucket=nowhere))
    assert all(batch.schema.equals(CATALOGUE_SCHEMA) for batch in batches)
    for batch in batches:
        batch.validate(full=True)
    return [row for batch in batches for row in batch.to_pylist()]


def pictures(path: Path, *given: str) -> list[str]:
    return [row["picture"] for row in read(write(path, *(line(str(n), picture=uri) for n, uri in enumerate(given))))]
