"""Approximate nearest neighbours: the vectors of one partition in a file that is mapped, not read.

Batch and search server share this room: what the one builds and measures is what the other searches. Two engines stand
behind one interface, `VectorIndex`: Annoy, and HNSW as faiss has it.
"""

from vector_index.engines import build_index, open_index
from vector_index.interface import EngineUnfit, IndexFileUnsound, Vector, VectorIndex
from vector_index.neighbours import Neighbours
from vector_index.visible import Visible

__all__ = [
    "EngineUnfit",
    "IndexFileUnsound",
    "Neighbours",
    "Vector",
    "VectorIndex",
    "Visible",
    "build_index",
    "open_index",
]
