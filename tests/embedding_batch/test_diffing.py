"""A build that is worse doesn't go live by itself, and one that is as shops change does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from embedding_batch.errors import ChangeUnexpected, ItemsDropped, RecallTooLow
from embedding_batch.events import Warned
from embedding_batch.method import Method
from embedding_batch.steps.diff.gates import Gates
from model_repository.documents.build_diff import BuildDiff, Gate, TagDiff, diff_name, parse_build_diff
from model_repository.documents.index_manifest import Engine
from model_repository.exit_codes import ExitCode
from model_repository.names import IndexPrefix, Target
from model_repository.repository import read_live_commit
from tests.catalogues import HONEST, PLANTED, Catalogue, an_hour_later, make_catalogue

if TYPE_CHECKING:
    from tests.embedding_batch.conftest import Shop

TARGET = Target("production", "shop")
HNSW = Method(Engine.FAISS_HNSW)


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return make_catalogue(1000, 16, 4)


def live(shop: Shop) -> str:
    return read_live_commit(shop.store, TARGET).commit.index_prefix.build


def diff_of(shop: Shop, build: str = "b2") -> BuildDiff:
    prefix = IndexPrefix("shop", build)
    return parse_build_diff(shop.store.read(diff_name(prefix), limit=2**26).data, prefix)


def test_hours_as_shops_have_them_go_live_by_themselves(shop: Shop, catalogue: Catalogue, tmp_path: Path) -> None:
    now = catalogue
    for hour in range(6):
        method = HNSW if hour % 2 else Method()  # the engine may be another one, too
        shop.batch(f"b{hour}", vectors=now.write(tmp_path / "a.parquet"), method=method)
        assert live(shop) == f"b{hour}"
        now = an_hour_later(now, hour)
    found = diff_of(shop, "b5")
    assert 0 < found.total("gone") < 30
    assert 0 < found.total("new") < 30
    assert (found.stops, found.golden.asked, found.against.build) == ((), 0, "b4")
    assert found.items.overlap > 0.9
    assert found.swapped == 0


@pytest.mark.parametrize("what", HONEST)
def test_what_else_shops_do_goes_live_by_itself(shop: Shop, catalogue: Catalogue, tmp_path: Path, what: str) -> None:
    shop.batch(vectors=catalogue.write(tmp_path / "a.parquet"), method=HNSW)
    now = HONEST[what](an_hour_later(catalogue, 1), np.random.default_rng(2))
    shop.batch("b2", vectors=now.write(tmp_path / "b.parquet"), method=HNSW)
    assert live(shop) == "b2"


@pytest.mark.parametrize("what", PLANTED)
def test_a_build_that_went_wrong_is_published_and_not_committed(
    shop: Shop, catalogue: Catalogue, tmp_path: Path, what: str
) -> None:
    shop.batch(vectors=catalogue.write(tmp_path / "a.parquet"), method=HNSW)
    worse = PLANTED[what](an_hour_later(catalogue, 1), np.random.default_rng(2))
    with pytest.raises((ChangeUnexpected, ItemsDropped, RecallTooLow)):
        shop.batch("b2", vectors=worse.write(tmp_path / "b.parquet"), method=HNSW)
    assert live(shop) == "b1"


def test_the_last_word_on_a_stopped_build_says_why_and_how_it_goes_live_anyway(
    shop: Shop, catalogue: Catalogue, tmp_path: Path
) -> None:
    shop.batch(vectors=catalogue.write(tmp_path / "a.parquet"), method=HNSW)
    worse = PLANTED["a category lost"](catalogue, np.random.default_rng(2)).write(tmp_path / "b.parquet")
    for _ in range(2):  # another try ends the same
        with pytest.raises(ChangeUnexpected) as raised:
            shop.batch("b2", vectors=worse, method=HNSW)
    assert raised.value.exit_code == ExitCode.STOPPED
    assert "categories: 'c0' lost" in str(raised.value)
    assert "indexpush commit shop b2 --environment production" in str(raised.value)
    report = json.loads(shop.store.read("reports/shop/b2.json", limit=2**20).data)
    assert (report["outcome"], report["against"]) == ("stopped", "indexes/shop/b1")
    assert (report["stops"][0]["gate"], report["errors"][0]["code"]) == ("categories", "change-unexpected")
    assert [stop.gate for stop in diff_of(shop).unexpected] == [Gate.CATEGORIES]
    assert diff_of(shop).environments == ("production",)
    shop.batch("b3", vectors=worse, method=HNSW, commits=False)
    assert diff_of(shop, "b3").environments == ()


def test_tags_that_are_lost_stop_a_build_for_searches_that_ask_for_them_would_fail(
    shop: Shop, catalogue: Catalogue, tmp_path: Path
) -> None:
    def with_tags(file: str, tags: list[list[str]]) -> str:
        path = tmp_path / file
        table = pq.read_table(catalogue.write(path))
        pq.write_table(table.append_column("tags", pa.array(tags, pa.list_(pa.string()))), path)
        return str(path)

    full = [["brand=acme", f"colour={row % 7}"] for row in range(len(catalogue))]
    shop.batch(vectors=with_tags("a.parquet", full), method=HNSW)
    without_a_name = with_tags("b.parquet", [["brand=acme"] for _ in full])
    of_few = with_tags("c.parquet", [tags if row % 3 == 0 else [] for row, tags in enumerate(full)])
    none = catalogue.write(tmp_path / "d.parquet")
    for build, worse, why in (
        ("b2", without_a_name, "no item has a tag 'colour', 1000 had"),
        ("b3", of_few, "more than half are lost"),
        ("b4", none, "'brand' and 1 more"),
    ):
        with pytest.raises(ChangeUnexpected, match=why):
            shop.batch(build, vectors=worse, method=HNSW)
    assert diff_of(shop, "b4").tags == (TagDiff("brand", 1000, 0), TagDiff("colour", 1000, 0))
    announced = Gates(expects=frozenset({Gate.TAGS}))
    assert shop.batch("b5", vectors=none, method=HNSW, gates=announced)["outcome"] == "committed"


def test_a_change_that_is_announced_goes_live_and_another_one_does_not(
    shop: Shop, catalogue: Catalogue, tmp_path: Path
) -> None:
    shop.batch(vectors=catalogue.write(tmp_path / "a.parquet"), method=HNSW)
    twice = PLANTED["half of it twice"](catalogue, np.random.default_rng(2)).write(tmp_path / "b.parquet")
    with pytest.raises(ChangeUnexpected):
        shop.batch("b2", vectors=twice, method=HNSW, gates=Gates(expects=frozenset({Gate.MOVED})))
    announced = frozenset({Gate.NEW, Gate.DOUBLED})
    assert shop.batch("b3", vectors=twice, method=HNSW, gates=Gates(expects=announced))["outcome"] == "committed"
    found = diff_of(shop, "b3")
    assert found.stops
    assert found.unexpected == ()


def test_what_serves_and_can_not_be_read_stops_no_good_build(shop: Shop, catalogue: Catalogue, tmp_path: Path) -> None:
    vectors = catalogue.write(tmp_path / "a.parquet")
    shop.batch(vectors=vectors, method=HNSW)
    broken = f"indexes/shop/b1/{shop.manifest().partitions[0].file}"
    shop.store.write(broken, b"x" * 100, if_generation_match=None)
    assert shop.batch("b2", vectors=vectors, method=HNSW)["outcome"] == "committed"
    assert any(
        "can't be read, so nothing is compared" in each.message for each in shop.events if isinstance(each, Warned)
    )
    shop.store.delete(f"indexes/shop/b2/{shop.manifest('b2').lookup}")
    assert shop.batch("b3", vectors=vectors, method=HNSW)["outcome"] == "committed"


def test_items_that_share_a_picture_from_now_on_have_not_taken_each_others(
    shop: Shop, catalogue: Catalogue, tmp_path: Path
) -> None:
    shop.batch(vectors=catalogue.write(tmp_path / "a.parquet"), method=HNSW)
    vectors = catalogue.vectors.copy()
    vectors[-40:] = vectors[-50]  # a picture that says "to come"
    shared = Catalogue(catalogue.ids, catalogue.categories, vectors, catalogue.next_id)
    shop.batch("b2", vectors=shared.write(tmp_path / "b.parquet"), method=HNSW)
    found = diff_of(shop)
    assert found.swapped == 0
    assert found.changed > 10
    assert found.examples[0].before != found.examples[0].after


def test_parts_of_a_category_are_asked_as_one(shop: Shop, catalogue: Catalogue, tmp_path: Path) -> None:
    vectors = catalogue.write(tmp_path / "a.parquet")
    shop.batch(vectors=vectors, method=HNSW)
    shop.batch("b2", vectors=vectors, method=HNSW, part_items=60)
    assert len(shop.manifest("b2").partitions) > len(shop.manifest("b1").partitions)
    found = diff_of(shop)
    assert found.items.overlap > 0.97
    assert found.total("moved") == found.changed == 0


def test_pictures_of_the_examples_are_named_where_the_catalogue_knows_them(shop: Shop) -> None:
    shop.batch()
    shop.sells([*(f"chair-{n}" for n in range(1, 6)), "chair-7", "lamp-1", "lamp-2", "lamp-3", "lamp-4"])
    shop.batch("b2", limits=shop.config.limits.__class__(most_dropped=0.9))
    found = diff_of(shop)
    assert found.examples
    named = [example.item for example in found.examples if not example.item.startswith("golden picture")]
    assert named
    assert all(found.pictures[item].endswith(f"{item}.jpg") for item in named)
    # golden pictures of the same model are asked, too; so few items are judged by their models alone
    assert found.golden.asked > 0
    assert found.stops == ()
