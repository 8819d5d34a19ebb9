"""Embeddings of pictures, kept in the bucket from run to run: a picture is embedded once for each model.

``features/<key>/<digest>.arrow``: immutable parts, Arrow IPC files that aren't compressed. The key names all that an
embedding depends on but the picture; the digest is of the part's bytes, by which damage is known: a part that isn't
what its name says counts as absent.

    image_sha256  fixed_size_binary[32]
    embedding     fixed_size_list<float16>[dimensions]

Half precision: 3,000,000 pictures of 512 dimensions take 3.2 GB, and cosines change by less than 0.001. Whoever reads
has a copy of the parts on its disk, mapped: a row is read without those beside it, so that many small categories cost
no more than a few large ones. In memory is only where each embedding is: 40 bytes for each picture.
"""

from __future__ import annotations

import hashlib
import io
import re
import time
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from embedding_batch.errors import StateDamaged
from embedding_batch.events import Listener, Warned
from embedding_batch.steps.publish.uploading import describe
from model_repository.bucket.store import ObjectInfo, Store
from model_repository.errors import GenerationConflict, ObjectMissing

SUFFIX = ".arrow"
DIGEST = "image_sha256"
EMBEDDING = "embedding"
DIGEST_BYTES = 32

_PART = re.compile(rf"[0-9a-f]{{32}}{re.escape(SUFFIX)}")

ROWS = 4096
"""Of a record batch."""

SMALL_BYTES = 32 * 1024 * 1024
"""A part with fewer is small; SMALL_PARTS of them are merged into ones of about MOST_BYTES."""
SMALL_PARTS = 64
MOST_BYTES = 256 * 1024 * 1024

_DOWNLOADS = 8
_LOOKS = 3
"""At the list of parts: another run may merge some of them in between."""
_STALE_SECONDS = 3600
"""A part that this machine has and the bucket hasn't may have been written since it was listed."""
_TOLERANCE = 0.02
"""Embeddings have length 1, but for what half precision takes from it."""

Digests = NDArray[np.bytes_]


@dataclass(frozen=True, slots=True)
class Features:
    """Embeddings by picture. digests[i]: sha256 of the picture of row i; vectors: float16[N,D]."""

    digests: tuple[bytes, ...]
    vectors: NDArray[np.float16]


@dataclass(frozen=True, slots=True)
class _Where:
    """Where each embedding is. digests: S32[N], ascending; part, row: int32[N]."""

    digests: Digests
    part: NDArray[np.int32]
    row: NDArray[np.int32]


