"""When a build must not go live by itself: what it differs in, as a function of values."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from embedding_batch.steps.guards import Limits
from model_repository.documents.build_diff import BuildDiff, CategoryDiff, Gate, Stop

LEAST_ITEMS: Final = 100
"""Of an index with fewer a share says nothing: only its models and tags are judged."""
_LARGE_CATEGORY: Final = 20
"""Items of a category, or questions to it, from which on it is judged by itself; tags of a name, likewise."""
_MOST_LOST: Final = 0.5
_MOST_SHRUNK: Final = 0.5
"""As a share of what may go: that much fewer items is a list cut short, not a season's change."""
_MOST_OF_CATEGORY: Final = 0.5
_LEAST_OF_CATEGORY: Final = 0.5
_RECALL_LOST: Final = 0.03
_RECALL_ASKED: Final = Limits().least_recall
BY_MODEL: Final = frozenset({Gate.CHANGED, Gate.NEIGHBOURS, Gate.GOLDEN})
"""Follow from another model, as they must: whoever expects that expects these."""


@dataclass(frozen=True, slots=True)
class Gates:
    """Beyond these a person has to look, unless the change is expected.

    most_new, most_moved: share of the items that served, 0 to 1. most_changed, most_swapped: share of the items that
    were compared. most_doubled: share of those that were asked about. least_overlap: the mean, of items' neighbours and
    golden pictures', as a share of what the items that came and went leave. expects: what is announced.
    """

    most_new: float = 0.25
    most_moved: float = 0.005
    most_changed: float = 0.1
    most_swapped: float = 0.002
    most_doubled: float = 0.05
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
    found = [*_judge_models(diff), *_judge_tags(diff)]
    if diff.before >= LEAST_ITEMS:
        found += [*_judge_categories(diff), *_judge_shares(diff, gates, most_gone), *_judge_answers(diff, gates)]
        found += _judge_recall(diff)
    return tuple(found)


def _judge_models(diff: BuildDiff) -> Iterator[Stop]:
    if diff.models_before != diff.models_after:
        was, is_now = (", ".join(models) or "vectors of your own" for models in (diff.models_before, diff.models_after))
        yield Stop(Gate.MODEL, f"made by {is_now}, what serves by {was}")


def _judge_tags(diff: BuildDiff) -> Iterator[Stop]:
    """A name that is lost makes searches that narrow by it an error; many tags that are lost, answers without items."""
    lost = [each for each in diff.tags if each.before >= _LARGE_CATEGORY and not each.after]
    before, after = (sum(getattr(each, side) for each in diff.tags) for side in ("before", "after"))
    if lost:
        yield Stop(
            Gate.TAGS,
            f"no item has a tag {lost[0].name!r}{_and_more(lost)}, {lost[0].before} had: searches that ask for it fail",
        )
    elif before >= _LARGE_CATEGORY and after < _MOST_LOST * before:
        yield Stop(Gate.TAGS, f"{after} tags of items, {before} before: more than half are lost")


def _judge_categories(diff: BuildDiff) -> Iterator[Stop]:
    lost = [
        each.category
        for each in diff.categories
        if each.before.items >= _LARGE_CATEGORY and each.after.items < _MOST_LOST * each.before.items
    ]
    if lost:
        yield Stop(Gate.CATEGORIES, f"{lost[0]!r}{_and_more(lost)} lost more than half of the items, or all")


def _and_more(found: Sequence[object]) -> str:
    return f" and {len(found) - 1} more" if len(found) > 1 else ""


