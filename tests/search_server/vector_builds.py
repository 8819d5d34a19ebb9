"""Builds of random vectors, of any shape, without a model: where size and number are what is tested."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from embedding_batch.steps.publish.tagging import encode_tags
from model_repository.digests import sha256_digest
from model_repository.documents.index_manifest import Engine, GoldenQuery, Storage, format_index_manifest
from model_repository.documents.items.item_ids import encode_item_ids, encode_item_lookup
from tests import builds
from tests.search_server.conftest import PREFIX
from vector_index import build_index, open_index

_LISTS = pa.list_(pa.string())


def make_vector_build(
    folder: Path,
    catalogue: Mapping[str, int],
    dimensions: int,
    width: int = 50,
    *,
    tags: Mapping[str, Sequence[str]] | None = None,
    kind: tuple[Engine, Storage] = (Engine.ANNOY, Storage.FLOAT32),
    named: Callable[[str, int], str] = "{}-{}".format,
    alone: Collection[str] = (),
) -> dict[str, str]:
    """So many items of each category; the environment of a server of it. Items are called <category>-<number>.

    tags: of items, by id. named: what an item is called instead. Categories that are searched exactly share files, but
    for those that are `alone`, which have Annoy.
    """
    index = folder / "current" / "index"
    index.mkdir(parents=True)
    rng = np.random.default_rng(1)
    whole = kind
    golden, partitions, ids = [], [], []
    shared: list[str] = []
    of_shared: list[NDArray[np.float32]] = []
    for number, (category, count) in enumerate(catalogue.items()):
        kind = (Engine.ANNOY, Storage.FLOAT32) if category in alone else whole
        shares = kind[0] is Engine.EXACT
        names = [named(category, n) for n in range(count)]
        vectors = rng.standard_normal((count, dimensions)).astype(np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        build_index(index / f"{number}.ann", vectors, *kind, trees=10, seed=7)
        (index / f"{number}.ids").write_bytes(encode_item_ids(names))
        what = {"file": f"{number}.ann", "dimensions": dimensions, "width": width, "model": None}
        what |= {"engine": kind[0], "storage": kind[1]}
        if shares:
            what |= {"file": "all.exact", "ids": "all.ids", "first": len(shared)}
            shared += names
            of_shared.append(vectors)
        ids.append(names)
        partitions.append(builds.partition(number, category, count, **what))
        if not golden:
            opened = open_index(index / f"{number}.ann", *kind, dimensions=dimensions, items=count)
            found, distances = opened.nearest_to(0, min(5, count), width)
            golden.append(GoldenQuery(category, names[0], tuple(names[p] for p in found), tuple(distances)))
            opened.close()
        if shares:
            (index / f"{number}.ann").unlink()
            (index / f"{number}.ids").unlink()
    if shared:
        build_index(index / "all.exact", np.concatenate(of_shared), *whole, trees=10, seed=7)
        (index / "all.ids").write_bytes(encode_item_ids(shared))
    (index / "items.lookup").write_bytes(encode_item_lookup(ids))
    tagged = encode_tags([pa.chunked_array([[(tags or {}).get(name) for name in of]], _LISTS) for of in ids])
    if tagged is not None:
        (index / tagged[0].file).write_bytes(tagged[1])
    manifest = builds.index_manifest(
        PREFIX,
        tags=tagged and tagged[0],
        models=(),
        partitions=tuple(partitions),
        golden_queries=tuple(golden),
        files=builds.described_folder(index, without="index.json"),
    )
    data = format_index_manifest(manifest)
    (index / "index.json").write_bytes(data)
    return {
        "DATA": str(folder / "current"),
        "COMMIT_GENERATION": "1",
        "INDEX_PREFIX": str(PREFIX),
        "INDEX_DIGEST": sha256_digest(data),
        "HOST": "127.0.0.1",
        "TERMINATION_LOG": str(folder / "termination"),
        "DRAIN_SECONDS": "0",
    }
