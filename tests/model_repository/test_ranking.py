"""How alike two rankings are: the ends, the paper's own properties, and values worked out by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_repository.comparing.ranking import overlap, rank_biased_overlap

rankings = st.lists(st.sampled_from("abcdefghij"), unique=True)


@given(rankings)
def test_a_ranking_is_like_itself_and_unlike_what_shares_nothing(ranking: list[str]) -> None:
    assert rank_biased_overlap(ranking, ranking) == pytest.approx(1)
    assert overlap(ranking, ranking, 10) == 1
    if ranking:
        assert rank_biased_overlap(ranking, [item.upper() for item in ranking]) == 0


@given(rankings, rankings)
def test_it_is_the_same_from_both_sides_and_between_0_and_1(one: list[str], other: list[str]) -> None:
    found = rank_biased_overlap(one, other)
    assert found == pytest.approx(rank_biased_overlap(other, one))
    assert -1e-9 <= found <= 1 + 1e-9


def test_what_changes_further_down_matters_less() -> None:
    ranking = list("abcdefghij")
    swapped_first, swapped_last = list("bacdefghij"), list("abcdefghji")
    assert rank_biased_overlap(ranking, swapped_first) < rank_biased_overlap(ranking, swapped_last) < 1


def test_values_worked_out_by_hand() -> None:
    # agreement 0, 1 at depths 1, 2; p 0.9: 1 * 0.81 + (0.1 / 0.9) * (0 + 0.81)
    assert rank_biased_overlap(["a", "b"], ["b", "a"]) == pytest.approx(0.81 + 0.09)
    # agreement 1, 1/2: 0.5 * 0.81 + (0.1 / 0.9) * (0.9 + 0.5 * 0.81)
    assert rank_biased_overlap(["a", "b"], ["a", "c"]) == pytest.approx(0.405 + 0.1 + 0.045)
    assert overlap(["a", "b", "c"], ["c", "d"], 10) == pytest.approx(1 / 3)
    assert overlap(["a", "b", "c"], ["c", "d"], 1) == 0
