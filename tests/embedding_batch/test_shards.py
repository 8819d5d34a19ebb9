"""What is looked at again, and what is not: today's list against yesterday's, in shards."""

from __future__ import annotations

import json
import os
from hashlib import sha256
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pytest

from embedding_batch.errors import StateDamaged
from embedding_batch.state.items import LONG
from embedding_batch.state.tables import read_table, write_table
from embedding_batch.steps.publish.models import new_model, own_model, publish_model
from model_repository.documents.model_manifest import ModelInput
from model_repository.names import IndexPrefix, ModelPrefix
from model_repository.repository import read_build
from model_repository.telemetry.log import Log
from search_server.build import open_and_prove
from search_server.build.partitions import search, to_vector
from tests.embedding_batch.conftest import CHAIRS, NOW, PRODUCTS, pull
from tests.embedding_batch.one_step import ANY, catalogue, category, do, shard
from tests.embedding_batch.test_own_models import SIZE, cells
from tests.pictures import embed_here

if TYPE_CHECKING:
    from tests.embedding_batch.conftest import Shop


def test_a_list_says_what_came_went_and_changed(shop: Shop) -> None:
    def changes(build: str) -> tuple[int, int, int]:
        said = shop.batch(build, limits=ANY)
        return said["came"], said["went"], said["changed"]

    assert changes("b1") == (15, 0, 0)
    assert changes("b2") == (0, 0, 0)
    shop.sells((*PRODUCTS[2:], "deer"))
    os.utime(shop.folder / "lamp-1.jpg", (1, 1))
    lines = [json.loads(line) for line in (shop.folder / "catalogue.jsonl").open()]
    for line in lines:
        os.utime(shop.folder / line["file"], (2, 2))
    assert changes("b3") == (1, 2, 13)  # another time may be another picture
    lines[0]["category"] = "Moved"
    catalogue(shop, *lines)
    assert changes("b4") == (0, 0, 1)


def test_no_picture_is_opened_whose_size_and_time_are_unchanged(shop: Shop) -> None:
    shop.batch("b1")
    for product in PRODUCTS:
        path = shop.folder / f"{product}.jpg"
        was = path.stat()
        path.write_bytes(bytes(was.st_size))  # who opened it would see that it is no picture any more
        os.utime(path, ns=(was.st_atime_ns, was.st_mtime_ns))
    report = shop.batch("b2")
    assert (report["items"], report["embedded"], report["broken"], report["changed"]) == (15, 0, [], 0)


def test_a_list_of_a_release_that_kept_short_texts_is_known(shop: Shop, tmp_path: Path) -> None:
    shop.batch("b1")
    do(shop, "list", build="dead")
    found = [info.name for info in shop.store.listing("shards/shop/dead/") if info.name.endswith(".parquet")]
    for name in ("catalogues/shop/b1.parquet", *found):
        table = read_table(shop.store, name, tmp_path)
        short = [each.with_type(pa.string()) if each.type == LONG else each for each in table.schema]
        write_table(shop.store, name, table.cast(pa.schema(short)), tmp_path)
    listed = do(shop, "list", build="b2")
    assert (listed["came"], listed["went"], listed["changed"], listed["pictures"]) == (0, 0, 0, 0)


def test_a_picture_that_only_moved_is_looked_at_and_not_embedded_again(shop: Shop) -> None:
    shop.batch("b1")
    os.utime(shop.folder / "chair-1.jpg", ns=(1, 1))
    assert shop.batch("b2")["embedded"] == 0
    assert do(shop, "fetch", 0, build="b2")["fetched"] == 1  # as its record says


def test_what_a_run_that_died_found_out_the_next_one_knows(shop: Shop) -> None:
    do(shop, "list", build="dead")
    do(shop, "fetch", 0, build="dead")
    do(shop, "embed", 0, build="dead")
    for product in PRODUCTS:
        path = shop.folder / f"{product}.jpg"
        was = path.stat()
        path.write_bytes(bytes(was.st_size))
        os.utime(path, ns=(was.st_atime_ns, was.st_mtime_ns))
    listed = do(shop, "list", build="b1")
    assert (listed["items"], listed["pictures"], listed["shards"]) == (15, 0, 0)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "can't be read"),
        (b'{"items": 1', "can't be read"),
        (b"\xff", "can't be read"),
        (b"[]", "no JSON object"),
        (b"{}", "doesn't say '"),
    ],
)
def test_a_record_that_is_damaged_or_another_release_s_is_named_with_the_mend(
    shop: Shop, data: bytes, says: str
) -> None:
    do(shop, "list")
    for name, then in (("list.json", ("fetch", 0)), ("plan.json", ("fetch", 0)), ("list.json", ("report",))):
        was = shop.store.read(f"shards/shop/b1/{name}", limit=2**20).data
        shop.store.write(f"shards/shop/b1/{name}", data, if_generation_match=None)
        with pytest.raises(StateDamaged, match=rf"^shards/shop/b1/{name}: .*{says}.*begin a new "):
            do(shop, *then)
        shop.store.write(f"shards/shop/b1/{name}", was, if_generation_match=None)
    assert do(shop, "fetch", 0)["fetched"] == 15


