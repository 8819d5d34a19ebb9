"""Embeddings that are kept in the bucket, and their copies on this machine."""

from __future__ import annotations

import hashlib
import itertools
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from embedding_batch.errors import StateDamaged
from embedding_batch.events import Event, Warned
from embedding_batch.state import features as module
from embedding_batch.state.features import Features, FeatureStore
from model_repository.bucket.store import ObjectInfo
from model_repository.errors import ObjectMissing
from tests.memory_store import MemoryStore

D = 4
KEY = "model-a"

Open = Callable[..., FeatureStore]


def digest(name: str) -> bytes:
    return hashlib.sha256(name.encode()).digest()


def array(*names: str) -> np.ndarray:
    return np.array([digest(name) for name in names], "S32")


def unit(name: str) -> np.ndarray:
    vector = np.random.default_rng(list(name.encode())).normal(size=D)
    return vector / np.linalg.norm(vector)


def features(*names: str) -> Features:
    return Features(tuple(map(digest, names)), np.array([unit(name) for name in names], np.float16))


def names(store: MemoryStore, key: str = KEY) -> list[str]:
    return [info.name for info in store.listing(f"features/{key}/")]


def fetches(store: MemoryStore) -> list[int]:
    """How much is asked for at a time, from now on."""
    fetched: list[int] = []
    read_range = store.read_range
    store.read_range = lambda name, start, size: (fetched.append(size), read_range(name, start, size))[1]  # type: ignore[method-assign,func-returns-value]
    return fetched


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def told() -> list[Event]:
    return []


@pytest.fixture
def machine(tmp_path: Path, store: MemoryStore, told: list[Event]) -> Open:
    """Opens the embeddings as a run on a machine of that name does, with its copies of before."""
    runs = itertools.count()

    def make(name: str = "one", key: str = KEY, bucket: MemoryStore = store, *, refresh: bool = True) -> FeatureStore:
        scratch = tmp_path / name / f"run-{next(runs)}"
        scratch.mkdir(parents=True)
        opened = FeatureStore(bucket, key, D, cache=tmp_path / name / "f", scratch=scratch, listener=told.append)
        if refresh:
            opened.refresh()
        return opened

    return make


def test_what_one_machine_kept_another_reads_in_the_order_asked_for(machine: Open) -> None:
    machine("one").write(features("x", "y", "z"))
    other = machine("two")
    found = other.read(array("z", "x", "y", "x"))
    assert found.dtype == np.float32
    assert found == pytest.approx(np.array([unit(name) for name in ("z", "x", "y", "x")]), abs=2e-3)
    assert np.abs(np.linalg.norm(found, axis=1) - 1).max() < 1e-6
    assert other.has(array("x", "new", "z")).tolist() == [True, False, True]


def test_where_nothing_is_kept_nothing_is_known(machine: Open) -> None:
    opened = machine()
    assert opened.has(array("x")).tolist() == [False]
    assert opened.has(array()).tolist() == []
    assert opened.read(array()).shape == (0, D)
    with pytest.raises(StateDamaged, match=f"lacks the embedding of the picture {digest('x').hex()}"):
        opened.read(array("x"))


def test_a_digest_that_ends_with_zero_bytes_is_told_from_another_and_named_whole(machine: Open) -> None:
    one, other = bytes([1]) + bytes(31), bytes([1, 0, 1]) + bytes(29)
    machine().write(Features((one,), features("x").vectors))
    opened = machine()
    assert opened.has(np.array([one, other, bytes(32)], "S32")).tolist() == [True, False, False]
    with pytest.raises(StateDamaged, match=other.hex()):
        opened.read(np.array([other], "S32"))


def test_nothing_is_known_before_it_is_looked(machine: Open) -> None:
    machine().write(features("x"))
    opened = machine("two", refresh=False)
    assert not opened.is_loaded
    opened.refresh()
    assert opened.is_loaded
    assert opened.has(array("x")).all()


