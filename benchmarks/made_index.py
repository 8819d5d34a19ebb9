"""Builds of made-up embeddings, by the batch's own builder and checks, without a model; kept in the cache.

They are what the batch would make of somebody's own vectors: parts of at most 200,000 items, each searched as widely as
recall@10 of 0.95 takes on its own items and on points between them.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from benchmarks.bench_engines import embeddings
from embedding_batch.config import PART_ITEMS
from embedding_batch.method import Method
from embedding_batch.steps.build.building import Vectors, build
from embedding_batch.steps.build.checking import Checked, check, share
from embedding_batch.steps.publish.uploading import describe
from model_repository.documents.index_manifest import (
    Engine,
    IndexManifest,
    Storage,
    format_index_manifest,
    parse_index_manifest,
)
from model_repository.documents.items.item_ids import encode_item_lookup
from model_repository.errors import DocumentMalformed
from model_repository.names import IndexPrefix
from model_repository.resources.processors import processors
from tests.builds import index_manifest

INDEX = "bench"
FILES = "index"
RECALL = 0.95
_MANIFEST = "index.json"
_LOOKUP = "items.lookup"


def made_index(
    items: int, dimensions: int, engine: Engine, storage: Storage, cache: Path | None = None
) -> tuple[Path, IndexManifest]:
    """A folder with a build below `index`, as a pod has it, and the build's index.json; made unless it is there.

    Its items are item-0000000 and so on; trees and links are the batch's defaults. cache: instead of the user's.
    """
    root = cache or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "indexpush" / "made-indexes"
    prefix = IndexPrefix(INDEX, f"{items}x{dimensions}-{engine}-{storage}")
    folder = root / prefix.build
    try:
        return folder, parse_index_manifest((folder / FILES / _MANIFEST).read_bytes(), prefix)
    except (FileNotFoundError, DocumentMalformed):  # malformed: of an older contract
        shutil.rmtree(folder, ignore_errors=True)
    root.mkdir(parents=True, exist_ok=True)
    print(f"building {prefix.build} ...", flush=True)
    work = Path(tempfile.mkdtemp(prefix="building.", dir=root))
    try:
        (work / FILES).mkdir()
        manifest = _make(work / FILES, prefix, items, dimensions, Method(engine, storage))
        work.rename(folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return folder, manifest


def item_id(number: int) -> str:
    """The id of an item by its number, from 0."""
    return f"item-{number:07d}"


def _make(folder: Path, prefix: IndexPrefix, items: int, dimensions: int, method: Method) -> IndexManifest:
    parts = range(-(-items // PART_ITEMS))
    with ProcessPoolExecutor(processors()) as pool:
        made = [pool.submit(_make_part, folder, number, (items, dimensions), method) for number in parts]
        checked = [one.result() for one in made]
    (folder / _LOOKUP).write_bytes(encode_item_lookup([_part_ids(number, items) for number in parts]))
    names = [_LOOKUP, *(name for one in checked for name in (one.partition.file, one.partition.ids))]
    manifest = index_manifest(
        prefix,
        models=(),
        lookup=_LOOKUP,
        partitions=tuple(one.partition for one in checked),
        golden_queries=tuple(golden for one in checked for golden in one.golden_queries),
        files=describe({name: folder / name for name in names}),
    )
    (folder / _MANIFEST).write_bytes(format_index_manifest(manifest))
    return manifest


def _make_part(folder: Path, number: int, shape: tuple[int, int], method: Method) -> Checked:
    ids = _part_ids(number, shape[0])
    vectors = embeddings(len(ids), shape[1], seed=number + 1)
    built = build(folder, number, Vectors("all", tuple(ids), vectors), method)
    its = share(number, -(-shape[0] // PART_ITEMS), len(ids), shape[0])
    return check(folder, built, None, recall=RECALL, its=its)


def _part_ids(number: int, items: int) -> list[str]:
    return [item_id(one) for one in range(number * PART_ITEMS, min((number + 1) * PART_ITEMS, items))]
