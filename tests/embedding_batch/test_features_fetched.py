"""What of the embeddings is fetched, counted before the real bucket server, and what of that is believed."""

from __future__ import annotations

import hashlib
import io
import itertools
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pyarrow as pa
import pytest

from embedding_batch.errors import StateDamaged
from embedding_batch.events import Event, Warned
from embedding_batch.state.features import BLOCK_ROWS, Features, FeatureStore
from model_repository.bucket.gcs_store import GcsStore
from model_repository.bucket.store import ObjectInfo, Store
from model_repository.errors import BucketUnavailable
from tests.embedding_batch.faulty_bucket import Fault, faulty_bucket
from tests.memory_store import MemoryStore

D = 512
KEY = "model-a"
ROWS = 3 * BLOCK_ROWS
CATEGORIES = 8
HEAD = 32 * (ROWS + 3)


def features(first: int, rows: int, dimensions: int = D) -> Features:
    vectors = np.random.default_rng(first).normal(size=(rows, dimensions))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return Features(tuple(hashlib.sha256(str(first + row).encode()).digest() for row in range(rows)),
                    vectors.astype(np.float16))  # fmt: skip


def array(some: Features) -> np.ndarray:
    return np.array(some.digests, "S32")


def refreshed(features: FeatureStore) -> FeatureStore:
    features.refresh()
    return features


Open = Callable[[Store], FeatureStore]


@pytest.fixture
def told() -> list[Event]:
    return []


@pytest.fixture
def machine(tmp_path: Path, told: list[Event]) -> Open:
    """Opens the embeddings on a machine that has none of them."""
    numbers = itertools.count()

    def make(store: Store) -> FeatureStore:
        folder = tmp_path / f"machine-{next(numbers)}"
        (folder / "scratch").mkdir(parents=True)
        return FeatureStore(store, KEY, D, cache=folder / "f", scratch=folder / "scratch", listener=told.append)

    return make


