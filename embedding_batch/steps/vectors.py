"""Vectors that somebody else made: of pictures, text, audio, users, whatever is to be found by likeness.

Parquet files with the columns `id` (text or whole numbers), `category` (text) and `vector` (a list of numbers, all of
one length), and maybe `tags` (a list of texts), as any of the tools that embed writes them; or one `.npy` array of a
row for each item, and a text file with a line for each row: the id, a tab, the category.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from embedding_batch.errors import VectorsMalformed
from embedding_batch.sources import CATEGORY_LIMIT, ID_LIMIT
from embedding_batch.sources.files import find_files
from embedding_batch.steps.build.building import Vectors
from embedding_batch.steps.listing import MOST_PARTS
from model_repository.bucket.store import Store

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


def spool_vectors(where: str, ids: Path | None, open_bucket: Callable[[str], Store], folder: Path) -> list[Spooled]:
    """Write all vectors into files below `folder`, one for each category, in order of their names; of length 1 each.

    where: a file or a pattern (`*`, `?`, `[...]`), on this machine or ``gs://bucket/...``. ids: beside an `.npy` file.
    Raises VectorsMalformed, which names the file and the row, and what the store raises.
    """
    seen: set[str] = set()
    spooled: dict[str, Spooled] = {}
    dimensions = 0
    for part in _read(where, ids, open_bucket, folder):
        name, vectors = part.file, part.vectors
        if len(part.ids) != len(vectors):
            raise VectorsMalformed(f"{name}: has {len(vectors)} rows, --ids has {len(part.ids)} lines")
        if dimensions and vectors.shape[1] != dimensions:
            raise VectorsMalformed(f"{name}: vectors of {vectors.shape[1]} numbers, those before it have {dimensions}")
        dimensions = vectors.shape[1]
        rows: dict[str, list[int]] = {}
        for row, (item, category) in enumerate(zip(part.ids, part.categories, strict=True)):
            _check_text(name, part.row + row, "id", item, ID_LIMIT)
            _check_text(name, part.row + row, "category", category, CATEGORY_LIMIT)
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


def _read(where: str, ids: Path | None, open_bucket: Callable[[str], Store], scratch: Path) -> Iterator[_Part]:
    found = False
    for file in find_files(where, open_bucket, scratch):
        found = True
        if file.name.endswith(".npy"):
            if ids is None:
                raise VectorsMalformed(
                    f"{file.name}: --ids: an array has no ids; name a file of lines: id, tab, category"
                )
            items, categories = _read_ids(ids)
            yield _Part(file.name, 0, items, categories, [None] * len(items), _array(file.name, file.path))
        else:
            yield from _read_parquet(file.name, file.path)
    if not found:
        raise VectorsMalformed(f"{where}: no such file")


def _read_parquet(name: str, source: Path) -> Iterator[_Part]:
    try:
        file = pq.ParquetFile(source)
        if missing := set(COLUMNS) - set(file.schema_arrow.names):
            raise VectorsMalformed(f"{name}: has no column {min(missing)!r}; {', '.join(COLUMNS)} are needed")
        row = 0
        tagged = [_TAGS] if _TAGS in file.schema_arrow.names else []
        for batch in file.iter_batches(columns=[*COLUMNS, *tagged]):
            if batch.num_rows:
                ids, categories = (batch.column(column).cast(pa.string()).to_pylist() for column in COLUMNS[:2])
                tags = batch.column(_TAGS).cast(pa.list_(pa.string())) if tagged else pa.nulls(batch.num_rows)
                yield _Part(name, row, ids, categories, tags.to_pylist(), _matrix(name, batch.column(COLUMNS[2])))
            row += batch.num_rows
    except (pa.ArrowException, OSError) as error:
        raise VectorsMalformed(f"{name}: can't be read ({error})") from error


def _matrix(name: str, column: pa.Array) -> NDArray[np.float32]:
    lengths = pc.unique(pc.list_value_length(column)).to_pylist()
    numbers = column.flatten()
    if len(lengths) != 1 or not lengths[0] or numbers.null_count:
        raise VectorsMalformed(f"{name}: the vectors aren't all of one length, or numbers are missing")
    return np.asarray(numbers.cast(pa.float32()).to_numpy(zero_copy_only=False)).reshape(-1, lengths[0])


def _array(name: str, source: Path) -> NDArray[np.float32]:
    try:
        array = np.load(source, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise VectorsMalformed(f"{name}: can't be read ({error})") from error
    if array.ndim != 2 or array.dtype.kind not in "fiu" or not array.shape[1]:  # noqa: PLR2004 - rows and columns
        raise VectorsMalformed(f"{name}: expected numbers in rows and columns, found {array.dtype} of {array.shape}")
    return np.asarray(array, np.float32)


def _read_ids(path: Path) -> tuple[list[str], list[str]]:
    try:
        lines = path.read_text(encoding="utf-8-sig").removesuffix("\n").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise VectorsMalformed(f"{path}: can't be read ({error})") from error
    pairs = [line.removesuffix("\r").split("\t") for line in lines]
    for number, pair in enumerate(pairs, start=1):
        if len(pair) != 2:  # noqa: PLR2004 - id and category
            raise VectorsMalformed(f"{path}:{number}: expected an id, a tab and a category")
    return [pair[0] for pair in pairs], [pair[1] for pair in pairs]


def _units(part: _Part) -> NDArray[np.float32]:
    lengths = np.linalg.norm(part.vectors.astype(np.float64), axis=1)
    wrong = np.flatnonzero(~np.isfinite(lengths) | (lengths == 0))
    if len(wrong):
        raise VectorsMalformed(
            f"{part.file}: row {part.row + wrong[0]}: a vector of finite numbers, not all 0, is needed"
        )
    return np.asarray(part.vectors / lengths[:, np.newaxis], np.float32)


def _check_text(name: str, row: int, what: str, text: str | None, longest: int) -> None:
    if text is None or not 0 < len(text) <= longest or not text.isprintable():
        raise VectorsMalformed(f"{name}: row {row}: {what!r} should be 1 to {longest} printable characters")
