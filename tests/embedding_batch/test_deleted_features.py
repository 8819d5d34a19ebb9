"""Features that are deleted while runs count on them, and what prune leaves."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from embedding_batch.errors import StateDamaged
from embedding_batch.state.features import FeatureStore
from embedding_batch.state.folder import RunFolder
from model_repository.names import IndexPrefix
from operator_cli.commands.prune import prune
from tests.embedding_batch.conftest import PRODUCTS
from tests.embedding_batch.one_step import ANY, catalogue, do
from tests.fake_clock import FakeClock

if TYPE_CHECKING:
    from tests.embedding_batch.conftest import Shop


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

    def deleted_in_between(self: FeatureStore, **how: Any) -> None:
        nonlocal looks
        looks += 1
        if looks == 2:
            for info in shop.store.listing("features/"):
                shop.store.delete(info.name)
        refresh(self, **how)

    monkeypatch.setattr(FeatureStore, "refresh", deleted_in_between)
    report = shop.batch("b2", limits=ANY)
    assert (looks, report["items"], report["embedded"]) == (2, len(PRODUCTS), 0)
    assert shop.batch("b3")["embedded"] > 0


def test_what_goes_while_a_run_makes_its_list_is_embedded_again_for_the_steps_that_follow(
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
        listed = do(shop, "list", build="b2")
    assert (listed["features"], listed["shards"], listed["pictures"]) == ([], 1, len(PRODUCTS))
    do(shop, "fetch", 0, build="b2")
    do(shop, "embed", 0, build="b2")
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