def test_folders_that_a_console_made_are_no_state(shop: Shop) -> None:
    do(shop, "list", build="dead")
    for name in ("catalogues/shop/", "shards/shop/", "shards/shop/dead/failed/", "shards/shop/dead/fetched-all/"):
        shop.store.write(name, b"", if_generation_match=0)
    assert do(shop, "report", build="dead")["outcome"] == "unfinished"
    assert do(shop, "list", build="b1")["pictures"] == 15


def test_what_a_run_that_died_did_not_get_to_is_left_to_the_next_one(shop: Shop) -> None:
    assert do(shop, "list", build="dead", shard_pictures=5)["shards"] == 3
    do(shop, "fetch", 1, build="dead", shard_pictures=5)
    do(shop, "embed", 1, build="dead", shard_pictures=5)
    do(shop, "fetch", 2, build="dead", shard_pictures=5)
    assert do(shop, "list", build="b1")["pictures"] == 10


def test_shards_have_no_more_pictures_than_allowed_and_each_picture_once(shop: Shop, tmp_path: Path) -> None:
    lines = [{"id": f"{product}-{n}", "category": f"c{n}", "file": f"{product}.jpg"} for product in PRODUCTS
             for n in range(3)]  # fmt: skip
    catalogue(shop, *lines)
    listed = do(shop, "list", shard_pictures=4)
    assert (listed["items"], listed["pictures"], listed["shards"]) == (45, 15, 4)
    pictures = [shard(shop, tmp_path, number)["picture"].to_pylist() for number in range(4)]
    assert [len(one) for one in pictures] == [4, 4, 4, 3]
    assert sorted(picture for one in pictures for picture in one) == sorted(
        str(shop.folder / f"{product}.jpg") for product in PRODUCTS
    )


def test_embeddings_of_a_category_stand_together_for_whoever_builds_it(shop: Shop) -> None:
    shop.batch("b1")
    (part,) = shop.store.listing("features/")
    head = shop.store.read_range(part.name, 0, 32 * len(PRODUCTS))
    rows = [head[start : start + 32] for start in range(0, len(head), 32)]
    of = {sha256((shop.folder / f"{one}.jpg").read_bytes()).digest(): category(shop, one) for one in PRODUCTS}
    assert [name for name, _ in groupby(of[row] for row in rows)] == sorted(set(of.values()))


def test_a_shard_has_pictures_of_one_model_and_a_picture_of_two_is_in_a_shard_of_each(
    shop: Shop, tmp_path: Path
) -> None:
    local = own_model(cells(tmp_path / "m"), "cells", "1", ModelInput(SIZE), normalised=False, least_cosine=0.999)
    publish_model(shop.store, local, new_model(local, [(shop.folder / "bed-1.jpg").read_bytes()], NOW))
    catalogue(
        shop,
        *({"id": product, "category": "all", "file": f"{product}.jpg"} for product in CHAIRS),
        {"id": "again", "category": "own", "file": "chair-1.jpg"},
        {"id": "other", "category": "own", "file": "bed-1.jpg"},
    )
    models = {"own": ModelPrefix("cells", "1")}
    listed = do(shop, "list", models=models)
    assert listed["shards"] == 2
    found = {
        listed["models"][place]["categories"][0]: shard(shop, tmp_path, number)["picture"].to_pylist()
        for number, place in enumerate(listed["shard_models"])
    }
    assert sorted(found["all"]) == [str(shop.folder / f"{product}.jpg") for product in CHAIRS]
    assert sorted(found["own"]) == [str(shop.folder / f"{product}.jpg") for product in ("bed-1", "chair-1")]
    report = shop.batch(models=models)
    assert (report["items"], report["embedded"]) == (8, 8)
    assert {partition.dimensions for partition in shop.manifest().partitions} == {48, 1280}


@pytest.mark.parametrize("most", [2, 3, 100])
def test_a_large_category_is_built_in_parts_and_a_server_answers_for_the_whole_of_it(
    shop: Shop, tmp_path: Path, most: int
) -> None:
    shop.batch(part_items=most)
    sizes = [one.items for one in shop.manifest().partitions if one.category == category(shop, "chair-1")]
    assert sizes == {2: [2, 2, 2], 3: [3, 3], 100: [6]}[most]
    pull(shop, shop.manifest(), tmp_path / "pod")
    prefix = IndexPrefix("shop", "b1")
    index, (model,) = open_and_prove(tmp_path / "pod", prefix, read_build(shop.store, prefix).digest, embed_here, Log())
    listed = index.listed(category(shop, "chair-1"), None, 99)
    assert sorted(item for item, _ in listed) == list(CHAIRS)
    for product in CHAIRS:
        vector = embed_here(model, (shop.folder / f"{product}.jpg").read_bytes())
        assert search(index.partitions, to_vector(vector, index.partitions), 1).ids == [product.encode()]
