"""What pods without a cache fetch of the embeddings: the step `list`, and `build` of each category.

    python -m benchmarks.bench_features [--items 300000] [--dimensions 512] [--categories 8] [--runs 30]

Parts as the batch writes and merges them: a first run's shards in order of category, then runs with 1 % new. What the
bucket server answers with is counted. In the end the same items in categories of which the shards knew nothing.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import numpy as np
import requests
from numpy.typing import NDArray

from benchmarks.batch.made_up import bucket
from benchmarks.bench_engines import embeddings
from embedding_batch.config import SHARD_PICTURES
from embedding_batch.state.features import DIGEST_BYTES, Features, FeatureStore
from model_repository.bucket.gcs_store import GcsStore


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=300_000)
    parser.add_argument("--dimensions", type=int, default=512)
    parser.add_argument("--categories", type=int, default=8)
    parser.add_argument("--runs", type=int, default=30)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-features-") as name, bucket(Path(name)) as store:
        folder, random = Path(name), np.random.default_rng(1)
        of_categories: list[list[bytes]] = [[] for _ in range(options.categories)]
        for run, items in enumerate([options.items, *[options.items // 100] * options.runs]):
            new = _new(of_categories, items, random)
            _write(_features(store, folder / f"run-{run}", options.dimensions), new, options.dimensions)
            shutil.rmtree(folder / f"run-{run}")
        parts = store.listing("features/")
        print(f"{len(parts)} parts, {sum(part.size for part in parts) / 1e6:,.1f} MB")
        print("\n| step | its own embeddings, MB | fetched, MB | requests |\n|---|---|---|---|")
        digests = [np.array(of, "S32") for of in of_categories]
        whole = np.concatenate(digests)
        _report(store, folder, options.dimensions, "list", None)
        for number, of in enumerate(digests):
            _report(store, folder, options.dimensions, f"build, category {number}", of)
        scattered = random.permutation(whole)[: len(whole) // options.categories]
        _report(store, folder, options.dimensions, "build of as many from all categories", scattered)


def _new(of_categories: list[list[bytes]], items: int, random: np.random.Generator) -> tuple[bytes, ...]:
    """New pictures in order of category, as a run's shards have them."""
    new = []
    counts = random.multinomial(items, [1 / len(of_categories)] * len(of_categories))
    for of, count in zip(of_categories, counts, strict=True):
        new += [random.bytes(DIGEST_BYTES) for _ in range(count)]
        of.extend(new[len(new) - count :])
    return tuple(new)


def _write(features: FeatureStore, digests: tuple[bytes, ...], dimensions: int) -> None:
    for start in range(0, len(digests), SHARD_PICTURES):
        shard = digests[start : start + SHARD_PICTURES]
        made = embeddings(len(shard), dimensions, seed=int.from_bytes(shard[0][:3]))
        features.write(Features(shard, made.astype(np.float16)))
    features.merge()


def _features(store: GcsStore, folder: Path, dimensions: int) -> FeatureStore:
    (folder / "scratch").mkdir(parents=True)
    return FeatureStore(
        store, "k", dimensions, cache=folder / "cache", scratch=folder / "scratch", listener=lambda _: None
    )


def _report(store: GcsStore, folder: Path, dimensions: int, step: str, digests: NDArray[np.bytes_] | None) -> None:
    with _counted() as answers:
        features = _features(store, folder / "pod", dimensions)
        features.refresh()
        if digests is not None:
            features.read(digests)
    shutil.rmtree(folder / "pod")
    own = 0 if digests is None else len(digests) * dimensions * 2
    print(f"| {step} | {own / 1e6:,.1f} | {sum(answers) / 1e6:,.1f} | {len(answers):,} |", flush=True)


@contextmanager
def _counted() -> Iterator[list[int]]:
    """Bytes of each object, or stretch of one, that is fetched meanwhile."""
    answers: list[int] = []
    get = requests.Session.get

    def counted(self: requests.Session, url: str, **options: object) -> requests.Response:
        answer = get(self, url, **options)  # type: ignore[arg-type]
        answers.append(int(answer.headers["Content-Length"]))
        return answer

    with patch.object(requests.Session, "get", counted):
        yield answers


if __name__ == "__main__":
    main()
