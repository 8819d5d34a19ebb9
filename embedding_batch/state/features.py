"""Embeddings of pictures, kept in the bucket from run to run: a picture is embedded once for each model.

``features/<key>/<digest>-<rows>-<crc32c>.vectors``: immutable parts. The key names all that an embedding depends on but
the picture. A part is a head, and then its embeddings, float16[rows, dimensions], little-endian. The head is

    sha256 of each row's picture     32 bytes each
    sha256 of each block             32 bytes each; a block is BLOCK_ROWS rows, the last one what is left of them

The digest is that of the head, which by that names all bytes: `list` fetches heads alone, a build the blocks with its
pictures, and each is verified whenever it is read. The crc32c is that of all bytes, which a listing says, too: a part
that isn't what its name says is seen there, and counts as absent. A machine keeps what it fetched where it stands in
the part, in a file with holes; what isn't what the head says there is fetched again.

Half precision: 3,000,000 pictures of 512 dimensions take 3.2 GB, and cosines change by less than 0.001. In memory is
only where each embedding is: 72 bytes for each picture.
"""

from __future__ import annotations

import hashlib
import os
import re
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import google_crc32c
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from embedding_batch.errors import StateDamaged
from embedding_batch.events import Listener, Warned
from model_repository.bucket.checksums import with_checksums
from model_repository.bucket.store import ObjectInfo, Store
from model_repository.digests import format_crc32c
from model_repository.errors import BucketUnavailable, GenerationConflict, ObjectMissing

DIGEST_BYTES = 32

_SUFFIX = ".vectors"
_PART = re.compile(r"[0-9a-f]{32}-[1-9][0-9]{0,9}-[0-9a-f]{8}\.vectors", re.ASCII)
_OLD = re.compile(r"[0-9a-f]{32}\.arrow", re.ASCII)
"""Parts of earlier releases: Arrow IPC files of image_sha256 and embedding, named by the sha256 of all bytes."""

BLOCK_ROWS = 256
"""256 KB of 512 dimensions: what is fetched for one row, and verified."""
_BLOCKS_AT_ONCE = 32
"""Blocks that follow each other are asked for together."""

SMALL_BYTES = 32 * 1024 * 1024
"""A part with fewer is small; SMALL_PARTS of them are merged into ones of about MOST_BYTES."""
SMALL_PARTS = 64
MOST_BYTES = 256 * 1024 * 1024

_DOWNLOADS = 8
"""Of all that read at once, and of their verifying."""
_LOOKS = 3
"""At the list of parts: another run may merge some of them in between."""
_STALE_SECONDS = 3600
"""A part that this machine has and the bucket hasn't may have been written since it was listed."""
_TOLERANCE = 0.02
"""Embeddings have length 1, but for what half precision takes from it."""

Digests = NDArray[np.bytes_]


class _NotAsNamed(BucketUnavailable):
    """The bucket says that a part is what its name says, and the bytes that came aren't."""


@dataclass(frozen=True, slots=True)
class Features:
    """Embeddings by picture. digests[i]: sha256 of the picture of row i; vectors: float16[N,D]."""

    digests: tuple[bytes, ...]
    vectors: NDArray[np.float16]


@dataclass(frozen=True, slots=True)
class _Part:
    """A part whose head was read. sums: sha256 of each block. digests: S32[rows]."""

    name: str
    digests: Digests
    sums: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class _Where:
    """Where each embedding is. digests: S32[N], ascending; part, row: int32[N]."""

    parts: tuple[_Part, ...] = ()
    digests: Digests = field(default_factory=lambda: np.empty(0, "S32"))
    part: NDArray[np.int32] = field(default_factory=lambda: np.empty(0, np.int32))
    row: NDArray[np.int32] = field(default_factory=lambda: np.empty(0, np.int32))

    @classmethod
    def of(cls, parts: Sequence[_Part]) -> Self:
        """Of a picture that stands in several parts, the first of them."""
        if not parts:
            return cls()
        together = np.concatenate([part.digests for part in parts])
        numbers = np.repeat(np.arange(len(parts), dtype=np.int32), [len(part.digests) for part in parts])
        rows = np.concatenate([np.arange(len(part.digests), dtype=np.int32) for part in parts])
        order = np.argsort(together, kind="stable")
        return cls(tuple(parts), together[order], numbers[order], rows[order])

    def places(self, digests: Digests) -> NDArray[np.intp]:
        """Where pictures stand here; -1: they don't."""
        places = np.searchsorted(self.digests, digests)
        found = places < len(self.digests)
        found[found] = self.digests[places[found]] == digests[found]
        return np.where(found, places, -1)


