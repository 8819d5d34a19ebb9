"""Vectors that somebody else made: of pictures, text, audio, users, whatever is to be found by likeness.

Parquet files with the columns `id` (text or whole numbers), `category` (text) and `vector` (a list of numbers, all of
one length), and maybe `tags` (a list of texts), as any of the tools that embed writes them; or one `.npy` array of a
row for each item, and a text file with a line for each row: the id, a tab, the category.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pyarrow.types as kinds
from numpy.typing import NDArray

from embedding_batch.errors import CatalogueMalformed, VectorsMalformed
from embedding_batch.sources.files import find_files, reading
from embedding_batch.sources.rows import ROWS_AT_ONCE, check_items, columns_of, counted
from embedding_batch.steps.build.building import Vectors
from embedding_batch.steps.build.parts import MOST_PARTS
from model_repository.bucket.store import Store
from model_repository.errors import DeliveryError

COLUMNS: Final = ("id", "category", "vector")
_TAGS: Final = "tags"


@dataclass(frozen=True)
class Spooled:
    """The items of a category, their vectors in a file. ids[i] has row i, and tags[i]; dimensions: of a vector."""

    category: str
    ids: list[str]
    tags: list[list[str] | None]
    path: Path
    dimensions: int

    @cached_property
    def _by_id(self) -> NDArray[np.intp]:
        return np.array(sorted(range(len(self.ids)), key=self.ids.__getitem__))

    def content(self, start: int, items: int) -> Vectors:
        """So many of them, by id, from the one at `start` on."""
        rows = self._by_id[start : start + items]
        vectors = np.memmap(self.path, np.float32, "r").reshape(-1, self.dimensions)[rows]
        return Vectors(self.category, tuple(self.ids[row] for row in rows), np.asarray(vectors))

    def tags_of(self, start: int, items: int) -> pa.ChunkedArray:
        """The tags of those, in the same order: list<string>, or null."""
        rows = self._by_id[start : start + items]
        return pa.chunked_array([[self.tags[row] for row in rows]], pa.list_(pa.string()))


def spool_vectors(where: str, ids: str, open_bucket: Callable[[str], Store], folder: Path) -> list[Spooled]:
    """Write all vectors into files below `folder`, one for each category, in order of their names; of length 1 each.

    where: a file or a pattern (`*`, `?`, `[...]`), on this machine or ``gs://bucket/...``. ids: the file
    beside an `.npy`, likewise, or empty.
    Raises VectorsMalformed, which names the file and the row, and what the store raises.
    """
    seen: set[str] = set()
    spooled: dict[str, Spooled] = {}
    dimensions = 0
    for part in _read(where, ids, open_bucket, folder):
        name, vectors = part.file, part.vectors
        if dimensions and vectors.shape[1] != dimensions:
            raise VectorsMalformed(f"{name}: vectors of {vectors.shape[1]} numbers, those before it have {dimensions}")
        dimensions = vectors.shape[1]
        rows: dict[str, list[int]] = {}
        for row, (item, category) in enumerate(zip(part.ids, part.categories, strict=True)):
            if item in seen:
                raise VectorsMalformed(f"{name}: row {part.row + row}: the id {item!r} stands twice")
            seen.add(item)
            rows.setdefault(category, []).append(row)
        units = _units(part)
        for category, of in rows.items():
            one = spooled.setdefault(category, Spooled(category, [], [], folder / f"{len(spooled)}.f32", dimensions))
            one.ids.extend(part.ids[row] for row in of)
            one.tags.extend(part.tags[row] for row in of)
            with one.path.open("ab") as file:
                file.write(units[of].tobytes())
        if len(spooled) > MOST_PARTS:
            raise VectorsMalformed(f"{name}: more than the {MOST_PARTS} categories that an index may have")
    if not spooled:
        raise VectorsMalformed(f"{where}: has no vectors")
    return [spooled[category] for category in sorted(spooled)]


@dataclass(frozen=True, slots=True)
class _Part:
    """Rows of a file, from `row` on. vectors: float32[N,D]."""

    file: str
    row: int
    ids: list[str]
    categories: list[str]
    tags: list[list[str] | None]
    vectors: NDArray[np.float32]


def _read(where: str, ids: str, open_bucket: Callable[[str], Store], scratch: Path) -> Iterator[_Part]:
    found = False
    for file in find_files(where, open_bucket, scratch):
        found = True
        try:
            if file.name.endswith(".npy"):
                if not ids:
                    raise VectorsMalformed(
                        f"{file.name}: --ids: an array has no ids; name a file of lines: id, tab, category"
                    )
                yield from _read_array(file.name, file.path, *_read_ids(ids, open_bucket, scratch))
            else:
                yield from _read_parquet(file.name, file.path)
        except CatalogueMalformed as error:  # what its rows say of items is a catalogue's
            raise VectorsMalformed(str(error)) from error
    if not found:
        raise VectorsMalformed(f"{where}: no such file; name a Parquet or .npy file or a pattern, here or gs://")


def _read_parquet(name: str, source: Path) -> Iterator[_Part]:
    with reading(name):
        file = pq.ParquetFile(source)
        columns = columns_of(name, file.schema_arrow.names, (*COLUMNS, _TAGS), COLUMNS)
        row = 0
        for batch in file.iter_batches(columns=columns):
            if batch.num_rows:
                yield _part(name, row, dict(zip(batch.schema.names, batch.columns, strict=True)))
            row += batch.num_rows


def _part(name: str, first: int, columns: dict[str, pa.Array]) -> _Part:
    texts = check_items(columns, name, partial(counted, name, first))
    ids, categories, tags = (column.to_pylist() for column in texts)
    return _Part(name, first, ids, categories, tags, _matrix(name, first, columns[COLUMNS[2]]))


def _matrix(name: str, first: int, column: pa.Array) -> NDArray[np.float32]:
    if isinstance(column, pa.ExtensionArray):  # as tensors come
        column = column.storage
    is_list = kinds.is_list(column.type) or kinds.is_large_list(column.type) or kinds.is_fixed_size_list(column.type)
    kind = column.type.value_type if is_list else column.type
    if not is_list or not (kinds.is_floating(kind) or kinds.is_integer(kind) or kinds.is_decimal(kind)):
        raise VectorsMalformed(f"{name}: the column 'vector' is {column.type}, and should be lists of numbers")
    lengths = pc.list_value_length(column).fill_null(0).to_numpy(zero_copy_only=False)
    holes = pc.list_parent_indices(column).filter(pc.is_null(pc.list_flatten(column))).to_numpy()
    if lengths[0] and not len(holes) and np.all(lengths == lengths[0]):
        numbers = column.flatten().cast(pa.float32(), safe=False).to_numpy(zero_copy_only=False)
        return np.asarray(numbers).reshape(-1, lengths[0])
    odd = np.flatnonzero((lengths != lengths[0]) | (lengths == 0))
    row = first + min((*odd[:1], *holes[:1]))
    raise VectorsMalformed(f"{name}: row {row}: the vectors aren't all of one length, or numbers are missing")


def _read_array(name: str, source: Path, items: list[str], categories: list[str]) -> Iterator[_Part]:
    array = _array(name, source)
    if len(items) != len(array):
        raise VectorsMalformed(f"{name}: has {len(array)} rows, --ids has {len(items)} lines")
    for start in range(0, len(items), ROWS_AT_ONCE):
        rows = slice(start, start + ROWS_AT_ONCE)
        with np.errstate(over="ignore"):  # what is too large is infinite then, and refused with its row
            vectors = np.asarray(array[rows], np.float32)
        yield _Part(name, start, items[rows], categories[rows], [None] * len(vectors), vectors)


def _array(name: str, source: Path) -> NDArray[Any]:
    """Numbers in rows and columns, which stay on the disk."""
    try:
        with reading(name):  # np.load takes archives and pickles, too
            array = np.lib.format.open_memmap(source, "r")
    except DeliveryError:
        raise
    except Exception as error:  # its head is read by Python's own parser, which raises what it likes
        raise VectorsMalformed(f"{name}: can't be read ({error})") from error
    if array.ndim != 2 or array.dtype.kind not in "fiu" or not array.shape[1]:  # noqa: PLR2004 - rows and columns
        raise VectorsMalformed(f"{name}: expected numbers in rows and columns, found {array.dtype} of {array.shape}")
    return array


def _read_ids(where: str, open_bucket: Callable[[str], Store], scratch: Path) -> tuple[list[str], list[str]]:
    pairs: list[list[str]] = []
    for file in find_files(where, open_bucket, scratch):
        if pairs:
            raise VectorsMalformed(f"--ids: {where}: several files; name one")
        with reading(file.name):
            lines = file.path.read_text(encoding="utf-8-sig").removesuffix("\n").split("\n")
        pairs = [line.removesuffix("\r").split("\t") for line in lines]
        for number, pair in enumerate(pairs, start=1):
            if len(pair) != 2:  # noqa: PLR2004 - id and category
                raise VectorsMalformed(f"{file.name}:{number}: expected an id, a tab and a category")
    if not pairs:
        raise VectorsMalformed(f"--ids: {where}: no such file")
    items, categories = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    columns = {"id": pa.array(items, pa.string()), "category": pa.array(categories, pa.string())}
    check_items(columns, where, lambda row: f"{where}:{row + 1}")
    return items, categories


def _units(part: _Part) -> NDArray[np.float32]:
    lengths = np.linalg.norm(part.vectors.astype(np.float64), axis=1)
    wrong = np.flatnonzero(~np.isfinite(lengths) | (lengths == 0))
    if len(wrong):
        raise VectorsMalformed(
            f"{part.file}: row {part.row + wrong[0]}: a vector of finite numbers, not all 0, is needed"
        )
    return np.asarray(part.vectors / lengths[:, np.newaxis], np.float32)
