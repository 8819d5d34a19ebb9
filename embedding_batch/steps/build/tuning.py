"""How widely an index must be searched to find what is asked of it, and how fast it is then.

It is asked about items, as callers do, and about points halfway between an item and one of its neighbours: those are no
items, as a customer's photo is none, and lie where photos do.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model_repository.documents.index_manifest import Recall
from vector_index import VectorIndex

RECALL_AT = 10
_STEP = 1.3
"""From one width that is tried to the next."""
_LITTLE = 0.02
"""So much more recall than is asked isn't worth another trial: a step narrower costs about as much."""
_CHUNK = 64
"""Queries that are asked, or compared with all vectors, at once."""
_TIE = 1e-5
"""Two similarities closer than this are the same: which of two twins comes tenth is no matter of recall."""


@dataclass(frozen=True, slots=True)
class Tuned:
    """width: that finds the recall. queries_per_second: for RECALL_AT neighbours at that width, on one core."""

    width: int
    recall: Recall
    queries_per_second: float


@dataclass(frozen=True, slots=True)
class _Queries:
    """What is asked, and what is right.

    vectors: float32[Q,D]. items: the position that a row is the vector of, or -1. least: float32[Q], the similarity of
    the k-th nearest that isn't the item itself. k: of them.
    """

    vectors: NDArray[np.float32]
    items: NDArray[np.intp]
    least: NDArray[np.float32]
    k: int


def tune(
    index: VectorIndex,
    vectors: NDArray[np.float32],
    *,
    queries: int,
    recall: float,
    narrowest: int,
    widest: int,
    near: int = 0,
) -> Tuned:
    """Return the least width that finds `recall` of the exact answer; if none does, the widest.

    vectors: float32[N,D] of length 1, by position. queries: items that are asked about, evenly spread, and as many
    points between them. narrowest, widest: there is one in each step from the first to the last. near: a guess, such as
    what the build before needed, where to begin: it saves time, and finds the same, or a step more where that finds
    hardly more than is asked.
    """
    asked = _ask(vectors, queries)
    widths = list(_widths(narrowest, widest))
    last = len(widths) - 1
    place = min(bisect_left(widths, near), last)
    tried = _try(index, vectors, asked, widths[place], recall if place < last else 0.0)
    if tried is None:
        while tried is None:
            place += 1
            tried = _try(index, vectors, asked, widths[place], recall if place < last else 0.0)
        return tried
    while place > 0 and tried.recall.value >= recall + _LITTLE:
        place -= 1
        narrower = _try(index, vectors, asked, widths[place], recall)
        if narrower is None:
            break
        tried = narrower
    return tried


def _widths(narrowest: int, widest: int) -> Iterator[int]:
    width = narrowest
    while width < widest:
        yield width
        width = int(width * _STEP)
    yield widest


def _try(index: VectorIndex, vectors: NDArray[np.float32], asked: _Queries, width: int, least: float) -> Tuned | None:
    """Search so widely; None as soon as that can't find `least` of the exact answer any more."""
    count = len(asked.vectors)
    right = of = asked.k * count  # what isn't looked for yet counts as found
    seconds = 0.0
    for start in range(0, count, _CHUNK):
        rows = range(start, min(start + _CHUNK, count))
        begun = time.perf_counter()
        found = [_search(index, asked, row, width) for row in rows]
        seconds += time.perf_counter() - begun
        right -= sum(asked.k - _right(vectors, asked, *each) for each in zip(rows, found, strict=True))
        if right < least * of:
            return None
    measured = Recall(RECALL_AT, right / of if of else 1.0, count)
    return Tuned(width, measured, float(f"{count / seconds:.3g}"))


def _ask(vectors: NDArray[np.float32], count: int) -> _Queries:
    """Where there are fewer than RECALL_AT other items, all of them are the exact answer."""
    items = np.array(spread(len(vectors), count))
    k = min(RECALL_AT, len(vectors) - 1)
    if k == 0:
        return _Queries(vectors[items], items, np.full(len(items), -np.inf, np.float32), 0)
    neighbors, least = _exact(vectors, vectors[items], items, k)
    between = vectors[items] + vectors[neighbors]
    lengths = np.linalg.norm(between, axis=1)
    between = between[lengths > _TIE] / lengths[lengths > _TIE, np.newaxis]  # opposite ones have nothing between them
    nobody = np.full(len(between), -1)
    _, least_between = _exact(vectors, between, nobody, k)
    return _Queries(
        np.concatenate([vectors[items], between]),
        np.concatenate([items, nobody]),
        np.concatenate([least, least_between]),
        k,
    )


def _exact(
    vectors: NDArray[np.float32], queries: NDArray[np.float32], items: NDArray[np.intp], k: int
) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """The k-th nearest of each query, without the item that it is, and its similarity."""
    neighbors, least = [np.empty(0, np.intp)], [np.empty(0, np.float32)]
    for start in range(0, len(queries), _CHUNK):
        similarities = queries[start : start + _CHUNK] @ vectors.T
        of = items[start : start + _CHUNK]
        rows = np.arange(len(of))
        similarities[rows[of >= 0], of[of >= 0]] = -np.inf
        kth = np.argpartition(similarities, -k, axis=1)[:, -k]
        neighbors.append(kth)
        least.append(similarities[rows, kth])
    return np.concatenate(neighbors), np.concatenate(least)


def _search(index: VectorIndex, asked: _Queries, row: int, width: int) -> list[int]:
    item = int(asked.items[row])
    if item < 0:
        return index.nearest(asked.vectors[row], asked.k, width).positions
    return [other for other in index.nearest_to(item, asked.k + 1, width).positions if other != item][: asked.k]


def _right(vectors: NDArray[np.float32], asked: _Queries, row: int, found: list[int]) -> int:
    """How many of what a query found are as near as the exact answer."""
    similarities = vectors[found] @ asked.vectors[row]
    return int(np.count_nonzero(similarities >= asked.least[row] - _TIE))


def spread(size: int, count: int) -> list[int]:
    """Return at most `count` different positions below `size`, evenly spread: the same each time, unlike a sample."""
    return [int(position) for position in np.unique(np.linspace(0, size - 1, min(size, count)).round())]
