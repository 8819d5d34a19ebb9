"""How alike two rankings of the same things are: what changed between two builds, or two servers, in one number."""

from __future__ import annotations

from collections.abc import Sequence

_PERSISTENCE = 0.9
"""The weight of a place, of the one before it: the first ten have 86 % of all."""


def overlap(one: Sequence[str], other: Sequence[str], at: int) -> float:
    """The share of the first `at` of the longer ranking that the other has among its own; 1 for two that are empty."""
    first, second = set(one[:at]), set(other[:at])
    longest = max(len(first), len(second))
    return len(first & second) / longest if longest else 1.0


def rank_biased_overlap(one: Sequence[str], other: Sequence[str]) -> float:
    """The extrapolated rank-biased overlap, 0 to 1, of two rankings without repetitions.

    Webber, Moffat and Zobel, "A similarity measure for indefinite rankings", ACM TOIS 28(4), 2010, equation 23: at each
    depth the agreement of the two prefixes, weighted by _PERSISTENCE ** depth, what follows the shorter being taken to
    agree as much as what was seen. 1 for two that are empty.
    """
    depth = min(len(one), len(other))
    if not depth:
        return float(len(one) == len(other))
    seen_one: set[str] = set()
    seen_other: set[str] = set()
    common, weighted = 0, 0.0
    for place in range(depth):
        seen_one.add(one[place])
        seen_other.add(other[place])
        common += (one[place] in seen_other) + (other[place] in seen_one) - (one[place] == other[place])
        weighted += common / (place + 1) * _PERSISTENCE ** (place + 1)
    return common / depth * _PERSISTENCE**depth + (1 - _PERSISTENCE) / _PERSISTENCE * weighted