def test_a_part_is_never_changed_and_the_same_content_is_one_part(machine: Open, store: MemoryStore) -> None:
    opened = machine()
    first = opened.write(features("x"))
    generation = store.listing("")[0].generation
    assert opened.write(features("x")) == machine("two").write(features("x")) == first
    opened.write(features("y"))
    assert len(names(store)) == 2
    assert store.stat(first).generation == generation  # type: ignore[union-attr]


def test_another_model_knows_nothing_of_these(machine: Open) -> None:
    machine().write(features("x"))
    assert not machine(key="model-b").has(array("x")).any()


def test_a_picture_that_two_batches_embedded_is_read_once(machine: Open) -> None:
    machine("one").write(features("x", "y"))
    machine("two").write(features("y", "z"))
    found = machine("three").read(array("x", "y", "z"))
    assert found == pytest.approx(np.array([unit(name) for name in "xyz"]), abs=2e-3)


def test_rows_far_apart_in_many_groups_are_found(machine: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BLOCK_ROWS", 7)
    every = [str(number) for number in range(100)]
    machine().write(features(*every[:60]))
    machine().write(features(*every[60:]))
    wanted = every[::-3]
    assert machine().read(array(*wanted)) == pytest.approx(np.array([unit(name) for name in wanted]), abs=2e-3)


@pytest.mark.parametrize("place", [-20, 70, 3], ids=["its tail", "a number", "a picture"])
def test_a_damaged_part_counts_as_absent_is_named_and_mended_by_the_next_embedding(
    machine: Open, store: MemoryStore, told: list[Event], place: int
) -> None:
    machine().write(features("x"))
    name = machine().write(features("y"))
    data = bytearray(store.read(name, limit=2**20).data)
    data[place % len(data)] ^= 1
    store.write(name, bytes(data), if_generation_match=None)
    other = machine("two")
    assert other.has(array("x", "y")).tolist() == [True, False]
    (warning,) = told
    assert isinstance(warning, Warned)
    assert name in warning.message
    assert other.read(array("x")) == pytest.approx(unit("x")[np.newaxis], abs=2e-3)
    assert other.write(features("y")) == name
    assert machine("three").has(array("x", "y")).all()
    assert len(told) == 1


def test_a_copy_is_fetched_once_for_all_runs_of_a_machine(machine: Open, store: MemoryStore) -> None:
    machine("elsewhere").write(features("x"))
    fetched = fetches(store)
    for _ in range(3):
        machine("one").read(array("x"))
    assert len(fetched) == 2  # its head, and a block


def test_what_somebody_else_left_among_the_parts_is_passed_over(
    machine: Open, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine().write(features("a"))
    for name in ("", "README.txt", "old/", f"old/{'0' * 32}.arrow"):  # a console's folders, and a person's
        store.write(f"features/{KEY}/{name}", b"", if_generation_match=0)
    there = machine()
    there.refresh()
    assert there.has(array("a")).tolist() == [True]
    monkeypatch.setattr(module, "SMALL_PARTS", 2)
    assert there.merge() == 0


@pytest.mark.parametrize("wrong", [np.zeros(D), np.full(D, 0.6), np.full(D, np.nan)], ids=["0", "1.2", "nan"])
def test_vectors_that_are_not_of_length_1_are_refused(machine: Open, wrong: np.ndarray) -> None:
    good = features("x", "y", "z")
    vectors = good.vectors.copy()
    vectors[1] = wrong
    machine().write(Features(good.digests, vectors))
    with pytest.raises(StateDamaged, match="length 1"):
        machine().read(array("x", "y"))


def test_many_small_parts_are_merged_with_every_row_and_the_merged_objects_are_deleted(
    machine: Open, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SMALL_PARTS", 10)
    monkeypatch.setattr(module, "BLOCK_ROWS", 4)
    every = [f"p{number}" for number in range(30)]
    opened = machine()
    for number in range(0, 27, 3):
        opened.write(features(*every[number : number + 3]))
    assert opened.merge() == 0
    assert len(names(store)) == 9
    opened.write(features(*every[27:]))
    assert opened.merge() == 10
    assert len(names(store)) == 1
    for reader in (machine("one"), machine("two")):
        assert reader.read(array(*every)) == pytest.approx(np.array([unit(name) for name in every]), abs=2e-3)


def test_merged_parts_are_of_a_size_and_large_ones_are_left_alone(
    machine: Open, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = machine()
    large = opened.write(features(*(f"large{number}" for number in range(500))))
    size = store.stat(large).size  # type: ignore[union-attr]
    monkeypatch.setattr(module, "SMALL_BYTES", size)
    monkeypatch.setattr(module, "SMALL_PARTS", 4)
    for number in range(8):
        opened.write(features(f"small{number}"))
    least = min(info.size for info in store.listing("features/"))
    monkeypatch.setattr(module, "MOST_BYTES", 3 * least)
    assert opened.merge() == 8
    assert large in names(store)
    assert len(names(store)) == 4  # of three, three and two
    assert machine("two").has(array("large499", *(f"small{number}" for number in range(8)))).all()


def test_a_damaged_part_is_not_merged_into_others_and_stays_for_a_person(
    machine: Open, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SMALL_PARTS", 3)
    written = [machine().write(features(name)) for name in "xyz"]
    store.write(written[0], b"nonsense", if_generation_match=None)
    machine("two").merge()
    assert written[0] in names(store)
    assert machine("three").has(array("x", "y", "z")).tolist() == [False, True, True]


def test_parts_that_are_merged_by_another_while_they_are_listed_are_listed_again(
    machine: Open, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SMALL_PARTS", 2)
    for name in "xyz":
        machine("one").write(features(name))
    other, listing, looks = machine("two", refresh=False), store.listing, []

    def merged_in_between(prefix: str) -> list[ObjectInfo]:
        found = listing(prefix)
        looks.append(prefix)
        if len(looks) == 1:
            machine("one", refresh=False).merge()
        return found

    monkeypatch.setattr(store, "listing", merged_in_between)
    other.refresh()
    assert other.has(array("x", "y", "z")).all()


def test_a_part_that_is_listed_and_never_there_is_said(
    machine: Open, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine().write(features("x"))
    found = store.listing("features/")
    store.delete(found[0].name)
    monkeypatch.setattr(store, "listing", lambda _: found)
    with pytest.raises(ObjectMissing):
        machine("two")


def test_copies_of_parts_that_are_gone_are_deleted_but_none_that_may_just_have_been_written(
    machine: Open, store: MemoryStore, tmp_path: Path
) -> None:
    machine().write(features("x"))
    store.delete(names(store)[0])
    (copy,) = (tmp_path / "one" / "f" / KEY).iterdir()
    assert not machine().has(array("x")).any()
    assert copy.exists()
    hours_ago = time.time() - 7200
    os.utime(copy, (hours_ago, hours_ago))
    machine()
    assert not copy.exists()


def test_nothing_half_made_is_left_in_the_scratch_folder(
    machine: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SMALL_PARTS", 2)
    for name in "xyz":
        machine().write(features(name))
    machine().merge()
    machine("two").read(array("x"))
    left = [path for path in tmp_path.glob("*/run-*/**/*") if path.is_file()]
    assert all(hashlib.sha256(path.read_bytes()).hexdigest()[:32] == path.stem for path in left)


def test_parts_that_another_run_of_this_machine_merges_are_still_read(
    machine: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SMALL_PARTS", 2)
    monkeypatch.setattr(module, "_STALE_SECONDS", -1)
    for name in "xyz":
        machine("one", refresh=False).write(features(name))
    before = machine("one")
    assert machine("one").merge() == 3
    machine("one")  # deletes copies of what is gone
    np.testing.assert_allclose(before.read(array("y", "x")), [unit("y"), unit("x")], atol=1e-3)
