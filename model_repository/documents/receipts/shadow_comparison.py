"""How a shadow answered beside its index: written by `indexpush compare`, once more in place of the one before."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any

from model_repository.documents.receipts.canary_figures import Milliseconds
from model_repository.documents.receipts.receipt import format_head, open_receipt
from model_repository.fields import format_document
from model_repository.names import IndexPrefix, Target
from model_repository.records import Bound, Share, read, written

COMPARISON_LIMIT = 64 * 1024
"""Most bytes of a comparison."""

_MOST_ASKED = 10**9
Asked = Annotated[int, Bound(0, _MOST_ASKED)]


class Questions(StrEnum):
    """What both were asked."""

    ITEMS = "items"
    """The neighbours of items."""
    PICTURES = "pictures"
    """What is like the golden pictures of their model."""


@dataclass(frozen=True, slots=True)
class Latency:
    """Of the answers of one of the two, in milliseconds: the median, and what 95 % came within."""

    p50_ms: Milliseconds
    p95_ms: Milliseconds


@dataclass(frozen=True, slots=True)
class Difference:
    """Of the answers to one question. question: an item's id, or a picture's name."""

    question: str
    overlap: Share
    rank_biased_overlap: Share


@dataclass(frozen=True, slots=True)
class AnswersCompared:
    """Of many questions of one kind.

    k: neighbours asked for. asked: questions that both answered. missing: items that the shadow doesn't have.
    overlap, rank_biased_overlap: the mean, 0 to 1; 0 where both answered nothing. worst: the least alike, those first.
    stable, shadow: how soon answers came; None: none did.
    """

    questions: Questions
    k: Annotated[int, Bound(1, _MOST_ASKED)]
    asked: Asked
    missing: Asked
    overlap: Share
    rank_biased_overlap: Share
    stable: Latency | None
    shadow: Latency | None
    worst: Annotated[tuple[Difference, ...], Bound(entries=20)]


@dataclass(frozen=True, slots=True)
class ShadowComparison:
    """A shadow beside its index, at one time.

    target, generation: the shadow's own, and of its commit. shadow, stable: the builds that served there, and in the
    index itself. least_overlap: what whoever asked wanted at least; 0: they didn't say.
    """

    target: Target
    generation: int
    shadow: IndexPrefix
    stable: IndexPrefix
    finished: datetime
    answers: Annotated[tuple[AnswersCompared, ...], Bound(entries=len(Questions))]
    least_overlap: Share
    by: str = ""

    @property
    def too_different(self) -> bool:
        """Whether answers are less alike than whoever asked wanted."""
        return any(each.overlap < self.least_overlap for each in self.answers)


def parse_shadow_comparison(data: bytes, target: Target, generation: int) -> ShadowComparison:
    """Read what stands at `target.comparison_name(generation)`; raises `DocumentMalformed`."""
    fields = open_receipt(data, target.comparison_name(generation), target, generation, COMPARISON_LIMIT)
    comparison = read(ShadowComparison, fields, target=target, generation=generation)
    for prefix in (comparison.shadow, comparison.stable):
        if not target.is_shadow_of(prefix):
            fields.refuse(f"{prefix} is no build that {target} could be compared by")
    return comparison


def format_shadow_comparison(comparison: ShadowComparison) -> bytes:
    """Write a comparison: parse(format(x)) == x."""
    head = format_head(comparison.target, comparison.generation)
    return format_document(head | describe_comparison(comparison))


def describe_comparison(comparison: ShadowComparison) -> dict[str, Any]:
    """What a comparison found, as JSON: all but what its place says."""
    return written(comparison, "target", "generation")
