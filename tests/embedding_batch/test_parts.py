"""Which categories get files of their own, and which share: nothing is lost, and no part is larger than allowed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from embedding_batch.config import Config
from embedding_batch.method import Method
from embedding_batch.steps.build.parts import Part, Piece, plan_parts
from model_repository.documents.index_manifest import Engine
from model_repository.names import IndexPrefix, Target

CONFIG = Config(
    repository="gs://memory",
    target=Target("production", "shop"),
    prefix=IndexPrefix("shop", "b1"),
    cache=Path("cache"),
    part_items=10,
    exact_items=3,
)


def planned(config: Config = CONFIG, **sizes: int) -> list[Part]:
    return plan_parts(sizes, dict.fromkeys(sizes, 0), config)


def test_small_categories_go_together_after_the_large_ones() -> None:
    assert planned(b=1, a=3, d=4, c=2) == [
        Part(0, (Piece("d", 0, 4),)),
        Part(0, (Piece("a", 0, 3), Piece("b", 0, 1), Piece("c", 0, 2)), shares=True),
    ]


def test_a_category_too_large_for_one_part_is_cut_evenly() -> None:
    assert planned(a=25) == [Part(0, (Piece("a", start, items),)) for start, items in ((0, 9), (9, 8), (17, 8))]


def test_without_exact_items_every_category_has_files_of_its_own() -> None:
    assert planned(replace(CONFIG, exact_items=0), a=1, b=2) == [
        Part(0, (Piece("a", 0, 1),)),
        Part(0, (Piece("b", 0, 2),)),
    ]


def test_a_category_for_which_another_engine_is_named_has_files_of_its_own() -> None:
    config = replace(CONFIG, methods={"a": Method(Engine.FAISS_HNSW)})
    assert [part.shares for part in planned(config, a=1, b=1)] == [False, True]


def test_where_exact_search_is_asked_for_all_categories_share_that_fit_into_a_part() -> None:
    config = replace(CONFIG, method=Method(Engine.EXACT), exact_items=0)
    assert [(part.shares, part.items) for part in planned(config, a=5, b=5, c=11)] == [
        (False, 6),
        (False, 5),
        (True, 10),
    ]


def test_vectors_of_two_models_never_share() -> None:
    parts = plan_parts({"a": 1, "b": 1, "c": 1}, {"a": 0, "b": 1, "c": 0}, CONFIG)
    assert [(part.model, [piece.category for piece in part.pieces]) for part in parts] == [(0, ["a", "c"]), (1, ["b"])]


@given(
    st.dictionaries(st.text("abc", min_size=1, max_size=4), st.integers(1, 60), min_size=1),
    st.integers(1, 20),
    st.integers(0, 30),
)
def test_every_item_is_in_one_piece_and_no_part_is_larger_than_allowed(
    sizes: dict[str, int], most: int, small: int
) -> None:
    parts = planned(replace(CONFIG, part_items=most, exact_items=small), **sizes)
    found: dict[str, int] = {}
    for piece in (piece for part in parts for piece in part.pieces):
        assert piece.start == found.get(piece.category, 0)
        found[piece.category] = piece.start + piece.items
    assert found == sizes
    assert all(part.items <= most for part in parts)
    assert all(part.shares or len(part.pieces) == 1 for part in parts)
