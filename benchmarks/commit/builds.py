"""Indexes of a given size: real Annoy files with golden queries, made once and kept in the cache."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
from annoy import AnnoyIndex

from model_repository.digests import format_crc32c
from model_repository.documents.files import File
from model_repository.documents.index_manifest import GoldenQuery, Partition, format_index_manifest
from model_repository.documents.items.item_ids import encode_item_ids, encode_item_lookup
from model_repository.documents.references import ModelReference
from model_repository.names import IndexPrefix
from tests.builds import index_manifest, partition

DIMENSIONS = 1280
TREES = 4
GOLDEN_NEIGHBORS = 10
LOOKUP = "items.lookup"
_NODE_BYTES = 4 * DIMENSIONS + 12
"""Of Annoy's angular metric; trees and ids add about one percent."""
_PARTITION_BYTES = 250_000_000
_CENTRES = 64


@dataclass(frozen=True)
class Synthetic:
    """An index on disk, all but index.json, which names a model."""

    folder: Path
    partitions: tuple[Partition, ...]
    golden: tuple[GoldenQuery, ...]
    files: tuple[File, ...]

    def manifest(self, prefix: IndexPrefix, model: ModelReference) -> bytes:
        """Its index.json; `model` must make vectors of DIMENSIONS."""
        return format_index_manifest(
            index_manifest(
                prefix,
                model,
                lookup=LOOKUP,
                partitions=self.partitions,
                golden_queries=self.golden,
                files=self.files,
            )
        )


def synthetic(size: int) -> Synthetic:
    """An index of about `size` bytes, in partitions of 250 MB; from the cache if it is there."""
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "indexpush" / "bench-commit"
    folder = root / f"{size}-{DIMENSIONS}x{TREES}"
    if not folder.exists():
        root.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix="building.", dir=root))
        try:
            _make(work, size)
            work.rename(folder)
        finally:
            shutil.rmtree(work, ignore_errors=True)
    kept = json.loads((folder / "kept.json").read_text())
    return Synthetic(
        folder,
        tuple(_partition(one) for one in kept["partitions"]),
        tuple(
            GoldenQuery(one["category"], one["item"], tuple(one["neighbors"]), tuple(one["distances"]))
            for one in kept["golden"]
        ),
        tuple(File(**one) for one in kept["files"]),
    )


def _make(folder: Path, size: int) -> None:
    count = max(1, round(size / _PARTITION_BYTES))
    items = size // count // _NODE_BYTES
    partitions, golden, ids_of = [], [], []
    for number in range(count):
        ids = [f"item-{number:02d}-{position:06d}" for position in range(items)]
        described = {
            "category": f"category {number}",
            "file": f"{number:04d}.annoy",
            "ids": f"{number:04d}.ids",
            "items": items,
        }
        made = _partition(described)
        annoy = AnnoyIndex(DIMENSIONS, "angular")
        annoy.set_seed(number)
        for position, vector in enumerate(_vectors(number, items)):
            annoy.add_item(position, vector)
        annoy.build(TREES, n_jobs=1)
        annoy.save(str(folder / made.file))
        found, distances = annoy.get_nns_by_item(items // 2, GOLDEN_NEIGHBORS, include_distances=True)
        annoy.unload()
        golden.append(GoldenQuery(made.category, ids[items // 2], tuple(ids[one] for one in found), tuple(distances)))
        (folder / made.ids).write_bytes(encode_item_ids(ids))
        partitions.append(described)
        ids_of.append(ids)
    (folder / LOOKUP).write_bytes(encode_item_lookup(ids_of))
    files = [File(path.name, path.stat().st_size, _crc32c(path)) for path in sorted(folder.iterdir())]
    kept = {
        "partitions": partitions,
        "golden": [asdict(one) for one in golden],
        "files": [asdict(file) for file in files],
    }
    (folder / "kept.json").write_text(json.dumps(kept))


def _partition(described: dict[str, Any]) -> Partition:
    return partition(**described, dimensions=DIMENSIONS, width=TREES * GOLDEN_NEIGHBORS)


def _vectors(seed: int, items: int) -> Iterator[list[float]]:
    """Vectors of length 1 around some centres, as float32: embeddings' bytes don't compress, and neither do these."""
    random = np.random.default_rng(seed)
    centres = random.standard_normal((_CENTRES, DIMENSIONS), dtype=np.float32)
    for done in range(0, items, 1000):
        some = centres[random.integers(0, _CENTRES, 1000)] + random.standard_normal((1000, DIMENSIONS), np.float32)
        some /= np.linalg.norm(some, axis=1, keepdims=True)
        yield from some[: min(1000, items - done)].tolist()


def _crc32c(path: Path) -> str:
    crc = 0
    with path.open("rb") as file:
        while piece := file.read(1 << 22):
            crc = google_crc32c.extend(crc, piece)
    return format_crc32c(crc)
