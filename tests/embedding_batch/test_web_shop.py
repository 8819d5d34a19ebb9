"""Runs whose pictures are on the web: kept in the bucket, asked for again when they must be, gone."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
from aiohttp import web

from embedding_batch.errors import TooManyBroken
from embedding_batch.pictures import Politeness
from embedding_batch.steps import fetching
from embedding_batch.steps.diff.gates import Gates
from embedding_batch.steps.guards import Limits
from image_embedder import PictureUnreadable
from model_repository.documents.build_diff import Gate
from model_repository.documents.model_manifest import parse_model_manifest
from model_repository.names import IndexPrefix
from model_repository.repository import read_build
from tests.conftest import HOME_STORE
from tests.embedding_batch.conftest import CHAIRS, items_of
from tests.embedding_batch.one_step import ANY, STALE, catalogue, do
from tests.embedding_batch.picture_host import PictureHost, hosting, status

if TYPE_CHECKING:
    from tests.embedding_batch.conftest import Shop


QUICK = Politeness(requests_a_second=1000, longest_pause=0.1, whole_seconds=20.0, tries=2)


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


def test_a_picture_that_was_looked_at_by_a_clock_years_ahead_is_looked_at_again(
    web_shop: Shop, host: PictureHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as wrong:
        wrong.setattr(fetching, "time", SimpleNamespace(time=lambda: time.time() + 10**8))
        web_shop.batch("b1")
    web_shop.batch("b2")
    assert pictures_asked(host) == 12
    web_shop.batch("b3")
    assert pictures_asked(host) == 12


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
