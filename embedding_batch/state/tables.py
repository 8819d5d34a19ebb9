"""Tables in the bucket, as Parquet; through files, because three million rows need not be in memory twice."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from embedding_batch.errors import StateDamaged
from model_repository.bucket.store import Store


def write_table(store: Store, name: str, table: pa.Table, scratch: Path) -> None:
    """Write a table; one that a run before it left there is replaced."""
    with tempfile.NamedTemporaryFile(dir=scratch) as file:
        with pa.OSFile(file.name, "wb") as sink:  # given a name, it deletes the file when the disk is full
            pq.write_table(table, sink, compression="zstd", row_group_size=128 * 1024)
        store.upload(name, Path(file.name), if_generation_match=None)


def read_table(store: Store, name: str, scratch: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """Read a table, or some of its columns; raises `ObjectMissing`, `StateDamaged`."""
    with tempfile.NamedTemporaryFile(dir=scratch) as file:
        store.download(name, Path(file.name))
        try:
            return pq.read_table(file.name, columns=None if columns is None else list(columns))
        except (pa.ArrowException, OSError, KeyError) as error:
            raise StateDamaged(f"{name}: can't be read ({error}); delete it, and it is made again") from error
