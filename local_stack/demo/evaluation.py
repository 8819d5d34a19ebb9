"""How good the answers are: precision over products whose name gives their kind, beside a colour histogram.

Precision@k of a query: the share of its k nearest labelled products that are of its own kind; the figure is the mean
over all labelled products whose kind has at least two.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

_BINS = 8
_KS = (1, 5)


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Mean precision over `queries` labelled products."""

    queries: int
    precision_at_1: float
    precision_at_5: float


def evaluate(kinds: Mapping[str, str], nearest: Callable[[str], Sequence[str]]) -> Evaluation:
    """Ask `nearest` (an item's neighbors, nearest first, without itself) about every labelled product.

    kinds: item id -> kind. Neighbors without a kind are passed over, so `nearest` should give plenty.
    """
    sizes = Counter(kinds.values())
    queries = [item for item, kind in kinds.items() if sizes[kind] > 1]
    sums = dict.fromkeys(_KS, 0.0)
    for item in queries:
        labelled = [kinds[other] for other in nearest(item) if other in kinds and other != item]
        for k in _KS:
            sums[k] += sum(kind == kinds[item] for kind in labelled[:k]) / k
    return Evaluation(len(queries), *(sums[k] / max(len(queries), 1) for k in _KS))


def histogram_neighbors(pictures: Mapping[str, Path]) -> Callable[[str], Sequence[str]]:
    """The baseline: neighbors by histogram intersection of 8 x 8 x 8 RGB bins (Swain and Ballard, 1991)."""
    items = list(pictures)
    rows = np.stack([_histogram(path) for path in pictures.values()])
    number = {item: row for row, item in enumerate(items)}

    def nearest(item: str) -> Sequence[str]:
        likeness = np.minimum(rows, rows[number[item]]).sum(axis=1)
        return [items[row] for row in np.argsort(-likeness, kind="stable") if items[row] != item]

    return nearest


def _histogram(path: Path) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    with Image.open(path) as picture:
        pixels = np.asarray(picture.convert("RGB")).reshape(-1, 3) // (256 // _BINS)
    counts = np.bincount(pixels.astype(np.int64) @ (_BINS * _BINS, _BINS, 1), minlength=_BINS**3)
    share: np.ndarray[tuple[int], np.dtype[np.float32]] = (counts / counts.sum()).astype(np.float32)
    return share
