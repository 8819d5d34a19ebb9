"""Workers decode into shared memory; this process runs the network on whole batches of it.

There are three batches: one in the network, two that are filled. A picture is given its row before it is decoded, so
nothing is copied or sorted afterwards; the row of one that can't be decoded keeps whatever it had.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from embedding_batch.embedding.processes import CHUNK, Died, Processes, next_chunk
from embedding_batch.embedding.work import Cutting, DecodeWork, killed, picture_bytes, shared_pixels
from image_embedder import Embedder, PictureUnreadable, finite
from model_repository.documents.model_manifest import ModelInput

BATCH = 128
"""Pictures in a batch."""

BATCHES = 3

K = TypeVar("K")


class _Batch(Generic[K]):
    """Some rows of the shared memory, the first of them `first`.

    keys: of the pictures that have a row, in their order. missing: rows that are still to be decoded.
    """

    def __init__(self, first: int) -> None:
        self.first = first
        self.keys: list[K] = []
        self.faults: dict[int, str] = {}
        self.missing = 0

    @property
    def left(self) -> int:
        return BATCH - len(self.keys)

    def add(self, pictures: list[tuple[K, bytes]]) -> list[tuple[tuple[_Batch[K], int], tuple[int, bytes]]]:
        """Return the tasks of decoding them, each with its place."""
        start = len(self.keys)
        self.keys += [key for key, _ in pictures]
        self.missing += len(pictures)
        return [((self, row), (self.first + row, data)) for row, (_, data) in enumerate(pictures, start)]

    def decoded(self, row: int, fault: str | Died | None) -> None:
        self.missing -= 1
        if fault is not None:
            self.faults[row] = killed(fault) if isinstance(fault, Died) else fault

    def embedded(self, pixels: NDArray[Any], embedder: Embedder) -> Iterator[tuple[K, NDArray[np.float32] | str]]:
        if len(self.faults) == len(self.keys):
            yield from ((key, self.faults[row]) for row, key in enumerate(self.keys))
            return
        vectors = embedder.embed(pixels[self.first : self.first + len(self.keys)])
        for row, key in enumerate(self.keys):
            try:
                yield key, self.faults.get(row) or finite(vectors[row])
            except PictureUnreadable as error:
                yield key, str(error)


def embed_in_batches(
    pictures: Iterable[tuple[K, bytes]],
    takes: ModelInput,
    embedder: Embedder,
    *,
    workers: int,
    cutting: Cutting | None = None,
) -> Iterator[tuple[K, NDArray[np.float32] | str]]:
    """See `embed_pictures`. embedder: run here, on up to BATCH pictures at a time."""
    rows = BATCHES * BATCH
    # No file of /dev/shm: a container has 64 MiB of that. This counts as memory of whoever wrote it, and ends with us.
    file = os.memfd_create("pictures")
    try:
        os.ftruncate(file, rows * picture_bytes(takes))
        pixels = shared_pixels(file, rows, takes)
        work = DecodeWork(file, rows, takes, cutting)
        pool: Processes[tuple[_Batch[K], int], tuple[int, bytes], str | None] = Processes(work, workers, [file])
        with pool:
            yield from _embed(iter(pictures), pixels, embedder, pool)
    finally:
        os.close(file)


def _embed(
    source: Iterator[tuple[K, bytes]],
    pixels: NDArray[Any],
    embedder: Embedder,
    pool: Processes[tuple[_Batch[K], int], tuple[int, bytes], str | None],
) -> Iterator[tuple[K, NDArray[np.float32] | str]]:
    free = list(range(0, len(pixels), BATCH))
    batches: list[_Batch[K]] = []
    ended = False
    while batches or not ended:
        while pool.room and not ended:
            if not batches or not batches[-1].left:
                if not free:
                    break
                batches.append(_Batch(free.pop()))
            chunk = next_chunk(source, min(CHUNK, batches[-1].left))
            if chunk:
                pool.give(batches[-1].add(chunk))
            ended = not chunk
        if not pool.idle:
            for (batch, row), fault in pool.take():
                batch.decoded(row, fault)
        for batch in [batch for batch in batches if not batch.missing and (ended or not batch.left)]:
            yield from batch.embedded(pixels, embedder)
            batches.remove(batch)
            free.append(batch.first)
