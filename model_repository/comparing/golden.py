"""By how much an answer to a golden query may differ from the one that the batch recorded."""

from __future__ import annotations

DISTANCE_TOLERANCE = 1e-4
"""Between two distances."""

COSINE_TOLERANCE = 1e-6
"""Between two cosines: near 0 a distance sqrt(2 - 2 cos) is all rounding, and machines round differently."""


def same_distance(a: float, b: float) -> bool:
    """Whether two angular distances, sqrt(2 - 2 cos), are the same but for rounding."""
    return abs(a - b) <= DISTANCE_TOLERANCE or abs(a * a - b * b) / 2 <= COSINE_TOLERANCE