class FeatureStore:
    """The parts of one key. Not for several threads at once, but for `read` after `refresh`."""

    def __init__(
        self, store: Store, key: str, dimensions: int, *, cache: Path, scratch: Path, listener: Listener
    ) -> None:
        """cache: a folder of this machine for copies of the parts, shared by all keys and kept between runs.

        scratch: a folder of this run beside it, on the same disk, for what isn't whole yet, and for names of its own
        of the copies: those in the cache another run deletes, when it has merged them.
        """
        self._store, self._dimensions, self._scratch, self._listener = store, dimensions, scratch, listener
        self._prefix = f"features/{key}/"
        self._folder, self._own = cache / key, scratch / key
        self._parts: list[Path] = []
        self._verified: set[str] = set()
        self._loaded = False
        self._where = _Where(np.empty(0, "S32"), np.empty(0, np.int32), np.empty(0, np.int32))

    def refresh(self) -> None:
        """Have a copy of every part that the bucket has now, and know where each embedding is."""
        self._make_folders()
        for look in range(1, _LOOKS + 1):
            names = {info.name.removeprefix(self._prefix) for info in self._listed()}
            # what this run counted on, and somebody deleted since, is still what its name says
            names |= self._verified
            try:
                with ThreadPoolExecutor(_DOWNLOADS) as pool:
                    copies = list(pool.map(self._copy, sorted(names)))
                break
            except ObjectMissing:
                if look == _LOOKS:
                    raise
        self._parts = [copy for copy in copies if copy is not None]
        used = {part.name for part in self._parts}
        for stale in self._folder.iterdir():  # merged into others
            if stale.name not in used and _PART.fullmatch(stale.name):
                with suppress(FileNotFoundError):  # another run deletes them, too
                    if time.time() - stale.stat().st_mtime > _STALE_SECONDS:
                        stale.unlink()
        self._where = _find(self._parts)
        self._loaded = True

    def _make_folders(self) -> None:
        for folder in (self._folder, self._own):
            folder.mkdir(parents=True, exist_ok=True)

    def _listed(self) -> list[ObjectInfo]:
        """The parts in the bucket, and nothing that somebody else left among them, as consoles do with folders."""
        infos = self._store.listing(self._prefix)
        return [info for info in infos if _PART.fullmatch(info.name.removeprefix(self._prefix))]

    def _copy(self, name: str) -> Path | None:
        """The verified copy of a part; None: what stands in the bucket isn't what its name says."""
        path, own = self._folder / name, self._own / name
        if name in self._verified:
            return own
        with suppress(OSError):  # there is none, or the disk knows no second names
            own.hardlink_to(path)
        if own.exists() and _name_of(own) == name:
            self._verified.add(name)
            return own
        own.unlink(missing_ok=True)
        self._store.download(f"{self._prefix}{name}", own)
        if _name_of(own) != name:
            own.unlink()
            what = f"{self._prefix}{name}: the embeddings in it are damaged, and made anew; delete that object"
            self._listener(Warned(what))
            return None
        with suppress(OSError):  # another run was faster, or likewise
            path.unlink(missing_ok=True)
            path.hardlink_to(own)
        self._verified.add(name)
        return own

    @property
    def is_loaded(self) -> bool:
        """Whether `refresh` was called: only then `has` and `read` know anything."""
        return self._loaded

    def has(self, digests: Digests) -> NDArray[np.bool_]:
        """Which of the pictures, S32[N], have an embedding."""
        return self._places(digests) >= 0

    def parts_of(self, digests: Digests) -> set[str]:
        """The objects that have the embeddings of pictures, S32[N], as far as they have one."""
        places = self._places(digests)
        return {f"{self._prefix}{self._parts[part].name}" for part in np.unique(self._where.part[places[places >= 0]])}

    def _places(self, digests: Digests) -> NDArray[np.intp]:
        known = self._where.digests
        places = np.searchsorted(known, digests)
        found = places < len(known)
        found[found] = known[places[found]] == digests[found]
        return np.where(found, places, -1)

    def read(self, digests: Digests) -> NDArray[np.float32]:
        """Return the embeddings of pictures, float32[N,D] of length 1; a few thousand at a time are held besides.

        Raises StateDamaged for a picture that has none, or one that isn't of length 1.
        """
        places = self._places(digests)
        if len(missing := np.flatnonzero(places < 0)):
            digest = bytes(digests[missing[0]]).ljust(DIGEST_BYTES, b"\0").hex()  # numpy cuts zero bytes off
            raise StateDamaged(f"{self._prefix}: lacks the embedding of the picture {digest}; run the batch again")
        vectors = np.empty((len(digests), self._dimensions), np.float32)
        parts, rows = self._where.part[places], self._where.row[places]
        order = np.lexsort((rows, parts))
        for number, wanted in _runs(order, parts):
            with _mapped(self._parts[number]) as file:
                for batch, asked in _runs(wanted, rows // ROWS):
                    vectors[asked] = self._batch(file, batch)[rows[asked] - batch * ROWS]
        lengths = np.sqrt(np.vecdot(vectors, vectors))[:, np.newaxis]  # np.linalg.norm squares a copy of all
        if not np.all(np.abs(lengths - 1) <= _TOLERANCE):
            raise StateDamaged(f"{self._prefix}: some embeddings don't have the length 1; delete what stands there")
        vectors /= lengths
        return vectors

    def _batch(self, file: pa.ipc.RecordBatchFileReader, number: int) -> NDArray[np.float16]:
        numbers = file.get_batch(number).column(EMBEDDING).flatten()
        return np.asarray(numbers.to_numpy()).reshape(-1, self._dimensions)

    def write(self, features: Features) -> str:
        """Keep some embeddings as one more part; returns its object's name."""
        stream = io.BytesIO()
        with pa.ipc.new_file(stream, self._schema) as writer:
            writer.write_table(self._table(features.digests, features.vectors), ROWS)
        data = stream.getvalue()
        name = f"{hashlib.sha256(data).hexdigest()[:32]}{SUFFIX}"
        self._folder.mkdir(parents=True, exist_ok=True)
        partial = self._scratch / name
        partial.write_bytes(data)
        self._put(name, partial)
        return f"{self._prefix}{name}"

    def put_back(self, names: Collection[str]) -> set[str]:
        """Put back those of these objects that somebody deleted since `refresh`, from the copies here; returns them."""
        standing = {info.name for info in self._store.listing(self._prefix)}
        gone = {name for name in names if name.startswith(self._prefix)} - standing
        for name in gone:
            with suppress(GenerationConflict):
                self._store.upload(name, self._own / name.removeprefix(self._prefix), if_generation_match=0)
        return gone

    def merge(self) -> int:
        """Merge small parts, when there are many; returns how many went into others."""
        small = [info for info in self._listed() if info.size < SMALL_BYTES]
        if len(small) < SMALL_PARTS:
            return 0
        self._make_folders()
        with suppress(ObjectMissing):  # somebody else merges them
            batch: list[Path] = []
            size = 0
            for info in small:
                copy = self._copy(info.name.removeprefix(self._prefix))
                if copy is not None:
                    batch.append(copy)
                    size += info.size
                if size >= MOST_BYTES:
                    self._merge(batch)
                    batch, size = [], 0
            if len(batch) > 1:
                self._merge(batch)
        return len(small)

    def _merge(self, parts: Sequence[Path]) -> None:
        partial = self._scratch / f"merged{SUFFIX}"
        with ExitStack() as stack, pa.ipc.new_file(str(partial), self._schema) as writer:
            files = [stack.enter_context(_mapped(part)) for part in parts]
            whole = pa.Table.from_batches([batch for file in files for batch in _batches(file)], self._schema)
            for start in range(0, whole.num_rows, ROWS):  # all but the last have ROWS: `read` finds a row by its number
                writer.write_table(whole.slice(start, ROWS).combine_chunks(), ROWS)
        merged = _name_of(partial)
        self._put(merged, partial)
        for part in parts:
            if part.name != merged:
                self._store.delete(f"{self._prefix}{part.name}")
                self._verified.discard(part.name)
                part.unlink(missing_ok=True)
                (self._folder / part.name).unlink(missing_ok=True)

    def _put(self, name: str, partial: Path) -> None:
        target = f"{self._prefix}{name}"
        try:
            self._store.upload(target, partial, if_generation_match=0)
        except GenerationConflict:  # the same, since it is named by its bytes; or damaged
            standing, (own,) = self._store.stat(target), describe({name: partial})
            if standing is not None and (standing.size, standing.crc32c) != (own.size, own.crc32c):
                self._store.upload(target, partial, if_generation_match=standing.generation)
        partial.replace(self._folder / name)

    @property
    def _schema(self) -> pa.Schema:
        return pa.schema(
            [
                pa.field(DIGEST, pa.binary(DIGEST_BYTES), nullable=False),
                pa.field(EMBEDDING, pa.list_(pa.float16(), self._dimensions), nullable=False),
            ]
        )

    def _table(self, digests: Sequence[bytes], vectors: NDArray[np.float16]) -> pa.Table:
        numbers = pa.array(np.ascontiguousarray(vectors, np.float16).ravel(), pa.float16())
        columns = [
            pa.array(digests, pa.binary(DIGEST_BYTES)),
            pa.FixedSizeListArray.from_arrays(numbers, self._dimensions),
        ]
        return pa.table(columns, self._schema)


def _name_of(path: Path) -> str:
    with path.open("rb") as file:
        return f"{hashlib.file_digest(file, 'sha256').hexdigest()[:32]}{SUFFIX}"


@contextmanager
def _mapped(path: Path) -> Iterator[pa.ipc.RecordBatchFileReader]:
    with pa.memory_map(str(path)) as source:
        yield pa.ipc.open_file(source)


def _batches(file: pa.ipc.RecordBatchFileReader) -> Iterator[pa.RecordBatch]:
    return (file.get_batch(number) for number in range(file.num_record_batches))


def _find(parts: Sequence[Path]) -> _Where:
    digests = [_digests(part) for part in parts]
    if not digests:
        return _Where(np.empty(0, "S32"), np.empty(0, np.int32), np.empty(0, np.int32))
    together = np.concatenate(digests)
    numbers = np.repeat(np.arange(len(parts), dtype=np.int32), [len(of) for of in digests])
    rows = np.concatenate([np.arange(len(of), dtype=np.int32) for of in digests])
    order = np.argsort(together, kind="stable")
    return _Where(together[order], numbers[order], rows[order])


def _digests(part: Path) -> Digests:
    with _mapped(part) as file:
        found = [fixed_bytes(pa.chunked_array([batch.column(DIGEST)])) for batch in _batches(file)]
        return np.concatenate(found) if found else np.empty(0, "S32")  # a copy: what is mapped may be merged away


def _runs(order: NDArray[np.intp], keys: NDArray[np.int32]) -> Iterator[tuple[int, NDArray[np.intp]]]:
    """The stretches of `order` whose key is the same: (key, that stretch)."""
    if len(order):
        of = keys[order]
        for stretch in np.split(order, np.flatnonzero(np.diff(of)) + 1):
            yield int(keys[stretch[0]]), stretch


def fixed_bytes(column: pa.ChunkedArray) -> Digests:
    """Return binary[32] as S32[N], 32 zero bytes where it is null."""
    array = column.combine_chunks()
    if isinstance(array, pa.ChunkedArray):  # of no rows
        array = pa.concat_arrays(array.chunks) if array.num_chunks else pa.array([], pa.binary(DIGEST_BYTES))
    filled = array.fill_null(bytes(DIGEST_BYTES)) if array.null_count else array
    data = np.frombuffer(filled.buffers()[1] or b"", "S32")
    return data[filled.offset : filled.offset + len(filled)]