class FeatureStore:
    """The parts of one key. Not for several threads at once, but for `read` after `refresh`."""

    def __init__(
        self, store: Store, key: str, dimensions: int, *, cache: Path, scratch: Path, listener: Listener
    ) -> None:
        """cache: a folder of this machine for copies of the parts, shared by all keys and kept between runs.

        scratch: a folder of this run beside it, on the same disk, for what isn't whole yet.
        """
        self._store, self._scratch, self._listener = store, scratch, listener
        self._dimensions, self._row_bytes = dimensions, 2 * dimensions
        self._prefix = f"features/{key}/"
        self._folder = cache / key
        self._pool = ThreadPoolExecutor(_DOWNLOADS)
        self._looking = threading.Lock()
        self._loaded = False
        self._where = _Where()

    def refresh(self, *, anew: bool = False) -> None:
        """Know where each embedding is, by the heads of the parts that the bucket has now.

        anew: not by those, too, that this run knew and somebody deleted since: what this machine has of them still is
        what their names say.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        with self._looking:
            before = () if anew else self._where.parts
            for look in range(1, _LOOKS + 1):
                try:
                    parts = self._heads(self._listed(), before)
                    break
                except (ObjectMissing, _NotAsNamed):
                    if look == _LOOKS:
                        raise
            used = {part.name for part in parts}
            for stale in self._folder.iterdir():  # merged into others
                if stale.name not in used and (_PART.fullmatch(stale.name) or _OLD.fullmatch(stale.name)):
                    with suppress(FileNotFoundError):  # another run deletes them, too
                        if time.time() - stale.stat().st_mtime > _STALE_SECONDS:
                            stale.unlink()
            self._where = _Where.of(parts)
            self._loaded = True

    def _listed(self) -> list[ObjectInfo]:
        """The parts in the bucket, and nothing that somebody else left among them, as consoles do with folders."""
        infos = self._store.listing(self._prefix)
        if old := [info.name for info in infos if _OLD.fullmatch(info.name.removeprefix(self._prefix))]:
            for name in old:
                with suppress(ObjectMissing):  # another run was faster
                    self._rewrite(name)
            infos = self._store.listing(self._prefix)
        parts = [info for info in infos if _PART.fullmatch(info.name.removeprefix(self._prefix))]
        parts = with_checksums(self._store, parts)
        for info in parts:
            if not self._is_as_named(info):
                self._warn_of(info.name)
        return [info for info in parts if self._is_as_named(info)]

    def _is_as_named(self, info: ObjectInfo) -> bool:
        _, rows, crc32c = _said_by(info.name)
        return (info.size, info.crc32c) == (_head_bytes(rows) + rows * self._row_bytes, crc32c)

    def _warn_of(self, name: str) -> None:
        self._listener(Warned(f"{name}: the embeddings in it are damaged, and made anew; delete that object"))

    def _rewrite(self, old: str) -> None:
        """Replace a part that an earlier release wrote."""
        path = self._scratch / "old.arrow"
        self._store.download(old, path)
        with path.open("rb") as file:
            named = hashlib.file_digest(file, "sha256").hexdigest()[:32]
        if f"{self._prefix}{named}.arrow" != old:
            self._warn_of(old)
            return
        with pa.memory_map(str(path)) as source:
            table = pa.ipc.open_file(source).read_all()
            numbers = table["embedding"].combine_chunks().flatten().to_numpy()
            self.write(Features(tuple(table["image_sha256"].to_pylist()), numbers.reshape(-1, self._dimensions)))
        path.unlink()
        self._store.delete(old)

    def _heads(self, infos: Sequence[ObjectInfo], before: Sequence[_Part]) -> list[_Part]:
        """The parts that are listed, then those from before that aren't."""
        known = {part.name: part for part in before}
        names = [info.name.removeprefix(self._prefix) for info in infos]
        parts = list(self._pool.map(lambda name: known.pop(name, None) or self._head(name), names))
        return parts + list(known.values())

    def _head(self, name: str) -> _Part:
        digest, rows, _ = _said_by(name)
        head = self._piece(name, 0, _head_bytes(rows), lambda data: hashlib.sha256(data).hexdigest()[:32] == digest)
        digests = np.frombuffer(head, "S32")
        sums = range(rows * DIGEST_BYTES, len(head), DIGEST_BYTES)
        return _Part(name, digests[:rows], tuple(head[start : start + DIGEST_BYTES] for start in sums))

    def _piece(self, name: str, start: int, size: int, is_sound: Callable[[bytes], bool]) -> bytes:
        """Bytes of a part, verified: those that this machine has, or else those that the bucket has."""
        copy = self._folder / name
        with suppress(FileNotFoundError), copy.open("rb") as file:
            file.seek(start)
            data = file.read(size)
            if is_sound(data):
                return data
        data = self._store.read_range(f"{self._prefix}{name}", start, size)
        if not is_sound(data):
            what = "the bytes that came aren't those that it is named by; it may pass, and else delete that object"
            raise _NotAsNamed(f"{self._prefix}{name}: {what}: its pictures are embedded anew")
        with os.fdopen(os.open(copy, os.O_WRONLY | os.O_CREAT, 0o666), "wb") as file:  # not cut, as by open("wb")
            file.seek(start)
            file.write(data)
        return data

    @property
    def is_loaded(self) -> bool:
        """Whether `refresh` was called: only then `has` and `read` know anything."""
        return self._loaded

    def has(self, digests: Digests) -> NDArray[np.bool_]:
        """Which of the pictures, S32[N], have an embedding."""
        return self._where.places(digests) >= 0

    def parts_of(self, digests: Digests) -> set[str]:
        """The objects that have the embeddings of pictures, S32[N], as far as they have one."""
        places = self._where.places(digests)
        numbers = np.unique(self._where.part[places[places >= 0]])
        return {f"{self._prefix}{self._where.parts[number].name}" for number in numbers}

    def are_there(self, names: Collection[str]) -> bool:
        """Whether the bucket still has those of these objects that are of this key."""
        standing = {info.name for info in self._store.listing(self._prefix)}
        return standing.issuperset(name for name in names if name.startswith(self._prefix))

    def read(self, digests: Digests) -> NDArray[np.float32]:
        """Return the embeddings of pictures, float32[N,D] of length 1; some 64 MB are held besides.

        Raises StateDamaged for a picture that has none, or one that isn't of length 1, and what the store does.
        """
        vectors = np.empty((len(digests), self._dimensions), np.float32)
        for look in range(1, _LOOKS + 1):
            try:
                self._fill(vectors, digests)
                break
            except (ObjectMissing, _NotAsNamed):  # merged into others since, or deleted, or damaged on its way
                if look == _LOOKS:
                    raise
                self.refresh(anew=True)
        lengths = np.sqrt(np.vecdot(vectors, vectors))[:, np.newaxis]  # np.linalg.norm squares a copy of all
        if not np.all(np.abs(lengths - 1) <= _TOLERANCE):
            raise StateDamaged(f"{self._prefix}: some embeddings don't have the length 1; delete what stands there")
        vectors /= lengths
        return vectors

    def _fill(self, vectors: NDArray[Any], digests: Digests) -> None:
        where = self._where
        places = where.places(digests)
        if len(missing := np.flatnonzero(places < 0)):
            digest = bytes(digests[missing[0]]).ljust(DIGEST_BYTES, b"\0").hex()  # numpy cuts zero bytes off
            raise StateDamaged(f"{self._prefix}: lacks the embedding of the picture {digest}; run the batch again")
        parts, rows = where.part[places], where.row[places]
        order = np.lexsort((rows, parts))

        def fill(number: int, asked: NDArray[np.intp]) -> None:
            first = int(rows[asked[0]]) // BLOCK_ROWS
            found = self._blocks(where.parts[number], first, int(rows[asked[-1]]) // BLOCK_ROWS + 1)
            vectors[asked] = found[rows[asked] - first * BLOCK_ROWS]

        for _ in self._pool.map(lambda stretch: fill(*stretch), _stretches(order, parts, rows // BLOCK_ROWS)):
            pass

    def _blocks(self, part: _Part, start: int, end: int) -> NDArray[np.float16]:
        """The rows of blocks that follow each other."""
        size, sums = BLOCK_ROWS * self._row_bytes, part.sums[start:end]

        def are_sound(data: bytes) -> bool:
            pieces = (data[number * size : (number + 1) * size] for number in range(len(sums)))
            return all(hashlib.sha256(piece).digest() == named for piece, named in zip(pieces, sums, strict=True))

        rows = len(part.digests)
        of_rows = min(end * BLOCK_ROWS, rows) - start * BLOCK_ROWS
        begin = _head_bytes(rows) + start * size
        data = self._piece(part.name, begin, of_rows * self._row_bytes, are_sound)
        return np.frombuffer(data, "<f2").reshape(-1, self._dimensions)

    def write(self, features: Features) -> str:
        """Keep some embeddings as one more part; returns its object's name."""
        vectors = np.ascontiguousarray(features.vectors, "<f2")
        blocks = [vectors[start : start + BLOCK_ROWS] for start in range(0, len(vectors), BLOCK_ROWS)]
        head = b"".join((*features.digests, *(hashlib.sha256(block.tobytes()).digest() for block in blocks)))
        checksum = google_crc32c.Checksum(head)
        partial = self._scratch / "part"
        with partial.open("wb") as file:
            file.write(head)
            for block in blocks:
                data = block.tobytes()
                checksum.update(data)
                file.write(data)
        digest = hashlib.sha256(head).hexdigest()[:32]
        name = f"{digest}-{len(vectors)}-{checksum.hexdigest().decode()}{_SUFFIX}"
        target = f"{self._prefix}{name}"
        try:
            self._store.upload(target, partial, if_generation_match=0)
        except GenerationConflict:  # the same, since it is named by its bytes; or damaged
            standing = self._store.stat(target)
            if standing is None or not self._is_as_named(standing):
                generation = 0 if standing is None else standing.generation
                with suppress(GenerationConflict):  # another run was faster
                    self._store.upload(target, partial, if_generation_match=generation)
        self._folder.mkdir(parents=True, exist_ok=True)
        partial.replace(self._folder / name)
        return target

    def merge(self) -> int:
        """Merge small parts, when there are many; returns how many went into others."""
        small = [info for info in self._listed() if info.size < SMALL_BYTES]
        if len(small) < SMALL_PARTS:
            return 0
        self._folder.mkdir(parents=True, exist_ok=True)
        with suppress(ObjectMissing):  # somebody else merges them
            batch: list[ObjectInfo] = []
            for info in small:
                batch.append(info)
                if sum(one.size for one in batch) >= MOST_BYTES:
                    self._merge(batch)
                    batch = []
            if len(batch) > 1:
                self._merge(batch)
        return len(small)

    def _merge(self, infos: Sequence[ObjectInfo]) -> None:
        parts = self._heads(infos, ())
        vectors = np.empty((sum(len(part.digests) for part in parts), self._dimensions), np.float16)
        start = 0
        for part in parts:
            for first in range(0, len(part.sums), _BLOCKS_AT_ONCE):
                found = self._blocks(part, first, min(first + _BLOCKS_AT_ONCE, len(part.sums)))
                vectors[start : start + len(found)] = found
                start += len(found)
        digests = tuple(bytes(digest).ljust(DIGEST_BYTES, b"\0") for part in parts for digest in part.digests)
        merged = self.write(Features(digests, vectors))
        for part in parts:
            name = f"{self._prefix}{part.name}"
            if name != merged:
                self._store.delete(name)
                (self._folder / part.name).unlink(missing_ok=True)


def _said_by(name: str) -> tuple[str, int, str]:
    """What the name of a part says: digest of its head, rows, and crc32c as the bucket writes it."""
    digest, rows, crc32c = name.rpartition("/")[2].removesuffix(_SUFFIX).split("-")
    return digest, int(rows), format_crc32c(int(crc32c, 16))


def _head_bytes(rows: int) -> int:
    return DIGEST_BYTES * (rows + -(-rows // BLOCK_ROWS))


def _stretches(
    order: NDArray[np.intp], parts: NDArray[np.int32], blocks: NDArray[np.int32]
) -> Iterator[tuple[int, NDArray[np.intp]]]:
    """What to read at once: (part, which of the rows), those in blocks that follow each other; not too many."""
    if len(order):
        part, block = parts[order], blocks[order]
        ends = (np.diff(part) != 0) | (np.diff(block) > 1) | (np.diff(block // _BLOCKS_AT_ONCE) != 0)
        for asked in np.split(order, np.flatnonzero(ends) + 1):
            yield int(parts[asked[0]]), asked


def fixed_bytes(column: pa.ChunkedArray) -> Digests:
    """Return binary[32] as S32[N], 32 zero bytes where it is null."""
    array = column.combine_chunks()
    if isinstance(array, pa.ChunkedArray):  # of no rows
        array = pa.concat_arrays(array.chunks) if array.num_chunks else pa.array([], pa.binary(DIGEST_BYTES))
    filled = array.fill_null(bytes(DIGEST_BYTES)) if array.null_count else array
    data = np.frombuffer(filled.buffers()[1] or b"", "S32")
    return data[filled.offset : filled.offset + len(filled)]
