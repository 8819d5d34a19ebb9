"""The cache of embeddings."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from embedding_batch.steps.catalogue import Item, Listed
from embedding_batch.steps.features import FeatureCache, Features, diff, unit_vectors

D = 4


def features(*names: str, scale: float = 1.0) -> Features:
    digests = tuple(hashlib.sha256(name.encode()).digest() for name in names)
    vectors = np.array([[ord(name) * scale, 0, 1, 2] for name in names], np.float16)
    return Features(digests, vectors)


@pytest.fixture
def cache(tmp_path: Path) -> FeatureCache:
    return FeatureCache(tmp_path, "model-a", D)


def test_what_was_kept_is_read_again_in_the_order_asked_for(cache: FeatureCache) -> None:
    kept = features("x", "y", "z")
    cache.write(kept)
    found = cache.read(kept.digests[::-1])
    assert np.array_equal(found, kept.vectors[::-1])
    assert found.dtype == np.float16


def test_an_empty_cache_knows_nothing(cache: FeatureCache) -> None:
    assert cache.known() == (frozenset(), ())
    assert cache.read([]).shape == (0, D)
    with pytest.raises(KeyError):
        cache.read([bytes(32)])


def test_only_what_is_wanted_is_read(cache: FeatureCache) -> None:
    cache.write(features("x", "y"))
    cache.write(features("z"))
    assert np.array_equal(cache.read(features("z", "y").digests), features("z", "y").vectors)


def test_a_part_is_never_changed_and_the_same_content_is_one_part(cache: FeatureCache, tmp_path: Path) -> None:
    first = cache.write(features("x"))
    assert cache.write(features("x")) == first
    cache.write(features("y"))
    assert len(list(tmp_path.rglob("*.parquet"))) == 2
    assert not list(tmp_path.rglob(".part-*"))


def test_another_model_knows_nothing_of_these(cache: FeatureCache, tmp_path: Path) -> None:
    cache.write(features("x"))
    assert FeatureCache(tmp_path, "model-b", D).known() == (frozenset(), ())


def test_a_picture_that_two_batches_embedded_is_read_once(cache: FeatureCache) -> None:
    cache.write(features("x", "y"))
    cache.write(features("y", "z"))
    wanted = features("x", "y", "z")
    assert np.array_equal(cache.read(wanted.digests), wanted.vectors)


@pytest.mark.parametrize("place", [-20, 100], ids=["its tail", "a number"])
def test_a_damaged_part_is_named_and_counts_as_absent(cache: FeatureCache, place: int) -> None:
    cache.write(features("x"))
    damaged = cache.write(features("y"))
    data = bytearray(damaged.read_bytes())
    data[place] ^= 1
    damaged.write_bytes(data)
    assert cache.known() == (set(features("x").digests), (damaged.name,))
    assert np.array_equal(cache.read(features("x").digests), features("x").vectors)
    with pytest.raises(KeyError):
        cache.read(features("y").digests)


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
