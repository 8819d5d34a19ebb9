"""What every engine can do."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from model_repository.errors import PermanentError
from vector_index.neighbours import Neighbours
from vector_index.visible import Visible

Vector = Sequence[float] | NDArray[np.float32]


class IndexFileUnsound(PermanentError, code="index-file-unsound"):
    """A file isn't the index that it should be: cut, of another engine, or with another number of vectors."""


class EngineUnfit(PermanentError, code="engine-unfit"):
    """An engine as it is installed here doesn't find what it must."""


class TakesLonger(Exception):
    """What is hidden lies close to what is looked for, so that a search compares more vectors than it was to."""


class VectorIndex(Protocol):
    """The vectors of a partition by position, from 0, in a mapped file. Safe to search from several threads.

    width: how widely is looked, in the engine's own measure: about how many candidates (Annoy's search_k, HNSW's ef;
    exact search has none). More find more of the true neighbours and take longer. Both searches give `count`
    neighbours, fewer only if there are fewer vectors that may be found.

    visible: the only ones that may be found, or None for all. Where some are hidden the search is wider by their share,
    so that it finds as much of what is left, and wider still where more are hidden near by; and all that is left is
    compared where that costs no more.

    patience: vectors that it may compare in being wider than that, about; above it `TakesLonger` is raised.
    """

    def __len__(self) -> int:
        """How many vectors."""

    def nearest(
        self, vector: Vector, count: int, width: int, visible: Visible | None = None, patience: float = math.inf
    ) -> Neighbours:
        """The nearest to a vector of the index's dimensions, finite and not all 0; its length is of no account."""

    def nearest_to(
        self, position: int, count: int, width: int, visible: Visible | None = None, patience: float = math.inf
    ) -> Neighbours:
        """The nearest to the vector at a position, which is one of them unless it is hidden."""

    def vector(self, position: int) -> list[float]:
        """The vector at a position, as exactly as it is stored."""

    def close(self) -> None:
        """Let the mapping go; nothing may be asked after that."""
