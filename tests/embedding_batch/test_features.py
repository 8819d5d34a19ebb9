"""The cache of embeddings."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from embedding_batch.steps.catalogue import Item, Listed
from embedding_batch.steps.features import FeatureCache, Features, diff, rows_of, unit_vectors

D = 4


def features(*names: str, scale: float = 1.0) -> Features:
    digests = tuple(hashlib.sha256(name.encode()).digest() for name in names)
    vectors = np.array([[ord(name) * scale, 0, 1, 2] for name in names], np.float16)
    return Features(digests, vectors)


@pytest.fixture
def cache(tmp_path: Path) -> FeatureCache:
    return FeatureCache(tmp_path, "model-a", D)


def test_what_was_kept_is_read_again(cache: FeatureCache) -> None:
    kept = features("x", "y", "z")
    cache.write(kept)
    found = cache.read(set(kept.digests))
    assert set(found.digests) == set(kept.digests)
    rows = rows_of(found, kept.digests)
    assert np.array_equal(found.vectors[rows], kept.vectors)
    assert found.vectors.dtype == np.float16


def test_an_empty_cache_knows_nothing(cache: FeatureCache) -> None:
    assert cache.known().digests == frozenset()
    assert cache.read({bytes(32)}).vectors.shape == (0, D)


def test_only_what_is_wanted_is_read(cache: FeatureCache) -> None:
    cache.write(features("x", "y"))
    cache.write(features("z"))
    assert cache.read({*features("y", "z").digests, bytes(32)}).digests == tuple(sorted(features("y", "z").digests))


def test_a_part_is_never_changed_and_the_same_content_is_one_part(cache: FeatureCache, tmp_path: Path) -> None:
    first = cache.write(features("x"))
    assert cache.write(features("x")) == first
    cache.write(features("y"))
    assert len(list(tmp_path.rglob("*.parquet"))) == 2
    assert not list(tmp_path.rglob(".part-*"))


def test_nothing_is_no_part(cache: FeatureCache) -> None:
    assert cache.write(Features((), np.empty((0, D), np.float16))) is None


def test_another_model_knows_nothing_of_these(cache: FeatureCache, tmp_path: Path) -> None:
    cache.write(features("x"))
    assert FeatureCache(tmp_path, "model-b", D).known().digests == frozenset()


def test_a_picture_that_two_batches_embedded_is_read_once(cache: FeatureCache) -> None:
    cache.write(features("x", "y"))
    cache.write(features("y", "z", scale=2))
    assert len(cache.read(set(features("x", "y", "z").digests)).digests) == 3


def test_a_damaged_part_is_named_and_counts_as_absent(cache: FeatureCache) -> None:
    cache.write(features("x"))
    damaged = cache.write(features("y"))
    assert damaged
    damaged.write_bytes(damaged.read_bytes()[:-20])
    assert cache.known().damaged == (damaged.name,)
    assert cache.known().digests == set(features("x").digests)
    assert cache.read(set(features("x", "y").digests)).digests == features("x").digests


def test_each_new_picture_is_to_be_embedded_once() -> None:
    known, new = bytes(32), bytes([1]) * 32
    listed = [Listed(Item(name, "c", Path(name)), digest) for name, digest in (("a", known), ("b", new), ("c", new))]
    assert [entry.item.id for entry in diff(listed, {known})] == ["b"]


def test_vectors_are_of_length_one_again_after_half_precision() -> None:
    vectors = np.random.default_rng(1).normal(size=(100, 1280))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    units = unit_vectors(vectors.astype(np.float16))
    assert np.abs(np.linalg.norm(units, axis=1) - 1).max() < 1e-6
    assert (units * vectors).sum(axis=1).min() > 0.999999
