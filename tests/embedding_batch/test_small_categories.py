"""Hundreds of small categories are one task and two files, and are answered, compared and proved as any other."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from embedding_batch.config import EXACT_ITEMS
from embedding_batch.errors import ChangeUnexpected
from model_repository.documents.build_diff import Gate
from model_repository.documents.index_manifest import Engine
from model_repository.documents.items.item_tags import parse_tag
from model_repository.names import IndexPrefix
from model_repository.repository import read_build
from model_repository.telemetry.log import Log
from search_server.build import open_and_prove
from search_server.build.index import MappedIndex
from search_server.build.partitions import search, to_item
from search_server.filters.restricts import Restriction
from tests.embedding_batch.conftest import pull
from tests.embedding_batch.test_diffing import diff_of
from tests.pictures import embed_here

if TYPE_CHECKING:
    from tests.embedding_batch.conftest import Shop

SIZES = {"large": 17, **{f"small-{number:03}": 1 + number % 5 for number in range(100)}}
"""So few of the large one, in 16 dimensions, that Annoy has one tree of one leaf, and finds all there is."""
ITEMS = sum(SIZES.values())


def write(path: Path, sizes: dict[str, int] = SIZES, **tags: list[str]) -> tuple[str, dict[str, NDArray[np.float32]]]:
    """Vectors of items that are called <category>.<number>, the same each time, as a file; and by item."""
    made = {
        f"{category}.{number}": np.random.default_rng([len(category), *category.encode(), number]).normal(size=16)
        for category, items in sizes.items()
        for number in range(items)
    }
    units = {item: np.asarray(vector / np.linalg.norm(vector), np.float32) for item, vector in made.items()}
    columns = {
        "id": list(units),
        "category": [item.partition(".")[0] for item in units],
        "vector": pa.array([vector.tolist() for vector in units.values()], pa.list_(pa.float32())),
    }
    if tags:
        columns["tags"] = pa.array([tags.get(item.replace("-", "_").replace(".", "_")) for item in units])
    pq.write_table(pa.table(columns), path)
    return str(path), units


def served(shop: Shop, folder: Path, build: str = "b1") -> MappedIndex:
    """The build as a pod has it, proved."""
    pull(shop, shop.manifest(build), folder)
    prefix = IndexPrefix("shop", build)
    index, _ = open_and_prove(folder, prefix, read_build(shop.store, prefix).digest, embed_here, Log())
    return index


def record(shop: Shop, step: str, build: str = "b1") -> dict[str, object]:
    name = next(info.name for info in shop.store.listing(f"shards/shop/{build}/") if f"/{step}.json" in info.name)
    found: dict[str, object] = json.loads(shop.store.read(name, limit=2**24).data)
    return found


def test_small_categories_share_two_files_and_a_large_one_has_its_own(shop: Shop, tmp_path: Path) -> None:
    where, _ = write(tmp_path / "a.parquet")
    report = shop.batch(vectors=where, exact_items=5)
    partitions = shop.manifest().partitions
    assert {one.category: one.items for one in partitions} == SIZES
    assert (report["items"], report["recall"]) == (ITEMS, 1.0)
    assert Counter(one.file for one in partitions) == {
        "partitions/0000-large.annoy": 1,
        "partitions/0001-small.exact": 100,
    }
    assert {one.engine for one in partitions if one.category != "large"} == {Engine.EXACT}
    assert len(shop.manifest().files) == 5  # two pairs, and the lookup
    assert record(shop, "collect")["parts"] == 2


def test_a_server_finds_what_comparing_all_finds_in_a_category_and_across_them(shop: Shop, tmp_path: Path) -> None:
    where, units = write(tmp_path / "a.parquet")
    shop.batch(vectors=where, exact_items=5)
    index = served(shop, tmp_path / "pod")
    for item in ("small-000.0", "small-004.4", "large.7", "small-099.2"):
        home, position = index.place(item)
        assert home.category == item.partition(".")[0]
        assert index.vector(item) == pytest.approx(units[item].tolist(), abs=1e-6)
        for category in (None, "small-003", "large"):
            among = {other: units[other] for other in units if other != item and other.startswith(category or "")}
            right = sorted(among, key=lambda other: np.linalg.norm(among[other] - units[item]))[:10]
            partitions = index.select(category)
            found = search(partitions, to_item(home, position, partitions), 10)
            assert [each.decode() for each in found.ids] == right
            assert found.categories == [other.partition(".")[0] for other in right]
    everything = [(item, item.partition(".")[0]) for item in units]
    assert sorted(index.listed(None, None, 1000)) == sorted(everything)
    assert len(index.manifest.golden_queries) == len(SIZES)  # as many as may be, one each


def test_tags_are_those_of_the_items_that_have_them(shop: Shop, tmp_path: Path) -> None:
    tags = {"small_001_1": ["sale"], "small_099_0": ["sale"], "large_3": ["sale"]}
    shop.batch(vectors=write(tmp_path / "a.parquet", **tags)[0], exact_items=5)
    index = served(shop, tmp_path / "pod")
    visible = index.restricts.visible(Restriction(((parse_tag("sale"),),)), index.masks)
    found = [each for part in index.restricted(index.partitions, visible) for each in part.nearest([1.0] * 16, 9).ids]
    assert sorted(found) == [b"large.3", b"small-001.1", b"small-099.0"]


def test_pictures_of_small_categories_are_one_task(shop: Shop, tmp_path: Path) -> None:
    report = shop.batch(exact_items=EXACT_ITEMS)
    assert (report["items"], record(shop, "collect")["parts"]) == (15, 1)
    assert {one.file for one in shop.manifest().partitions} == {"partitions/0000-small.exact"}
    index = served(shop, tmp_path / "pod")
    home, position = index.place("chair-1")
    partitions = index.select(home.category)
    found = search(partitions, to_item(home, position, partitions), 5)
    assert sorted(each.decode() for each in found.ids) == [f"chair-{number}" for number in range(2, 7)]


def test_the_same_again_is_the_same_bytes(shop: Shop, tmp_path: Path) -> None:
    where, _ = write(tmp_path / "a.parquet")
    for build in ("b1", "b2"):
        shop.batch(build, vectors=where, exact_items=5)
    assert shop.manifest("b1").files == shop.manifest("b2").files


def test_a_build_without_small_categories_says_nothing_that_an_earlier_release_does_not_know(
    shop: Shop, tmp_path: Path
) -> None:
    shop.batch(vectors=write(tmp_path / "a.parquet", {"a": 6, "b": 7})[0], exact_items=5)
    said = json.loads(shop.store.read("indexes/shop/b1/index.json", limit=2**20).data)
    assert [(one["engine"], "first" in one) for one in said["partitions"]] == [("annoy", False)] * 2


def test_a_category_that_outgrows_the_shared_files_is_the_same_category(shop: Shop, tmp_path: Path) -> None:
    before = {"grows": 5, "shrinks": 6, "large": 100, "stays": 4}
    after = {**before, "grows": 6, "shrinks": 5}
    shop.batch(vectors=write(tmp_path / "a.parquet", before)[0], exact_items=5)
    shop.batch("b2", vectors=write(tmp_path / "b.parquet", after)[0], exact_items=5)
    engines = [{one.category: one.engine for one in shop.manifest(build).partitions} for build in ("b1", "b2")]
    assert (engines[0]["grows"], engines[1]["grows"]) == (Engine.EXACT, Engine.ANNOY)
    assert (engines[0]["shrinks"], engines[1]["shrinks"]) == (Engine.ANNOY, Engine.EXACT)
    found = diff_of(shop)
    assert [found.total(name) for name in ("gone", "new", "moved")] == [1, 1, 0]
    assert (found.changed, found.stops) == (0, ())
    assert found.items.overlap > 0.95
    assert served(shop, tmp_path / "pod", "b2").manifest.items == 115


def test_what_goes_wrong_in_small_categories_is_seen_and_their_files_are_fetched_once(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    where, units = write(tmp_path / "a.parquet")
    shop.batch(vectors=where, exact_items=5)
    fetched: list[str] = []
    download = shop.store.download
    monkeypatch.setattr(shop.store, "download", lambda name, path: fetched.append(name) or download(name, path))
    table = pq.read_table(where)
    mixed_up = np.roll(np.stack(list(units.values())), 1, axis=0)
    table = table.set_column(2, "vector", pa.array(mixed_up.tolist(), pa.list_(pa.float32())))
    pq.write_table(table, tmp_path / "b.parquet")
    with pytest.raises(ChangeUnexpected):
        shop.batch("b2", vectors=str(tmp_path / "b.parquet"), exact_items=5)
    assert Gate.CHANGED in {stop.gate for stop in diff_of(shop).unexpected}
    assert max(Counter(name for name in fetched if name.endswith((".exact", "small.ids"))).values()) == 1


def test_a_thousand_categories_of_one_item_are_two_files(shop: Shop, tmp_path: Path) -> None:
    sizes = {f"c{number:04}": 1 for number in range(1000)}
    report = shop.batch(vectors=write(tmp_path / "a.parquet", sizes)[0], exact_items=EXACT_ITEMS)
    assert report["outcome"] == "committed"
    assert len(shop.manifest().files) == 3
    index = served(shop, tmp_path / "pod")
    home, position = index.place("c0500.0")
    assert len(search(index.partitions, to_item(home, position, index.partitions), 100).ids) == 100
    assert search(index.select("c0500"), to_item(home, position, ()), 100).ids == []
