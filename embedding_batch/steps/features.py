"""Embeddings of pictures, kept from run to run: a picture is embedded once for each model.

One folder for each key (what the model and the preprocessing are), and in it Parquet parts that are never changed: each
is written under a temporary name, then renamed to the digest of what it holds, by which damage is known. Two batches
may write side by side.

    image_sha256  fixed_size_binary[32]
    embedding     fixed_size_list<float16>[dimensions]

Half precision: 300,000 pictures of 512 dimensions take 320 MB, and cosines change by less than 0.001.
"""

from __future__ import annotations

import hashlib
import io
import tempfile
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
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


class FeatureCache:
    """The parts of one key in a folder. One whose bytes aren't those of its name counts as absent."""

    def __init__(self, folder: Path, key: str, dimensions: int) -> None:
        """folder: shared by all keys. key: what the embeddings depend on besides the picture."""
        self._folder = folder / key
        self._dimensions = dimensions

    def known(self) -> tuple[frozenset[bytes], tuple[str, ...]]:
        """Return which pictures have an embedding, and the names of the damaged parts."""
        digests: set[bytes] = set()
        damaged = []
        for path in self._paths():
            table = _whole_table(path, [_DIGEST])
            if table is None:
                damaged.append(path.name)
            else:
                digests.update(table[_DIGEST].to_pylist())
        return frozenset(digests), tuple(damaged)

    def read(self, wanted: Sequence[bytes]) -> NDArray[np.float16]:
        """Return the embeddings of the `wanted` pictures, float16[N,D]; raises KeyError for one that isn't there."""
        of_interest = frozenset(wanted)
        rows: dict[bytes, int] = {}
        vectors = [np.empty((0, self._dimensions), np.float16)]
        for path in self._paths():
            table = _whole_table(path, [_DIGEST, _EMBEDDING])
            if table is not None:
                digests = table[_DIGEST].to_pylist()
                found = [row for row, digest in enumerate(digests) if digest in of_interest]
                rows |= {digests[row]: place for place, row in enumerate(found, start=sum(map(len, vectors)))}
                numbers = table[_EMBEDDING].combine_chunks().flatten().to_numpy(zero_copy_only=False)
                vectors.append(numbers.reshape(-1, self._dimensions)[found])
        return np.concatenate(vectors)[[rows[digest] for digest in wanted]]

    def write(self, features: Features) -> Path:
        """Keep some embeddings as one more part; returns where."""
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
        stream = io.BytesIO()
        # Embeddings are noise to a compressor; the dictionary would only cost time.
        pq.write_table(pa.table(columns, schema), stream, compression="none", use_dictionary=False)
        name = _name(stream.getvalue())
        self._folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self._folder, prefix=".part-") as partial:
            (Path(partial) / name).write_bytes(stream.getvalue())
            return (Path(partial) / name).replace(self._folder / name)

    def _paths(self) -> list[Path]:
        return sorted(self._folder.glob("*.parquet"))


def _whole_table(path: Path, columns: list[str]) -> pa.Table | None:
    """Return some columns of a part, or None if it is damaged."""
    data = path.read_bytes()
    return pq.read_table(pa.BufferReader(data), columns=columns) if _name(data) == path.name else None


def _name(data: bytes) -> str:
    return f"{hashlib.sha256(data).hexdigest()[:32]}.parquet"


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
