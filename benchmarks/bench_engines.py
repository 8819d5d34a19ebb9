"""The engines of a partition, side by side: bytes, time to build, and queries a second at the recall that is asked.

    python -m benchmarks.bench_engines [--items 100000] [--dimensions 512] [--real] [--recall 0.95] [--rounds 5]

Each engine and storage indexes the same vectors, is tuned as the batch does it, then asked the same queries, which are
no items, for 10 neighbours, one after the other on one core, in rounds that alternate. Queries a second are of CPU
time: what else the machine does then counts less.

Made-up vectors lie around 500 centres that overlap, within 24 dimensions of the 512, and a little noise in all of
them: as pictures' embeddings do, which have far fewer degrees of freedom than numbers.
With --real they are embeddings of the demo's pictures, each varied many times (real_embeddings.py), of 1,280 numbers.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.real_embeddings import real_embeddings
from embedding_batch.steps.build.tuning import RECALL_AT, Tuned, tune
from model_repository.documents.index_manifest import Engine, Storage
from vector_index import VectorIndex, build_index, open_index

_TREES = 20
_CENTRES = 500
_INTRINSIC = 24
_NOISE = 0.1
_QUERIES = 500


@dataclass
class Contestant:
    """One engine and storage. rates: queries a second of CPU, by round."""

    engine: Engine
    storage: Storage
    index: VectorIndex
    size: int
    build_seconds: float
    tuned: Tuned
    rates: list[float] = field(default_factory=list)

    def ask(self, queries: NDArray[np.float32]) -> None:
        """One round."""
        begun = time.thread_time()
        for query in queries:
            self.index.nearest(query, RECALL_AT, self.tuned.width)
        self.rates.append(len(queries) / (time.thread_time() - begun))


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--dimensions", type=int, default=512)
    parser.add_argument("--real", action="store_true", help="embeddings of pictures")
    parser.add_argument("--recall", type=float, default=0.95)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    if options.real:
        vectors, queries = np.split(real_embeddings(options.items + _QUERIES), [options.items])
    else:
        vectors = embeddings(options.items, options.dimensions, seed=1)
        queries = embeddings(_QUERIES, options.dimensions, seed=2)
    with tempfile.TemporaryDirectory(prefix="bench-engines-") as folder:
        contestants = [
            _prepare(Path(folder), engine, storage, vectors, options.recall)
            for engine in Engine
            for storage in Storage
            if storage.suits(engine)
        ]
        for _ in range(options.rounds):
            for contestant in contestants:
                contestant.ask(queries)
    first = contestants[0]
    print("| engine | storage | MB | of Annoy | build, CPU s | width | recall@10 | queries/CPU s | of Annoy |")
    print("|---|---|---|---|---|---|---|---|---|")
    for one in contestants:
        rate, base = statistics.median(one.rates), statistics.median(first.rates)
        print(
            f"| {one.engine} | {one.storage} | {one.size / 1e6:.0f} | {one.size / first.size:.2f} "
            f"| {one.build_seconds:.0f} | {one.tuned.width} | {one.tuned.recall.value:.3f} | {rate:,.0f} "
            f"| {rate / base:.1f} |"
        )


def embeddings(count: int, dimensions: int, *, seed: int) -> NDArray[np.float32]:
    """Made-up ones, float32[N,D] of length 1; those of another seed are of the same kind."""
    kind, random = np.random.default_rng(0), np.random.default_rng(seed)
    spread = kind.standard_normal((_INTRINSIC, dimensions), np.float32)
    centres = kind.standard_normal((_CENTRES, _INTRINSIC), np.float32)
    within = centres[random.integers(0, _CENTRES, count)] + random.standard_normal((count, _INTRINSIC), np.float32)
    noise = _NOISE * _INTRINSIC**0.5 * random.standard_normal((count, dimensions), np.float32)
    vectors = within @ spread + noise
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float32)


def _prepare(folder: Path, engine: Engine, storage: Storage, vectors: NDArray[np.float32], recall: float) -> Contestant:
    path = folder / f"{engine}-{storage}"
    begun = time.thread_time()
    build_index(path, vectors, engine, storage, trees=_TREES, seed=1)
    seconds = time.thread_time() - begun
    index = open_index(path, engine, storage, dimensions=vectors.shape[1], items=len(vectors))
    narrowest = _TREES * RECALL_AT if engine is Engine.ANNOY else RECALL_AT
    tuned = tune(index, vectors, queries=_QUERIES, recall=recall, narrowest=narrowest, widest=_TREES * len(vectors))
    return Contestant(engine, storage, index, path.stat().st_size, seconds, tuned)


if __name__ == "__main__":
    main()
