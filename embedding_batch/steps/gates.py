"""When a build must not go live by itself: what it differs in, as a function of values."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from model_repository.documents.build_diff import BuildDiff, Gate, Stop

LEAST_ITEMS: Final = 100
"""Of an index with fewer a share says nothing: only its models are judged."""
_LARGE_CATEGORY: Final = 20
"""Items of a category, or questions to it, from which on it is judged by itself."""
_MOST_LOST: Final = 0.5
_LEAST_OF_CATEGORY: Final = 0.5
_RECALL_LOST: Final = 0.03
BY_MODEL: Final = frozenset({Gate.CHANGED, Gate.SWAPPED, Gate.NEIGHBOURS, Gate.GOLDEN})
"""Follow from another model, as they must: whoever expects that expects these."""


@dataclass(frozen=True, slots=True)
class Gates:
    """Beyond these a person has to look, unless the change is expected.

    most_new, most_moved: share of the items that served, 0 to 1. most_changed, most_swapped: share of the items that
    were asked about. least_overlap: the mean, of items' neighbours and golden pictures'. expects: what is announced.
    """

    most_new: float = 0.25
    most_moved: float = 0.005
    most_changed: float = 0.1
    most_swapped: float = 0.002
    least_overlap: float = 0.7
    expects: frozenset[Gate] = frozenset()

    @property
    def expected(self) -> tuple[Gate, ...]:
        """What is announced, with what follows from it."""
        follows = BY_MODEL if Gate.MODEL in self.expects else frozenset()
        return tuple(gate for gate in Gate if gate in self.expects | follows)


DEFAULT_GATES = Gates()


def judge(diff: BuildDiff, gates: Gates, most_gone: float) -> tuple[Stop, ...]:
    """The gates that a build doesn't pass, expected or not. most_gone: share of the items that served which may go."""
    return (*_judge_models(diff), *(_judge_shares(diff, gates, most_gone) if diff.before >= LEAST_ITEMS else ()))


def _judge_models(diff: BuildDiff) -> Iterator[Stop]:
    if diff.models_before != diff.models_after:
        was, is_now = (", ".join(models) or "vectors of your own" for models in (diff.models_before, diff.models_after))
        yield Stop(Gate.MODEL, f"made by {is_now}, what serves by {was}")


def _judge_shares(diff: BuildDiff, gates: Gates, most_gone: float) -> Iterator[Stop]:
    lost = [
        each.category
        for each in diff.categories
        if each.before.items >= _LARGE_CATEGORY and each.after.items < _MOST_LOST * each.before.items
    ]
    if lost:
        more = f" and {len(lost) - 1} more" if len(lost) > 1 else ""
        yield Stop(Gate.CATEGORIES, f"{lost[0]!r}{more} lost more than half of the items, or all")
    asked = diff.items.asked
    shares = (
        (Gate.GONE, diff.total("gone"), diff.before, most_gone, "--most-dropped", "items are gone"),
        (Gate.NEW, diff.total("new"), diff.before, gates.most_new, "--most-new", "items are new"),
        (Gate.MOVED, diff.total("moved"), diff.before, gates.most_moved, "--most-moved", "items changed category"),
        (Gate.CHANGED, diff.changed, asked, gates.most_changed, "--most-changed", "items look different"),
        (
            Gate.SWAPPED,
            diff.swapped,
            diff.items.asked,
            gates.most_swapped,
            "--most-swapped",
            "items look as another did",
        ),
    )
    for gate, count, of, most, option, what in shares:
        if count > most * of:
            yield Stop(gate, f"{count} of {of} {what}, at most {most:.1%} may ({option})")
    yield from _judge_answers(diff, gates)
    before, after = (
        sum((side.recall or 0.0) * side.items for side in sides) / max(1, sum(side.items for side in sides))
        for sides in ([each.before for each in diff.categories], [each.after for each in diff.categories])
    )
    if after < before - _RECALL_LOST:
        yield Stop(Gate.RECALL, f"recall fell from {before:.3f} to {after:.3f}, by more than {_RECALL_LOST}")


def _judge_answers(diff: BuildDiff, gates: Gates) -> Iterator[Stop]:
    least = gates.least_overlap
    weak = [
        each
        for each in diff.categories
        if each.alike.asked >= _LARGE_CATEGORY and each.alike.overlap < _LEAST_OF_CATEGORY
    ]
    if diff.items.overlap < least:
        yield Stop(
            Gate.NEIGHBOURS,
            f"items share {diff.items.overlap:.2f} of their neighbours with before, at least {least:.2f} is asked "
            "(--least-overlap)",
        )
    elif weak:
        yield Stop(
            Gate.NEIGHBOURS,
            f"items of {weak[0].category!r} share {weak[0].alike.overlap:.2f} of their neighbours with before, at "
            f"least {_LEAST_OF_CATEGORY:.2f} is asked of a category",
        )
    if diff.golden.asked and diff.golden.overlap < least:
        yield Stop(
            Gate.GOLDEN,
            f"golden pictures share {diff.golden.overlap:.2f} of their answers with before, at least {least:.2f} is "
            "asked (--least-overlap)",
        )
