"""Each worker decodes and runs the network, on one picture at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from embedding_batch.embedding.processes import Died, Processes, next_chunk
from embedding_batch.embedding.work import Cutting, EmbedWork, Model, killed

K = TypeVar("K")


def embed_one_by_one(
    pictures: Iterable[tuple[K, bytes]], model: Model, *, workers: int, cutting: Cutting | None = None
) -> Iterator[tuple[K, NDArray[np.float32] | str]]:
    """See `embed_pictures`."""
    source = iter(pictures)
    work = EmbedWork(model.path, model.takes, model.normalised, cutting)
    pool: Processes[K, bytes, NDArray[np.float32] | str] = Processes(work, workers)
    with pool:
        while True:
            while pool.room and (chunk := next_chunk(source)):
                pool.give(chunk)
            if pool.idle:
                return
            for key, result in pool.take():
                yield key, killed(result) if isinstance(result, Died) else result
