"""What both engines can do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from model_repository.errors import PermanentError

Vector = Sequence[float] | NDArray[np.float32]


class IndexFileUnsound(PermanentError):
    """A file isn't the index that it should be: cut, of another engine, or with another number of vectors."""

    code: ClassVar[str] = "index-file-unsound"


class Neighbours(NamedTuple):
    """positions, nearest first, and their angular distances, sqrt(2 - 2 cos), from 0 to 2."""

    positions: list[int]
    distances: list[float]


class VectorIndex(Protocol):
    """The vectors of a partition by position, from 0, in a mapped file. Safe to search from several threads.

    width: how widely is looked, in the engine's own measure: about how many candidates (Annoy's search_k, HNSW's ef).
    More find more of the true neighbours and take longer. Both searches give `count` neighbours, fewer only if there
    are fewer vectors.
    """

    def __len__(self) -> int:
        """How many vectors."""

    def nearest(self, vector: Vector, count: int, width: int) -> Neighbours:
        """The nearest to a vector of the index's dimensions, finite and not all 0; its length is of no account."""

    def nearest_to(self, position: int, count: int, width: int) -> Neighbours:
        """The nearest to the vector at a position, which is one of them."""

    def vector(self, position: int) -> list[float]:
        """The vector at a position, as exactly as it is stored."""

    def close(self) -> None:
        """Let the mapping go; nothing may be asked after that."""
