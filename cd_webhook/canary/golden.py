"""Golden queries over HTTP: what to ask a pod, and whether its answer is what the batch recorded."""

from __future__ import annotations

import json
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

from model_repository.comparing.golden import same_distance
from model_repository.documents.index_manifest import GoldenQuery, IndexManifest

_MOST = 200


@dataclass(frozen=True, slots=True)
class Question:
    """A request to a search server. expected: the neighbours recorded, with their distances, nearest first."""

    path: str
    expected: tuple[tuple[str, float], ...]


def questions(manifest: IndexManifest) -> tuple[Question, ...]:
    """The golden queries of a build as requests for similar items, which leave the item itself out."""
    found = (_question(query) for query in manifest.golden_queries[:_MOST])
    return tuple(question for question in found if question.expected)


def _question(query: GoldenQuery) -> Question:
    recorded = zip(query.neighbors, query.distances, strict=True)
    expected = tuple((item, distance) for item, distance in recorded if item != query.item)
    parameters = urlencode({"k": len(expected), "category": query.category})
    return Question(f"/v1/items/{quote(query.item, safe='')}/similar?{parameters}", expected)


def is_right(question: Question, body: bytes, hidden: AbstractSet[str]) -> bool:
    """Whether an answer is the recorded one, or a better one.

    A server looks at more candidates than the batch did, so at each place it may find something nearer, and nothing
    farther; a neighbour that was recorded must have its recorded distance. hidden: of those, what a filter may keep
    back: then the others move up, and whatever comes behind them is right.
    """
    try:
        neighbors: list[dict[str, Any]] = json.loads(body)["neighbors"]
        found = [(str(neighbor["id"]), float(neighbor["distance"])) for neighbor in neighbors]
    except (ValueError, KeyError, TypeError):
        return False
    expected = [(item, distance) for item, distance in question.expected if item not in hidden]
    if not len(expected) <= len(found) <= len(question.expected):
        return False
    recorded = dict(question.expected)
    fits = all(same_distance(distance, recorded.get(item, distance)) for item, distance in found)
    return fits and all(
        mine <= theirs or same_distance(mine, theirs) for (_, mine), (_, theirs) in zip(found, expected, strict=False)
    )