def test_who_lists_fetches_the_heads_alone_and_who_builds_the_blocks_of_one_category(
    bucket_server: str, new_bucket: Callable[[], str], machine: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = new_bucket()
    with faulty_bucket(bucket_server) as proxy:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", proxy.url)
        store = GcsStore(bucket)
        categories = [features(number * ROWS, ROWS) for number in range(CATEGORIES)]
        mixed = features(CATEGORIES * ROWS, ROWS)  # of all categories, one after another, as a shard of what is new is
        writer = machine(store)
        for each in (*categories, mixed):
            writer.write(each)

        def fetched() -> int:
            return sum(size for path, size in proxy.answered if f"/features/{KEY}/" in unquote(path))

        proxy.begin()
        pod = machine(store)
        pod.refresh(anew=True)
        assert pod.has(array(categories[3])).all()
        assert fetched() == (CATEGORIES + 1) * HEAD
        proxy.begin()
        pod = machine(store)
        pod.refresh()
        digests = np.concatenate([array(categories[3]), array(mixed)[:10]])
        found = pod.read(digests)
        np.testing.assert_allclose(found[:ROWS], categories[3].vectors.astype(np.float32), atol=2e-3)
        assert fetched() == (CATEGORIES + 1) * HEAD + (ROWS + BLOCK_ROWS) * 2 * D
        proxy.begin()
        np.testing.assert_array_equal(pod.read(digests), found)
        assert fetched() == 0, "this machine has it"


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


def beneath(store: MemoryStore, name: str, place: int, data: bytes) -> None:
    """Change an object's bytes, but not what the bucket says of it."""
    info, was = store._objects[name]
    store._objects[name] = info, was[:place] + data + was[place + len(data) :]


def test_bytes_that_are_not_those_of_the_name_are_never_read_and_asked_for_again(
    store: MemoryStore, machine: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine(store).write(some := features(0, ROWS))
    (info,) = store.listing("features/")
    whole = store.read(info.name, limit=info.size).data
    read_range, spoilt = store.read_range, ["the head"]

    def on_its_way(name: str, start: int, size: int) -> bytes:
        data = read_range(name, start, size)
        return data[:-1] + bytes([data[-1] ^ 1]) if spoilt and spoilt.pop() else data

    monkeypatch.setattr(store, "read_range", on_its_way)
    pod = machine(store)
    pod.refresh()
    spoilt.append("a block")
    np.testing.assert_allclose(pod.read(array(some)), some.vectors.astype(np.float32), atol=2e-3)
    for place, zeros in ((HEAD, bytes(2 * D)), (5, b"\0")):  # an embedding of zeros, and another picture
        beneath(store, info.name, place, zeros)
        with pytest.raises(BucketUnavailable, match=f"{info.name}: the bytes that came .* delete that object"):
            refreshed(machine(store)).read(array(some))
        beneath(store, info.name, 0, whole)


@pytest.mark.parametrize("damage", ["flipped", "zeroed", "cut", "emptied", "head"])
def test_what_this_machine_has_is_fetched_again_where_it_is_damaged(
    store: MemoryStore, machine: Open, tmp_path: Path, damage: str
) -> None:
    (pod := machine(store)).write(some := features(0, ROWS))
    (copy,) = tmp_path.glob("machine-*/f/*/*")
    whole = copy.read_bytes()
    spoilt = {
        "flipped": whole[:-1] + bytes([whole[-1] ^ 1]),
        "zeroed": whole[:HEAD] + bytes(len(whole) - HEAD),
        "cut": whole[: len(whole) // 2],
        "emptied": b"",
        "head": bytes(HEAD) + whole[HEAD:],
    }[damage]
    copy.write_bytes(spoilt)
    pod.refresh()
    np.testing.assert_allclose(pod.read(array(some)), some.vectors.astype(np.float32), atol=2e-3)
    assert copy.read_bytes() == whole


def test_parts_that_were_swapped_cut_or_padded_count_as_absent_and_are_named(
    store: MemoryStore, machine: Open, told: list[Event]
) -> None:
    every = [features(number * ROWS, ROWS) for number in range(5)]
    names = [machine(store).write(each) for each in every]
    data = [store.read(name, limit=2**30).data for name in names]
    for name, other in zip(names, (data[1], data[0], data[2][:-2], data[3] + b"\0"), strict=False):
        store.write(name, other, if_generation_match=None)
    (pod := machine(store)).refresh()
    assert [bool(pod.has(array(each)).all()) for each in every] == [False, False, False, False, True]
    assert [isinstance(one, Warned) and name in one.message for name, one in zip(sorted(names[:4]), told, strict=True)]


def test_what_earlier_releases_wrote_is_read_and_rewritten_but_for_what_is_damaged(
    store: MemoryStore, machine: Open, told: list[Event]
) -> None:
    some = [features(number * ROWS, ROWS) for number in range(2)]
    names = [write_as_before(store, each) for each in some]
    data = store.read(names[1], limit=2**30).data
    store.write(names[1], data[:-1] + b"?", if_generation_match=None)
    (pod := machine(store)).refresh()
    np.testing.assert_allclose(pod.read(array(some[0])), some[0].vectors.astype(np.float32), atol=2e-3)
    assert not pod.has(array(some[1])).any()
    (warning,) = told
    assert isinstance(warning, Warned)
    assert names[1] in warning.message
    standing = {info.name for info in store.listing("features/")}
    assert standing - {names[1]} == {machine(store).write(some[0])}


def write_as_before(store: Store, some: Features) -> str:
    schema = pa.schema([
        pa.field("image_sha256", pa.binary(32), nullable=False),
        pa.field("embedding", pa.list_(pa.float16(), D), nullable=False),
    ])  # fmt: skip
    embedding = pa.FixedSizeListArray.from_arrays(pa.array(some.vectors.ravel(), pa.float16()), D)
    stream = io.BytesIO()
    with pa.ipc.new_file(stream, schema) as writer:
        writer.write_table(pa.table([pa.array(some.digests, pa.binary(32)), embedding], schema), 100)
    name = f"features/{KEY}/{hashlib.sha256(stream.getvalue()).hexdigest()[:32]}.arrow"
    store.write(name, stream.getvalue(), if_generation_match=0)
    return name


def test_what_is_deleted_before_it_was_fetched_is_said_and_what_was_merged_is_found(
    store: MemoryStore, machine: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    some = [features(number * ROWS, ROWS) for number in range(3)]
    for each in some:
        machine(store).write(each)
    (pod := machine(store)).refresh()
    monkeypatch.setattr("embedding_batch.state.features.SMALL_PARTS", 3)
    assert machine(store).merge() == 3
    assert len(pod.read(np.concatenate([array(each) for each in some]))) == 3 * ROWS
    (other := machine(store)).refresh()
    store.delete(store.listing("features/")[0].name)
    with pytest.raises(StateDamaged, match=r"lacks the embedding .* run the batch again"):
        other.read(array(some[0]))


def test_a_part_that_is_replaced_after_it_was_listed_is_found_when_it_is_read(
    store: MemoryStore, machine: Open, told: list[Event]
) -> None:
    one, other = features(0, ROWS), features(ROWS, ROWS)
    name, another = (machine(store).write(each) for each in (one, other))
    pod = refreshed(machine(store))
    store.write(name, store.read(another, limit=2**30).data, if_generation_match=None)
    with pytest.raises(StateDamaged, match=r"lacks the embedding .* run the batch again"):
        pod.read(array(one))
    assert [name in str(one) for one in told] == [True]
    assert machine(store).write(one) == name
    assert len(pod.read(array(other))) == len(refreshed(pod).read(array(one))) == ROWS


def test_what_is_deleted_just_when_it_is_written_again_is_written(
    store: MemoryStore, machine: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine(store).write(some := features(0, ROWS))
    stat = store.stat

    def merged_meanwhile(name: str) -> ObjectInfo | None:
        del store._objects[name]
        return stat(name)

    monkeypatch.setattr(store, "stat", merged_meanwhile)
    machine(store).write(some)
    assert refreshed(machine(store)).has(array(some)).all()


@pytest.mark.parametrize("fault", [503, 429, "cut", "reset", "lost"])
def test_of_a_bucket_of_which_every_other_answer_is_a_fault_all_is_read(
    bucket_server: str, new_bucket: Callable[[], str], machine: Open, monkeypatch: pytest.MonkeyPatch, fault: Fault
) -> None:
    bucket = new_bucket()
    some = [features(number * ROWS, ROWS) for number in range(3)]
    with faulty_bucket(bucket_server) as proxy:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", proxy.url)
        store = GcsStore(bucket)
        for each in some:
            machine(store).write(each)
        proxy.begin(lambda asked: fault if asked.number % 2 else None)
        found = refreshed(machine(store)).read(np.concatenate([array(each) for each in some]))
        np.testing.assert_allclose(found, np.concatenate([each.vectors for each in some]), atol=2e-3)


class Mortal(MemoryStore):
    """A bucket whose run is killed once it changed so much."""

    changes = -1

    def write(self, name: str, data: bytes, *, if_generation_match: int | None) -> ObjectInfo:
        """See `store.Store.write`."""
        self._may_change()
        return super().write(name, data, if_generation_match=if_generation_match)

    def delete(self, name: str, *, if_generation_match: int | None = None) -> None:
        """See `store.Store.delete`."""
        self._may_change()
        super().delete(name, if_generation_match=if_generation_match)

    def _may_change(self) -> None:
        if self.changes == 0:
            raise KeyboardInterrupt
        self.changes -= 1


def test_whenever_a_run_dies_that_rewrites_or_merges_the_next_one_has_all_of_it(
    machine: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("embedding_batch.state.features.SMALL_PARTS", 3)
    some = [features(number * ROWS, ROWS) for number in range(4)]

    def ends_with(kills_after: int) -> tuple[bool, dict[str, int]]:
        store = Mortal()
        for each in some[:2]:
            write_as_before(store, each)
        for each in some[2:]:
            machine(store).write(each)
        store.changes = kills_after
        died = True
        with suppress(KeyboardInterrupt):
            refreshed(machine(store)).merge()
            died = False
        store.changes = -1
        pod = refreshed(machine(store))
        pod.merge()
        for reader in (pod, refreshed(machine(store))):
            found = reader.read(np.concatenate([array(each) for each in some]))
            np.testing.assert_allclose(found, np.concatenate([each.vectors for each in some]), atol=2e-3)
        return died, {info.name: info.size for info in store.listing("features/")}

    _, whole = ends_with(-1)
    assert [info.split("-")[-2] for info in whole] == [str(4 * ROWS)]
    ended = [ends_with(kills_after) for kills_after in range(10)]
    assert [died for died, _ in ended] == [True] * 9 + [False]
    assert max(sum(parts.values()) for _, parts in ended) <= 2 * sum(whole.values())
