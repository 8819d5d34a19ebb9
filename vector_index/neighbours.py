"""What a search finds."""

from __future__ import annotations

from typing import NamedTuple


class Neighbours(NamedTuple):
    """positions, nearest first, and their angular distances, sqrt(2 - 2 cos), from 0 to 2."""

    positions: list[int]
    distances: list[float]
