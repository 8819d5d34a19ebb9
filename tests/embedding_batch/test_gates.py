"""Which differences stop a build: each gate at its bound, and what is announced."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from embedding_batch.config import read_command
from embedding_batch.errors import Misconfigured
from embedding_batch.steps.gates import BY_MODEL, DEFAULT_GATES, Gates, judge
from model_repository.documents.build_diff import Alike, BuildDiff, CategoryDiff, Gate, SideOfCategory
from model_repository.names import IndexPrefix

NOW = datetime(2026, 11, 27, tzinfo=UTC)
CATEGORY = CategoryDiff("c0", SideOfCategory(1000, 0.99), SideOfCategory(1000, 0.99), 0, 0, 0, Alike(1000, 0.95, 0.9))
SAME = BuildDiff(
    prefix=IndexPrefix("shop", "b2"),
    against=IndexPrefix("shop", "b1"),
    created=NOW,
    models_before=("m",),
    models_after=("m",),
    categories=(CATEGORY,),
    items=Alike(1000, 0.95, 0.9),
    changed=0,
    swapped=0,
    golden=Alike(3, 1.0, 1.0),
    examples=(),
    pictures={},
)


def of(**fields: object) -> BuildDiff:
    return replace(SAME, categories=(replace(CATEGORY, **fields),))


@pytest.mark.parametrize(
    ("gate", "fine", "worse"),
    [
        (Gate.CATEGORIES, of(after=SideOfCategory(500, 0.99)), of(after=SideOfCategory(499, 0.99))),
        (Gate.GONE, of(gone=200), of(gone=201)),
        (Gate.NEW, of(new=250), of(new=251)),
        (Gate.MOVED, of(moved=5), of(moved=6)),
        (Gate.CHANGED, replace(SAME, changed=100), replace(SAME, changed=101)),
        (Gate.SWAPPED, replace(SAME, swapped=2), replace(SAME, swapped=3)),
        (Gate.NEIGHBOURS, replace(SAME, items=Alike(1000, 0.7, 0.6)), replace(SAME, items=Alike(1000, 0.69, 0.6))),
        (Gate.NEIGHBOURS, of(alike=Alike(19, 0.1, 0.1)), of(alike=Alike(20, 0.49, 0.4))),
        (Gate.GOLDEN, replace(SAME, golden=Alike(3, 0.7, 0.6)), replace(SAME, golden=Alike(3, 0.6, 0.6))),
        (Gate.RECALL, of(after=SideOfCategory(1000, 0.97)), of(after=SideOfCategory(1000, 0.95))),
        (Gate.MODEL, SAME, replace(SAME, models_after=("other",))),
    ],
)
def test_a_difference_beyond_its_bound_stops_a_build(gate: Gate, fine: BuildDiff, worse: BuildDiff) -> None:
    assert judge(fine, DEFAULT_GATES, 0.2) == ()
    assert [stop.gate for stop in judge(worse, DEFAULT_GATES, 0.2)] == [gate]
    announced = replace(
        worse, stops=judge(worse, DEFAULT_GATES, 0.2), expected=Gates(expects=frozenset({gate})).expected
    )
    assert announced.unexpected == ()


def test_of_few_items_only_the_models_are_judged() -> None:
    few = replace(SAME, categories=(replace(CATEGORY, before=SideOfCategory(99), gone=99),), models_after=())
    assert [stop.gate for stop in judge(few, DEFAULT_GATES, 0.2)] == [Gate.MODEL]


def test_another_model_is_announced_with_what_follows_from_it() -> None:
    assert set(Gates(expects=frozenset({Gate.MODEL})).expected) == {Gate.MODEL, *BY_MODEL}
    assert Gate.GONE not in Gates(expects=frozenset({Gate.MODEL})).expected


def test_what_is_expected_and_the_bounds_are_options_of_a_run() -> None:
    said = ["run", "--catalogue", "x", "--index", "shop", "--environment", "e", "--repository", "gs://a-bucket"]
    assert read_command(said, {}, NOW).gates == DEFAULT_GATES
    some = read_command([*said, "--expect-change", "model", "--expect-change", "new", "--most-moved", "0.1"], {}, NOW)
    assert some.gates == Gates(most_moved=0.1, expects=frozenset({Gate.MODEL, Gate.NEW}))
    assert read_command([*said, "--expect-change"], {}, NOW).gates.expects == frozenset(Gate)
    with pytest.raises(Misconfigured, match="--expect-change"):
        read_command([*said, "--expect-change", "weather"], {}, NOW)
