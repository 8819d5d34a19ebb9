"""How vectors are indexed: a choice, known without what does it."""

from __future__ import annotations

from dataclasses import dataclass

from model_repository.documents.index_manifest import Engine, Storage


@dataclass(frozen=True, slots=True)
class Method:
    """How a category's vectors are indexed. trees, seed: Annoy's."""

    engine: Engine = Engine.ANNOY
    storage: Storage = Storage.FLOAT32
    trees: int = 20
    seed: int = 1
