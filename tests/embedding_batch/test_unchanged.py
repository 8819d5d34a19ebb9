"""An unchanged catalogue that serves makes no build and no commit; whatever changes does."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from embedding_batch.command_line.reading import read_command
from model_repository.documents.receipts.receipt import Outcome, format_receipt
from model_repository.names import IndexPrefix
from model_repository.repository import read_live_commit
from tests import builds
from tests.embedding_batch.conftest import B1, B2, PRODUCTS, TARGET

if TYPE_CHECKING:
    from tests.embedding_batch.conftest import Shop


def receive(shop: Shop, outcome: Outcome, index_prefix: IndexPrefix = B1) -> None:
    """Let the CD side have said what became of the commit."""
    live = read_live_commit(shop.store, TARGET)
    receipt = builds.receipt(live.generation, TARGET, index_prefix=index_prefix, outcome=outcome)
    shop.store.write(TARGET.receipt_name(live.generation), format_receipt(receipt), if_generation_match=0)


def test_an_unchanged_catalogue_that_serves_makes_no_build_and_no_commit(shop: Shop) -> None:
    shop.batch()
    receive(shop, Outcome.SERVED)
    before = read_live_commit(shop.store, TARGET)
    report = shop.batch("b2", unchanged_too=False)
    assert (report["outcome"], report["generation"], report["serves"]) == ("unchanged", before.generation, str(B1))
    assert read_live_commit(shop.store, TARGET) == before
    assert not list(shop.store.listing(f"{B2}/"))
    assert "nothing to build: shop serves just this already" in shop.last_detail


def other_picture(shop: Shop) -> None:
    shutil.copy(shop.folder / "chair-2.jpg", shop.folder / "chair-1.jpg")


def other_category(shop: Shop) -> None:
    path = shop.folder / "catalogue.jsonl"
    path.write_text(path.read_text().replace("Bathroom", "Bedroom"))


@pytest.mark.parametrize("change", [lambda shop: shop.sells(PRODUCTS[1:]), other_picture, other_category])
def test_whatever_changes_is_built(shop: Shop, change: Callable[[Shop], None]) -> None:
    shop.batch()
    receive(shop, Outcome.SERVED)
    change(shop)
    assert shop.batch("b2", unchanged_too=False)["outcome"] == "committed"


def test_with_other_options_the_same_items_are_another_build(shop: Shop) -> None:
    shop.batch()
    receive(shop, Outcome.SERVED)
    options = {**shop.config.options, "engine": ["faiss-hnsw"]}
    assert shop.batch("b2", unchanged_too=False, options=options)["outcome"] == "committed"


@pytest.mark.parametrize("outcome", [None, Outcome.UNDONE])
def test_what_did_not_go_live_is_tried_again(shop: Shop, outcome: Outcome | None) -> None:
    shop.batch()
    if outcome:
        receive(shop, outcome)
    assert shop.batch("b2", unchanged_too=False)["outcome"] == "committed"


def test_who_names_a_build_or_asks_for_it_gets_it() -> None:
    words = ["--catalogue", "shop", "--index", "shop", "--environment", "production", "--repository", "gs://models"]
    now = datetime(2026, 11, 21, tzinfo=UTC)
    asked = [read_command(["run", *words, *more], {}, now) for more in ([], ["--always"], ["--build", "b2"])]
    assert [config.unchanged_too for config in asked] == [False, True, True]
    assert asked[0].options == asked[1].options
