"""What each step of the demo must show: functions of what was observed, so that a test can show that they fail.

Every check raises `Misbehaved` with a sentence that says what was expected and what was seen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from local_stack.demo.client import Traffic
from local_stack.demo.evaluation import Evaluation
from model_repository.documents.receipts.receipt import Outcome, Receipt

_CLOCKS = 0.5
"""Seconds by which the moments that several programs note may overlap."""
_LEAST = 50
"""Requests of a client that is to notice nothing."""
_SAME = 1e-4
"""Between two scores, of one picture."""


class Misbehaved(Exception):
    """A step of the demo did not show what it should."""


def _expect(holds: bool, sentence: str) -> None:  # noqa: FBT001 - reads as "expect that"
    if not holds:
        raise Misbehaved(sentence)


def went_live(receipt: Receipt, status: Mapping[str, Any], prefix: str) -> None:
    """The commit's receipt says served, and the Service answers with its generation and build."""
    _expect(
        receipt.outcome is Outcome.SERVED,
        f"the commit of {prefix} should have gone live; its receipt says {receipt.outcome}: {receipt.detail}",
    )
    seen = (int(status["generation"]), status["index_prefix"])
    _expect(
        seen == (receipt.generation, prefix),
        f"/v1/status should name generation {receipt.generation} and {prefix}, but names {seen[0]} and {seen[1]}",
    )


def add_up(shares: Sequence[float], seconds: float) -> None:
    """The shares of the way are all of it: what is measured begins and ends where they do."""
    _expect(
        abs(sum(shares) - seconds) <= _CLOCKS,
        f"the shares of commit -> ready should add up to {seconds:.2f} s, but make {sum(shares):.2f} s",
    )


def answered(neighbors: Sequence[Mapping[str, Any]], k: int, what: str) -> None:
    """A search gave `k` neighbors, nearest first, none twice."""
    ids = [neighbor["id"] for neighbor in neighbors]
    _expect(len(ids) == k, f"the search by {what} should give {k} neighbors, but gave {len(ids)}")
    _expect(len(set(ids)) == k, f"the search by {what} gave an item twice: {ids}")
    scores = [float(neighbor["score"]) for neighbor in neighbors]
    _expect(scores == sorted(scores, reverse=True), f"the search by {what} gave scores out of order: {scores}")


def found_itself(neighbors: Sequence[Mapping[str, Any]], item: str, what: str) -> None:
    """A search with an indexed item's own picture or vector gave that item first, or as near as the first.

    Shops show some products with one picture. Of more of them than were asked for, any may be given.
    """
    best = float(neighbors[0]["score"]) if neighbors else 0.0
    nearest = [each["id"] for each in neighbors if each["score"] >= best - _SAME]
    _expect(
        item in nearest or (len(nearest) == len(neighbors) > 1 and best >= 1 - _SAME),
        f"the search by {what} of {item} should give {item} first, but gave {nearest}",
    )


def found_things(regions: Sequence[Mapping[str, Any]], things: Mapping[str, str], kinds: Mapping[str, str]) -> None:
    """In a photo of a room everything was found, and the most similar product is such a thing.

    things: the kind of thing by the category of its region. kinds: of the products whose names say it.
    """
    for category, kind in things.items():
        first = [region["neighbors"][0]["id"] for region in regions if region["category"] == category]
        _expect(
            any(kinds.get(item) == kind for item in first),
            f"in the photo of a room a {kind} should be found, most similar to a {kind} of {category}; found were "
            f"{first or 'none'}, among {[region['category'] for region in regions]}",
        )


def beats_histogram(model: Evaluation, histogram: Evaluation) -> None:
    """The embeddings are clearly better than colours alone."""
    _expect(
        model.precision_at_5 >= 1.5 * histogram.precision_at_5,
        f"precision@5 is {model.precision_at_5:.2f}; a colour histogram reaches {histogram.precision_at_5:.2f}, "
        "and the model should have at least one and a half times that",
    )


def was_uninterrupted(traffic: Traffic) -> None:
    """The client asked all the time and no request failed or mixed generations."""
    _expect(
        traffic.requests >= _LEAST, f"the client made {traffic.requests} requests; fewer than {_LEAST} show nothing"
    )
    _expect(
        not traffic.failures,
        f"{len(traffic.failures)} of {traffic.requests} requests failed; the first: {traffic.failures[:1]}",
    )
    _expect(traffic.mixed == 0, f"{traffic.mixed} answers mixed generations")


def moved_on(traffic: Traffic, *generations: int) -> None:
    """The client saw these generations, one after the other, and no other."""
    _expect(
        traffic.generations == generations,
        f"the client should have seen generations {generations}; it saw {traffic.generations}",
    )


def stayed(traffic: Traffic, generation: int) -> None:
    """The client was answered by one generation all the time."""
    _expect(
        traffic.generations == (generation,),
        f"generation {generation} should have answered all the time; the client saw {traffic.generations}",
    )


def embedded_only_new(embedded: int, new: int) -> None:
    """The second build embedded the new pictures and reused the rest."""
    _expect(embedded == new, f"{new} pictures were new, but {embedded} were embedded")


def was_unchanged(summary: Mapping[str, Any], generation: int) -> None:
    """The batch found that what it would build serves already, under this generation."""
    seen = (summary["outcome"], summary["generation"])
    _expect(
        seen == ("unchanged", generation),
        f"an unchanged catalogue should leave generation {generation} as it is; the batch says {seen[0]}, {seen[1]}",
    )


def was_refused(receipt: Receipt, outcome: Outcome, code: str) -> None:
    """A bad build or commit ended as it should, for the reason that was planted."""
    _expect(
        (receipt.outcome, receipt.code) == (outcome, code),
        f"the receipt should say {outcome} ({code}), but says {receipt.outcome} ({receipt.code}): {receipt.detail}",
    )
    _expect(bool(receipt.detail), "the receipt should say why")


def was_reported(reports: Sequence[Mapping[str, Any]], generation: int) -> None:
    """The notification topic heard of it."""
    _expect(
        any(str(report.get("generation")) == str(generation) for report in reports),
        f"NOTIFY_TOPIC should have a report about generation {generation}; it has {len(reports)} others",
    )
