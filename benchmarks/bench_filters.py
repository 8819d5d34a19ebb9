"""What a filter costs a search: CPU time and recall while a share of the items is hidden.

    python -m benchmarks.bench_filters [--items 100000] [--dimensions 512] [--rounds 5]

Each engine searches made-up embeddings for 20 neighbours as widely as the batch's rule found for recall@10 of 0.95, in
rounds that alternate between the shares. Recall is against an exact search of what is visible.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.bench_engines import embeddings
from embedding_batch.steps.build.tuning import tune
from model_repository.documents.index_manifest import Engine, Storage
from vector_index import VectorIndex, Visible, build_index, open_index

_K = 20
_PER_TEN = 10
"""A width is for 10 neighbours; for more it grows with them, as the server has it."""
_SHARES = (0.0, 0.1, 0.5, 0.9, 0.99, 0.999)
_QUERIES, _RECALL_QUERIES = 300, 100
_TIE = 1e-5
"""Two similarities closer than this are the same."""
_TREES = 20


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--dimensions", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    vectors = embeddings(options.items, options.dimensions, seed=1)
    queries = embeddings(_QUERIES, options.dimensions, seed=2)
    order = np.random.default_rng(3).permutation(options.items)
    masks: list[Visible | None] = [None]
    masks += [Visible.but_for(order[: int(share * options.items)], options.items) for share in _SHARES]
    print("| engine | storage | hidden | CPU ms a query | of none hidden | recall@20 of what is left | least found |")
    print("|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory(prefix="bench-filters-") as folder:
        for engine, storage in ((Engine.ANNOY, Storage.FLOAT32), (Engine.FAISS_HNSW, Storage.INT8)):
            path = Path(folder) / engine
            build_index(path, vectors, engine, storage, trees=_TREES, seed=1)
            index = open_index(path, engine, storage, dimensions=options.dimensions, items=options.items)
            narrowest = _TREES * 10 if engine is Engine.ANNOY else 10
            how = {"queries": 500, "recall": 0.95, "narrowest": narrowest, "widest": _TREES * options.items}
            width = tune(index, vectors, **how).width * _K // _PER_TEN
            times: list[list[float]] = [[] for _ in masks]
            for _ in range(options.rounds):
                for mask, taken in zip(masks, times, strict=True):
                    taken.append(_ask(index, queries, width, mask))
            base = statistics.median(times[0])
            for share, mask, taken in zip(("no filter", *_SHARES), masks, times, strict=True):
                one = statistics.median(taken)
                recall, least = _recall(index, vectors, queries[:_RECALL_QUERIES], width, mask)
                hidden = share if isinstance(share, str) else f"{share:.1%}"
                print(
                    f"| {engine} | {storage} | {hidden} | {one * 1000:.3f} | {one / base:.2f} "
                    f"| {recall:.3f} | {least} |",
                    flush=True,
                )


def _ask(index: VectorIndex, queries: NDArray[np.float32], width: int, mask: Visible | None) -> float:
    begun = time.thread_time()
    for query in queries:
        index.nearest(query, _K, width, mask)
    return (time.thread_time() - begun) / len(queries)


def _recall(
    index: VectorIndex,
    vectors: NDArray[np.float32],
    queries: NDArray[np.float32],
    width: int,
    mask: Visible | None,
) -> tuple[float, int]:
    shown = np.arange(len(vectors)) if mask is None else mask.positions
    right, least = 0, _K
    for query in queries:
        found = index.nearest(query, _K, width, mask).positions
        as_near = np.partition(vectors[shown] @ query, -_K)[-_K] - _TIE
        right += int(np.count_nonzero(vectors[found] @ query >= as_near))
        least = min(least, len(found))
    return right / (_K * len(queries)), least


if __name__ == "__main__":
    main()