def _judge_shares(diff: BuildDiff, gates: Gates, most_gone: float) -> Iterator[Stop]:
    before, gone = diff.before, diff.total("gone")
    shares = (
        (Gate.GONE, gone, before, most_gone, "--most-dropped", "items are gone"),
        (Gate.NEW, diff.total("new"), before, gates.most_new, "--most-new", "items are new"),
        (Gate.MOVED, diff.total("moved"), before, gates.most_moved, "--most-moved", "items changed category"),
        (Gate.CHANGED, diff.changed, diff.compared, gates.most_changed, "--most-changed", "items look different"),
        (Gate.SWAPPED, diff.swapped, diff.compared, gates.most_swapped, "--most-swapped", "items look as another did"),
        (
            Gate.DOUBLED,
            diff.doubled,
            diff.items.asked,
            gates.most_doubled,
            "--most-doubled",
            "items look exactly like another one, as they didn't before",
        ),
    )
    stops = [
        Stop(gate, f"{count} of {of} {what}, at most {most:.1%} may ({option})")
        for gate, count, of, most, option, what in shares
        if count > most * of
    ]
    yield from stops
    found = {stop.gate for stop in stops}
    fewer, most = gone - diff.total("new"), most_gone * _MOST_SHRUNK
    if Gate.GONE not in found and fewer > most * before:
        what = f"{fewer} items fewer than the {before} before"
        yield Stop(Gate.GONE, f"{what}, at most {most:.1%} may be (half of --most-dropped)")
    if Gate.CHANGED not in found:
        yield from _judge_looks(diff)


def _judge_looks(diff: BuildDiff) -> Iterator[Stop]:
    """A category that went wrong by itself."""
    wrong = [
        each
        for each in diff.categories
        if each.before.items >= _LARGE_CATEGORY
        and each.compared >= _LARGE_CATEGORY // 2
        and each.changed > _MOST_OF_CATEGORY * each.compared
    ]
    if wrong:
        first = wrong[0]
        what = f"{first.changed} of {first.compared} items of {first.category!r} look different"
        more = f", and so in {len(wrong) - 1} more categories" if len(wrong) > 1 else ""
        yield Stop(Gate.CHANGED, f"{what}{more}; at most {_MOST_OF_CATEGORY:.0%} of a category may")


def _kept(category: CategoryDiff) -> float:
    """How much of ten neighbours can be the same, for the items that went and came: the less of two shares."""
    stayed = 1 - category.gone / max(1, category.before.items)
    known = 1 - (category.new + category.moved) / max(1, category.after.items)
    return max(0.0, min(stayed, known))


def _judge_answers(diff: BuildDiff, gates: Gates) -> Iterator[Stop]:
    weak = [
        each
        for each in diff.categories
        if each.alike.asked >= _LARGE_CATEGORY and each.alike.overlap < _LEAST_OF_CATEGORY * _kept(each)
    ]
    kept = sum(_kept(each) * each.alike.asked for each in diff.categories) / max(1, diff.items.asked)
    least = gates.least_overlap * (kept if diff.items.asked else 1.0)
    if diff.items.asked and diff.items.overlap < least:
        yield Stop(
            Gate.NEIGHBOURS,
            f"items share {diff.items.overlap:.2f} of their neighbours with before, at least {least:.2f} is asked "
            "(--least-overlap, less what items that came and went account for)",
        )
    elif weak:
        yield Stop(
            Gate.NEIGHBOURS,
            f"items of {weak[0].category!r} share {weak[0].alike.overlap:.2f} of their neighbours with before, at "
            f"least {_LEAST_OF_CATEGORY * _kept(weak[0]):.2f} is asked of a category",
        )
    if diff.golden.asked and diff.golden.overlap < least:
        yield Stop(
            Gate.GOLDEN,
            f"golden pictures share {diff.golden.overlap:.2f} of their answers with before, at least {least:.2f} is "
            "asked (--least-overlap, less what items that came and went account for)",
        )


def _judge_recall(diff: BuildDiff) -> Iterator[Stop]:
    before, after = (
        sum((side.recall or 0.0) * side.items for side in sides) / max(1, sum(side.items for side in sides))
        for sides in ([each.before for each in diff.categories], [each.after for each in diff.categories])
    )
    # A category that outgrows exact search falls from 1 to what is asked, as it must.
    if after < min(before - _RECALL_LOST, _RECALL_ASKED):
        said = f"recall fell from {before:.3f} to {after:.3f}, by more than {_RECALL_LOST} and below {_RECALL_ASKED}"
        yield Stop(Gate.RECALL, said)
