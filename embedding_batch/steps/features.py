"""Embeddings of pictures, kept from run to run: a picture is embedded once for each model.

One folder for each key (what the model and the preprocessing are), and in it Parquet parts that are never changed: each
is written under a temporary name, then renamed to the digest of what it holds. Two batches may write side by side.

    image_sha256  fixed_size_binary[32]
    embedding     fixed_size_list<float16>[dimensions]

Half precision: 300,000 pictures of 512 dimensions take 320 MB, and cosines change by less than 0.001.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from embedding_batch.steps.catalogue import Listed

_DIGEST = "image_sha256"
_EMBEDDING = "embedding"
_DIGEST_BYTES = 32


@dataclass(frozen=True, slots=True)
class Features:
    """Embeddings by picture. digests[i]: sha256 of the picture of row i; vectors: float16[N,D]."""

    digests: tuple[bytes, ...]
    vectors: NDArray[np.float16]


@dataclass(frozen=True, slots=True)
class KnownFeatures:
    """What a cache holds: the digests, and the names of parts that can't be read (they count as absent)."""

    digests: frozenset[bytes]
    damaged: tuple[str, ...]


class FeatureCache:
    """The parts of one key in a folder."""

    def __init__(self, folder: Path, key: str, dimensions: int) -> None:
        """folder: shared by all keys. key: what the embeddings depend on besides the picture."""
        self._folder = folder / key
        self._dimensions = dimensions

    def known(self) -> KnownFeatures:
        """Say which pictures have an embedding."""
        digests: set[bytes] = set()
        damaged = []
        for path in self._parts():
            try:
                digests.update(pq.read_table(path, columns=[_DIGEST])[_DIGEST].to_pylist())
            except (pa.ArrowException, OSError, KeyError):
                damaged.append(path.name)
        return KnownFeatures(frozenset(digests), tuple(damaged))

    def read(self, wanted: Collection[bytes]) -> Features:
        """Return the embeddings of the `wanted` pictures that are there, by digest, each once."""
        values = pa.array(sorted(wanted), pa.binary(_DIGEST_BYTES))
        digests: dict[bytes, None] = {}
        rows: list[NDArray[np.float16]] = []
        for path in self._parts():
            try:
                table = pq.read_table(path)
                table = table.filter(pc.is_in(table[_DIGEST], value_set=values)).combine_chunks()
                found: list[bytes] = table[_DIGEST].to_pylist()
                numbers = table[_EMBEDDING].combine_chunks().flatten().to_numpy(zero_copy_only=False)
                vectors = numbers.reshape(len(found), self._dimensions)
            except (pa.ArrowException, OSError, KeyError, ValueError):
                continue
            new = [row for row, digest in enumerate(found) if digest not in digests]
            digests.update(dict.fromkeys(found[row] for row in new))
            rows.append(vectors[new])
        order = sorted(range(len(digests)), key=list(digests).__getitem__)
        empty = np.empty((0, self._dimensions), np.float16)
        stacked = np.concatenate([empty, *rows])
        keys = list(digests)
        return Features(tuple(keys[row] for row in order), stacked[order])

    def write(self, features: Features) -> Path | None:
        """Keep some embeddings as one more part; returns where, or None if there are none."""
        if not features.digests:
            return None
        schema = pa.schema(
            [
                pa.field(_DIGEST, pa.binary(_DIGEST_BYTES), nullable=False),
                pa.field(_EMBEDDING, pa.list_(pa.float16(), self._dimensions), nullable=False),
            ]
        )
        numbers = pa.array(np.ascontiguousarray(features.vectors, np.float16).ravel(), pa.float16())
        columns = [
            pa.array(features.digests, pa.binary(_DIGEST_BYTES)),
            pa.FixedSizeListArray.from_arrays(numbers, self._dimensions),
        ]
        self._folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=self._folder, prefix=".part-", delete=False) as partial:
            temporary = Path(partial.name)
        try:
            # Embeddings are noise to a compressor; the dictionary would only cost time.
            pq.write_table(pa.table(columns, schema), temporary, compression="none", use_dictionary=False)
            name = hashlib.sha256(temporary.read_bytes()).hexdigest()[:32]
            return temporary.replace(self._folder / f"{name}.parquet")
        finally:
            temporary.unlink(missing_ok=True)

    def _parts(self) -> list[Path]:
        return sorted(self._folder.glob("*.parquet"))


def diff(listed: Iterable[Listed], known: Collection[bytes]) -> tuple[Listed, ...]:
    """Return one item for each picture that has no embedding yet, in the order of the items."""
    missing: dict[bytes, Listed] = {}
    for entry in listed:
        if entry.sha256 not in known:
            missing.setdefault(entry.sha256, entry)
    return tuple(missing.values())


def unit_vectors(vectors: NDArray[np.float16]) -> NDArray[np.float32]:
    """Return the vectors as float32 of length 1; half precision has moved them off it a little."""
    wide = vectors.astype(np.float32)
    norms = np.linalg.norm(wide, axis=1, keepdims=True)
    units: NDArray[np.float32] = wide / np.maximum(norms, np.float32(1e-12))
    return units


def rows_of(features: Features, digests: Sequence[bytes]) -> list[int]:
    """Return the row of each digest; raises KeyError for one that isn't there."""
    rows = {digest: row for row, digest in enumerate(features.digests)}
    return [rows[digest] for digest in digests]
