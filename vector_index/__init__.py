"""Approximate nearest neighbours: the vectors of one partition in a file that is mapped, not read.

Batch and search server share this room: what the one builds and measures is what the other searches. Three engines
stand behind one interface, `VectorIndex`: Annoy, HNSW as faiss has it, and exact search for what is small.
"""

from vector_index.engines import PartitionFiles, build_index, open_index
from vector_index.exact import ExactIndex
from vector_index.interface import EngineUnfit, IndexFileUnsound, TakesLonger, Vector, VectorIndex
from vector_index.neighbours import Neighbours
from vector_index.visible import Visible

__all__ = [
    "EngineUnfit",
    "ExactIndex",
    "IndexFileUnsound",
    "Neighbours",
    "PartitionFiles",
    "TakesLonger",
    "Vector",
    "VectorIndex",
    "Visible",
    "build_index",
    "open_index",
]
