"""Which differences stop a build: each gate at its bound, and what is announced."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from embedding_batch.command_line.reading import read_command
from embedding_batch.errors import Misconfigured
from embedding_batch.steps.diff.gates import BY_MODEL, DEFAULT_GATES, Gates, judge
from model_repository.documents.build_diff import Alike, BuildDiff, CategoryDiff, Gate, SideOfCategory, TagDiff
from model_repository.names import IndexPrefix

NOW = datetime(2026, 11, 27, tzinfo=UTC)
CATEGORY = CategoryDiff(
    "c0", SideOfCategory(1000, 0.99), SideOfCategory(1000, 0.99), 0, 0, 0, Alike(1000, 0.95, 0.9), 5000, 0
)
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
    stops=(),
    expected=(),
    compared=5000,
    doubled=0,
    tags=(TagDiff("brand", 1000, 1000), TagDiff("sale", 19, 0)),
)


def of(**fields: object) -> BuildDiff:
    return replace(SAME, categories=(replace(CATEGORY, **fields),))


def churned(overlap: float) -> BuildDiff:
    """A fifth of the items went, and as many came: so much of the neighbours can't be the same."""
    return replace(of(gone=200, new=200), items=Alike(1000, overlap, overlap))


def lower(before: float, after: float) -> BuildDiff:
    return of(before=SideOfCategory(1000, before), after=SideOfCategory(1000, after))


def tagged(**names: tuple[int, int]) -> BuildDiff:
    return replace(SAME, tags=tuple(TagDiff(name, *counts) for name, counts in names.items()))


@pytest.mark.parametrize(
    ("gate", "fine", "worse"),
    [
        (Gate.CATEGORIES, of(after=SideOfCategory(500, 0.99)), of(after=SideOfCategory(499, 0.99))),
        (Gate.GONE, of(gone=200, new=100), of(gone=201, new=150)),
        (Gate.GONE, of(gone=100), of(gone=101)),
        (Gate.NEW, of(new=250), of(new=251)),
        (Gate.MOVED, of(moved=5), of(moved=6)),
        (Gate.CHANGED, replace(SAME, changed=500), replace(SAME, changed=501)),
        (Gate.CHANGED, of(compared=9, changed=9), of(compared=10, changed=6)),
        (Gate.SWAPPED, replace(SAME, swapped=10), replace(SAME, swapped=11)),
        (Gate.DOUBLED, replace(SAME, doubled=50), replace(SAME, doubled=51)),
        (Gate.NEIGHBOURS, replace(SAME, items=Alike(1000, 0.7, 0.6)), replace(SAME, items=Alike(1000, 0.69, 0.6))),
        (Gate.NEIGHBOURS, of(alike=Alike(19, 0.1, 0.1)), of(alike=Alike(20, 0.49, 0.4))),
        (Gate.NEIGHBOURS, churned(0.57), churned(0.55)),
        (Gate.GOLDEN, replace(SAME, golden=Alike(3, 0.7, 0.6)), replace(SAME, golden=Alike(3, 0.6, 0.6))),
        (Gate.RECALL, of(after=SideOfCategory(1000, 0.95)), of(after=SideOfCategory(1000, 0.94))),
        (Gate.RECALL, lower(0.94, 0.92), lower(0.94, 0.9)),
        (Gate.MODEL, SAME, replace(SAME, models_after=("other",))),
        (Gate.TAGS, tagged(brand=(20, 1), sale=(30, 25)), tagged(brand=(20, 0), sale=(30, 30))),
        (Gate.TAGS, tagged(brand=(100, 49), sale=(10, 6)), tagged(brand=(100, 48), sale=(10, 6))),
    ],
)
def test_a_difference_beyond_its_bound_stops_a_build(gate: Gate, fine: BuildDiff, worse: BuildDiff) -> None:
    assert judge(fine, DEFAULT_GATES, 0.2) == ()
    assert [stop.gate for stop in judge(worse, DEFAULT_GATES, 0.2)] == [gate]
    announced = replace(
        worse, stops=judge(worse, DEFAULT_GATES, 0.2), expected=Gates(expects=frozenset({gate})).expected
    )
    assert announced.unexpected == ()


def test_of_few_items_only_models_and_tags_are_judged() -> None:
    few = replace(SAME, categories=(replace(CATEGORY, before=SideOfCategory(99), gone=99),), models_after=())
    assert [stop.gate for stop in judge(few, DEFAULT_GATES, 0.2)] == [Gate.MODEL]


def test_another_model_is_announced_with_what_follows_from_it() -> None:
    assert set(Gates(expects=frozenset({Gate.MODEL})).expected) == {Gate.MODEL, *BY_MODEL}
    assert not {Gate.GONE, Gate.SWAPPED, Gate.DOUBLED, Gate.TAGS} & set(Gates(expects=frozenset({Gate.MODEL})).expected)


def test_what_is_expected_and_the_bounds_are_options_of_a_run() -> None:
    said = ["run", "--catalogue", "x", "--index", "shop", "--environment", "e", "--repository", "gs://a-bucket"]
    assert read_command(said, {}, NOW).gates == DEFAULT_GATES
    some = read_command([*said, "--expect-change", "model", "--expect-change", "new", "--most-moved", "0.1"], {}, NOW)
    assert some.gates == Gates(most_moved=0.1, expects=frozenset({Gate.MODEL, Gate.NEW}))
    assert read_command([*said, "--expect-change"], {}, NOW).gates.expects == frozenset(Gate)
    with pytest.raises(Misconfigured, match="--expect-change"):
        read_command([*said, "--expect-change", "weather"], {}, NOW)
