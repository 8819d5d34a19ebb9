"""How a shadow answered beside its index: written by `indexpush compare`, once more in place of the one before."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from model_repository.documents.receipts.receipt import format_head, open_receipt, printable
from model_repository.fields import Fields, format_document, format_moment
from model_repository.names import IndexPrefix, Target

COMPARISON_LIMIT = 64 * 1024
"""Most bytes of a comparison."""

_MOST_ASKED = 10**9
_MOST_MS = 1e9
_WORST = 20
_LONG = 1000


class Questions(StrEnum):
    """What both were asked."""

    ITEMS = "items"
    """The neighbours of items."""
    PICTURES = "pictures"
    """What is like the golden pictures of their model."""


@dataclass(frozen=True, slots=True)
class Latency:
    """Of the answers of one of the two, in milliseconds: the median, and what 95 % came within."""

    p50_ms: float
    p95_ms: float


@dataclass(frozen=True, slots=True)
class Difference:
    """Of the answers to one question. question: an item's id, or a picture's name."""

    question: str
    overlap: float
    rank_biased_overlap: float


@dataclass(frozen=True, slots=True)
class AnswersCompared:
    """Of many questions of one kind.

    k: neighbours asked for. asked: questions that both answered. missing: items that the shadow doesn't have.
    overlap, rank_biased_overlap: the mean, 0 to 1; 1 where nothing was asked. worst: the least alike, those first.
    stable, shadow: how soon answers came; None: none did.
    """

    questions: Questions
    k: int
    asked: int
    missing: int
    overlap: float
    rank_biased_overlap: float
    stable: Latency | None
    shadow: Latency | None
    worst: tuple[Difference, ...] = ()


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
    answers: tuple[AnswersCompared, ...]
    least_overlap: float = 0.0
    by: str = ""

    @property
    def too_different(self) -> bool:
        """Whether answers are less alike than whoever asked wanted."""
        return any(each.overlap < self.least_overlap for each in self.answers)


def parse_shadow_comparison(data: bytes, target: Target, generation: int) -> ShadowComparison:
    """Read what stands at `target.comparison_name(generation)`; raises `DocumentMalformed`."""
    fields = open_receipt(data, target.comparison_name(generation), target, generation, COMPARISON_LIMIT)
    comparison = ShadowComparison(
        target=target,
        generation=generation,
        shadow=fields.parsed("shadow", IndexPrefix.parse),
        stable=fields.parsed("stable", IndexPrefix.parse),
        finished=fields.moment("finished"),
        answers=tuple(_parse_answers(each) for each in fields.objects("answers", most=len(Questions))),
        least_overlap=_share(fields, "least_overlap"),
        by=fields.text("by", default=""),
    )
    for prefix in (comparison.shadow, comparison.stable):
        if not target.is_shadow_of(prefix):
            fields.refuse(f"{prefix} is no build that {target} could be compared by")
    fields.done()
    return comparison


def _parse_answers(fields: Fields) -> AnswersCompared:
    answers = AnswersCompared(
        questions=fields.choice("questions", Questions),
        k=fields.whole("k", least=1, most=_MOST_ASKED),
        asked=fields.whole("asked", most=_MOST_ASKED),
        missing=fields.whole("missing", most=_MOST_ASKED),
        overlap=_share(fields, "overlap"),
        rank_biased_overlap=_share(fields, "rank_biased_overlap"),
        stable=_parse_latency(fields, "stable"),
        shadow=_parse_latency(fields, "shadow"),
        worst=tuple(_parse_difference(each) for each in fields.objects("worst", most=_WORST)),
    )
    fields.done()
    return answers


def _parse_latency(fields: Fields, field: str) -> Latency | None:
    if not fields.has(field):
        return None
    inner = fields.object(field)
    latency = Latency(*(inner.number(name, least=0, most=_MOST_MS) for name in ("p50_ms", "p95_ms")))
    inner.done()
    return latency


def _parse_difference(fields: Fields) -> Difference:
    difference = Difference(
        fields.text("question", longest=_LONG), _share(fields, "overlap"), _share(fields, "rank_biased_overlap")
    )
    fields.done()
    return difference


def _share(fields: Fields, field: str) -> float:
    return fields.number(field, least=0, most=1)


def format_shadow_comparison(comparison: ShadowComparison) -> bytes:
    """Write a comparison: parse(format(x)) == x."""
    head = format_head(comparison.target, comparison.generation)
    return format_document(head | describe_comparison(comparison))


def describe_comparison(comparison: ShadowComparison) -> dict[str, Any]:
    """What a comparison found, as JSON: all but what its place says."""
    value: dict[str, Any] = {
        "shadow": str(comparison.shadow),
        "stable": str(comparison.stable),
        "finished": format_moment(comparison.finished),
        "answers": [_describe_answers(each) for each in comparison.answers],
        "least_overlap": comparison.least_overlap,
    }
    return value | ({"by": printable(comparison.by)} if comparison.by else {})


def _describe_answers(answers: AnswersCompared) -> dict[str, Any]:
    value: dict[str, Any] = {
        "questions": answers.questions.value,
        "k": answers.k,
        "asked": answers.asked,
        "missing": answers.missing,
        "overlap": answers.overlap,
        "rank_biased_overlap": answers.rank_biased_overlap,
    }
    sides = {"stable": answers.stable, "shadow": answers.shadow}
    value |= {name: {"p50_ms": it.p50_ms, "p95_ms": it.p95_ms} for name, it in sides.items() if it is not None}
    worst = [
        {"question": each.question, "overlap": each.overlap, "rank_biased_overlap": each.rank_biased_overlap}
        for each in answers.worst
    ]
    return value | {"worst": worst}
