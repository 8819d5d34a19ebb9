"""What is looked at again, and what isn't: today's list against yesterday's, shards, pictures from the web."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
from aiohttp import web

from embedding_batch.errors import StateDamaged, TooManyBroken
from embedding_batch.pictures import Politeness
from embedding_batch.state.features import FeatureStore
from embedding_batch.state.folder import RunFolder
from embedding_batch.state.plan import open_plan
from embedding_batch.state.tables import read_table
from embedding_batch.step import step
from embedding_batch.steps.diff.gates import Gates
from embedding_batch.steps.guards import Limits
from embedding_batch.steps.publish.models import new_model, own_model, publish_model
from image_embedder import PictureUnreadable
from model_repository.documents.build_diff import Gate
from model_repository.documents.model_manifest import ModelInput, parse_model_manifest
from model_repository.names import IndexPrefix, ModelPrefix
from model_repository.repository import read_build
from model_repository.telemetry.log import Log
from operator_cli.commands.prune import prune
from search_server.build import open_and_prove
from tests.conftest import HOME_STORE
from tests.embedding_batch.conftest import NOW, PRODUCTS
from tests.embedding_batch.picture_host import PictureHost, hosting, status
from tests.embedding_batch.test_batch import CHAIRS, items_of, pull
from tests.embedding_batch.test_own_models import SIZE, cells
from tests.fake_clock import FakeClock
from tests.pictures import embed_here

if TYPE_CHECKING:
    from tests.embedding_batch.conftest import Shop

ANY = Limits(most_broken=1, most_dropped=1)
QUICK = Politeness(requests_a_second=1000, longest_pause=0.1, whole_seconds=20.0, tries=2)
STALE = -10.0
"""Of freshness: whatever was looked at up to now is to be looked at again."""


def do(shop: Shop, name: str, number: int | None = None, build: str = "b1", **changes: Any) -> dict[str, Any]:
    config = replace(shop.config, prefix=IndexPrefix("shop", build), **changes)
    plan = open_plan(shop.store, config, NOW)
    return step(name, number, config=config, plan=plan, store=shop.store, listener=shop.events.append)


def shard(shop: Shop, tmp_path: Path, number: int, kind: str = "shard", build: str = "b1") -> pa.Table:
    name = RunFolder(shop.store, IndexPrefix("shop", build)).table(kind, number)
    return read_table(shop.store, name, tmp_path)


def catalogue(shop: Shop, *lines: dict[str, str]) -> None:
    (shop.folder / "catalogue.jsonl").write_text("\n".join(map(json.dumps, lines)))


def category(shop: Shop, product: str) -> str:
    lines = map(json.loads, (shop.folder / "catalogue.jsonl").open())
    return next(str(line["category"]) for line in lines if line["id"] == product)


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
        assert index.nearest(vector, 1, index.partitions).ids == [product.encode()]


# From the web.


@pytest.fixture
def host() -> Iterator[PictureHost]:
    """Has the pictures of the home store at /<product>."""
    with hosting() as host:
        host.body = lambda path: (HOME_STORE / "images" / f"{path.strip('/')}.jpg").read_bytes()
        yield host


@pytest.fixture
def web_shop(shop: Shop, host: PictureHost) -> Shop:
    """Sells chairs whose pictures are on the host."""
    catalogue(shop, *({"id": product, "category": "c", "picture": host.url(product)} for product in CHAIRS))
    shop.config = replace(shop.config, politeness=QUICK, limits=ANY)
    return shop


def pictures_asked(host: PictureHost) -> int:
    return sum(arrival.path != "/robots.txt" for arrival in host.arrivals)


def kept(shop: Shop) -> list[str]:
    return [info.name for info in shop.store.listing("pictures/")]


def test_pictures_from_the_web_are_kept_once_in_the_bucket_by_their_bytes(web_shop: Shop, host: PictureHost) -> None:
    same = (HOME_STORE / "images" / "chair-1.jpg").read_bytes()
    host.body = lambda _: same
    report = web_shop.batch()
    assert (report["items"], report["embedded"]) == (6, 1)
    assert kept(web_shop) == [f"pictures/{hashlib.sha256(same).hexdigest()}"]
    assert web_shop.store.read(kept(web_shop)[0], limit=2**20).data == same
    assert pictures_asked(host) == 6


def test_a_picture_of_the_web_is_not_asked_for_while_it_is_fresh_and_costs_no_bytes_after(
    web_shop: Shop, host: PictureHost
) -> None:
    web_shop.batch("b1")
    sent = host.body_bytes
    web_shop.batch("b2")
    assert pictures_asked(host) == 6
    report = web_shop.batch("b3", fresh_seconds=STALE)
    assert (pictures_asked(host), host.body_bytes, report["embedded"]) == (12, sent, 0)


def test_a_picture_of_the_web_that_changed_is_seen_once_it_is_not_fresh(web_shop: Shop, host: PictureHost) -> None:
    web_shop.batch("b1")
    other = (HOME_STORE / "images" / "bed-1.jpg").read_bytes()

    async def changed(_: web.Request) -> web.Response:
        return web.Response(body=other, content_type="image/jpeg")

    host.always["chair-1"] = changed
    assert web_shop.batch("b2")["embedded"] == 0
    assert web_shop.batch("b3", fresh_seconds=STALE)["embedded"] == 1
    assert f"pictures/{hashlib.sha256(other).hexdigest()}" in kept(web_shop)


def test_a_url_that_the_catalogue_gives_a_version_is_asked_for_once_a_version(
    web_shop: Shop, host: PictureHost
) -> None:
    def sells(version: str) -> None:
        catalogue(web_shop, {"id": "a", "category": "c", "picture": host.url("chair-1"), "version": version})

    sells("1")
    web_shop.batch("b1", fresh_seconds=STALE)
    web_shop.batch("b2", fresh_seconds=STALE)
    assert pictures_asked(host) == 1
    sells("2")
    web_shop.batch("b3", fresh_seconds=STALE)
    assert pictures_asked(host) == 2


@pytest.mark.parametrize("answer", [503, 429])
def test_a_url_that_can_not_be_asked_now_keeps_what_was_known_of_it(
    web_shop: Shop, host: PictureHost, answer: int
) -> None:
    web_shop.batch("b1")
    host.always["chair-3"] = status(answer)
    report = web_shop.batch("b2", fresh_seconds=STALE)
    assert (report["items"], report["broken"], report["not_asked_again"]) == (6, [], 1)


def test_a_url_that_was_never_seen_and_can_not_be_asked_now_is_skipped_and_had_the_next_time(
    web_shop: Shop, host: PictureHost
) -> None:
    host.always["chair-3"] = status(503)
    assert [one["id"] for one in web_shop.batch("b1")["broken"]] == ["chair-3"]
    del host.always["chair-3"]
    assert web_shop.batch("b2")["broken"] == []


def test_a_url_that_is_gone_loses_its_item_until_it_is_there_again(web_shop: Shop, host: PictureHost) -> None:
    web_shop.batch("b1")
    host.always["chair-3"] = status(404)
    report = web_shop.batch("b2", fresh_seconds=STALE)
    assert [one["id"] for one in report["broken"]] == ["chair-3"]
    assert "404" in report["broken"][0]["reason"]
    assert [one["id"] for one in web_shop.batch("b3")["broken"]] == ["chair-3"], "it isn't fresh again for being lost"
    del host.always["chair-3"]
    assert web_shop.batch("b4")["embedded"] == 0
    assert "chair-3" in items_of(web_shop, IndexPrefix("shop", "b4"))


@pytest.mark.parametrize("fresh_seconds", [3600.0, STALE], ids=["fresh", "stale"])
def test_pictures_that_were_deleted_from_the_bucket_are_asked_for_again_when_a_model_needs_them(
    web_shop: Shop, host: PictureHost, fresh_seconds: float
) -> None:
    web_shop.batch("b1")
    for info in [*web_shop.store.listing("pictures/"), *web_shop.store.listing("features/")]:
        web_shop.store.delete(info.name)
    report = web_shop.batch("b2", fresh_seconds=fresh_seconds)
    assert (report["items"], report["embedded"], report["broken"]) == (6, 6, [])
    assert (len(kept(web_shop)), pictures_asked(host)) == (6, 12)


def test_pictures_that_are_deleted_while_a_run_goes_on_cost_no_item(web_shop: Shop, host: PictureHost) -> None:
    do(web_shop, "list")
    do(web_shop, "fetch", 0)
    gone = kept(web_shop)[:2]
    for name in gone:
        web_shop.store.delete(name)
    said = do(web_shop, "embed", 0)
    assert (said["embedded"], said["faults"], pictures_asked(host)) == (6, {}, 6 + 2)


def test_a_picture_that_neither_the_bucket_nor_its_host_has_any_more_is_said(web_shop: Shop, host: PictureHost) -> None:
    do(web_shop, "list")
    do(web_shop, "fetch", 0)
    web_shop.store.delete(kept(web_shop)[0])
    for chair in CHAIRS:
        host.always[chair] = status(404)
    said = do(web_shop, "embed", 0)
    assert (said["embedded"], len(said["faults"])) == (5, 1)
    (why,) = said["faults"].values()
    assert "404" in why


def test_records_say_which_parts_of_the_features_a_run_counts_on(shop: Shop) -> None:
    def said(build: str) -> tuple[list[str], list[str]]:
        folder = RunFolder(shop.store, IndexPrefix("shop", build))
        shards = range(folder.recorded("list")["shards"])
        embedded = {name for number in shards for name in folder.recorded("embed", number)["features"]}
        return folder.recorded("list")["features"], sorted(embedded)

    def parts() -> list[str]:
        return [info.name for info in shop.store.listing("features/")]

    def sells(*wanted: str) -> None:
        catalogue(shop, *(line for line in lines if line["id"] in wanted))

    shop.sells((*PRODUCTS, "deer"))
    lines = [json.loads(line) for line in (shop.folder / "catalogue.jsonl").open()]
    sells(*PRODUCTS)
    shop.batch("b1", limits=ANY)
    before = parts()
    assert said("b1") == ([], before)
    sells(*PRODUCTS, "deer")
    shop.batch("b2", limits=ANY)
    assert said("b2") == (before, sorted({*parts()} - {*before}))
    sells("deer")
    shop.batch("b3", limits=ANY)
    assert said("b3") == (said("b2")[1], [])
    os.utime(shop.folder / "deer.jpg", (1, 1))
    shop.batch("b4", limits=ANY)
    assert said("b4") == ([], said("b2")[1]), "looked at, and known by its bytes"


def test_prune_leaves_what_the_next_run_counts_on(shop: Shop) -> None:
    shop.batch("b1", limits=ANY)
    lines = [json.loads(line) for line in (shop.folder / "catalogue.jsonl").open()]
    catalogue(shop, *lines[:-1])
    shop.batch("b2", limits=ANY)
    clock = FakeClock(datetime.now(UTC) + timedelta(days=2))
    shop.store.write("features/k/a.arrow", b"of a model that nobody has any more", if_generation_match=0)
    found = prune(shop.store, clock, keep=1, apply=True, said=lambda _: None)
    assert (found.features, found.unsaid) == ({}, "")
    clock.moment += timedelta(days=30)
    assert list(prune(shop.store, clock, keep=1, apply=True, said=lambda _: None).features) == ["features/k/a.arrow"]
    assert shop.batch("b3", limits=ANY)["embedded"] == 0


def test_a_run_goes_on_when_the_features_that_it_counts_on_are_deleted(shop: Shop, monkeypatch: Any) -> None:
    shop.batch("b1")
    refresh = FeatureStore.refresh
    looks = 0

    def deleted_in_between(self: FeatureStore) -> None:
        nonlocal looks
        looks += 1
        if looks == 2:
            for info in shop.store.listing("features/"):
                shop.store.delete(info.name)
        refresh(self)

    monkeypatch.setattr(FeatureStore, "refresh", deleted_in_between)
    report = shop.batch("b2", limits=ANY)
    assert (looks, report["items"], report["embedded"]) == (2, len(PRODUCTS), 0)
    assert shop.batch("b3")["embedded"] > 0


def test_a_part_that_goes_while_a_run_makes_its_list_is_put_back_for_the_steps_that_follow(
    shop: Shop, monkeypatch: Any
) -> None:
    shop.batch("b1")
    before = {info.name for info in shop.store.listing("features/")}
    parts_of = FeatureStore.parts_of

    def deleted_in_between(self: FeatureStore, digests: Any) -> set[str]:
        found = parts_of(self, digests)
        for name in found:
            shop.store.delete(name)
        return found

    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(FeatureStore, "parts_of", deleted_in_between)
        do(shop, "list", build="b2")
    assert {info.name for info in shop.store.listing("features/")} == before
    do(shop, "collect", build="b2")
    do(shop, "build", 0, build="b2")


def test_a_run_that_is_begun_again_says_so_to_whoever_prunes(shop: Shop) -> None:
    plan, listed = "shards/shop/b1/plan.json", "shards/shop/b1/list.json"
    do(shop, "list", build="b1")
    first, said = shop.store.stat(plan), shop.store.read(plan, limit=2**20).data
    do(shop, "list", build="b1")
    assert shop.store.stat(plan) == first, "it has its list, which says what it counts on"
    shop.store.delete(listed)
    do(shop, "list", build="b1")
    again = shop.store.stat(plan)
    assert first is not None
    assert again is not None
    assert again.generation != first.generation
    assert shop.store.read(plan, limit=2**20).data == said


def test_a_step_in_a_process_of_its_own_says_what_to_do_when_they_are_deleted_and_the_next_run_embeds_again(
    shop: Shop,
) -> None:
    shop.batch("b1")
    do(shop, "list", build="b2")
    do(shop, "collect", build="b2")
    for info in shop.store.listing("features/"):
        shop.store.delete(info.name)
    with pytest.raises(StateDamaged, match=r"lacks the embedding .* run the batch again"):
        do(shop, "build", 0, build="b2")
    assert shop.batch("b3")["embedded"] == len(PRODUCTS)


def models_and_pictures_are_deleted(shop: Shop) -> None:
    for info in [*shop.store.listing("pictures/"), *shop.store.listing("models/")]:
        shop.store.delete(info.name)


def golden_pictures(shop: Shop, build: str) -> set[bytes]:
    (model,) = read_build(shop.store, IndexPrefix("shop", build)).manifest.models
    manifest = parse_model_manifest(shop.store.read(model.prefix.manifest, limit=2**20).data, model.prefix)
    return {shop.store.read(f"{model.prefix}/{one.image}", limit=2**24).data for one in manifest.golden_images}


def test_a_model_that_was_deleted_with_the_pictures_is_proved_by_what_their_hosts_have(
    web_shop: Shop, host: PictureHost
) -> None:
    web_shop.batch("b1")
    golden = golden_pictures(web_shop, "b1")
    models_and_pictures_are_deleted(web_shop)
    report = web_shop.batch("b2")
    assert (report["embedded"], pictures_asked(host)) == (0, 6 + 3)
    assert golden_pictures(web_shop, "b2") == golden


def test_where_the_hosts_have_other_pictures_by_now_the_model_is_proved_by_those_that_are_the_same(
    web_shop: Shop, host: PictureHost
) -> None:
    web_shop.batch("b1")
    models_and_pictures_are_deleted(web_shop)
    for chair in CHAIRS[:-1]:
        host.always[chair] = status(404)
    web_shop.batch("b2", gates=Gates(expects=frozenset({Gate.MODEL})))  # its golden images are others
    assert golden_pictures(web_shop, "b2") == {(web_shop.folder / "chair-6.jpg").read_bytes()}


def test_where_no_picture_can_be_had_again_the_mend_is_said_and_helps(web_shop: Shop, host: PictureHost) -> None:
    web_shop.batch("b1")
    models_and_pictures_are_deleted(web_shop)
    for chair in CHAIRS:
        host.always[chair] = status(404)
    with pytest.raises(PictureUnreadable, match=r"404.*; put pictures/ or models/ .* back, or delete features/"):
        web_shop.batch("b2")
    host.always.clear()
    for info in web_shop.store.listing("features/"):
        web_shop.store.delete(info.name)
    assert web_shop.batch("b3")["embedded"] == 6


def test_pictures_that_are_kept_are_not_asked_for_again_when_a_model_needs_them(
    web_shop: Shop, host: PictureHost
) -> None:
    web_shop.batch("b1")
    for info in web_shop.store.listing("features/"):
        web_shop.store.delete(info.name)
    assert web_shop.batch("b2")["embedded"] == 6
    assert pictures_asked(host) == 6
    sent = host.body_bytes
    web_shop.batch("b3", fresh_seconds=STALE)
    assert host.body_bytes == sent


def test_pictures_that_were_deleted_cost_no_bytes_while_no_model_needs_them(web_shop: Shop, host: PictureHost) -> None:
    web_shop.batch("b1")
    for info in web_shop.store.listing("pictures/"):
        web_shop.store.delete(info.name)
    sent = host.body_bytes
    assert web_shop.batch("b2", fresh_seconds=STALE)["items"] == 6
    assert host.body_bytes == sent


def test_hosts_that_fail_for_more_than_the_allowed_share_stop_the_run(web_shop: Shop, host: PictureHost) -> None:
    host.always = dict.fromkeys(CHAIRS[:2], status(404))
    with pytest.raises(TooManyBroken, match="2 of 6"):
        web_shop.batch(limits=Limits(most_broken=0.2))
