"""Pictures to vectors, on all cores.

Each core takes one picture at a time through reading, decoding and the network. On a CPU a batch of one is as fast as a
larger one (a convolution keeps a core busy by itself), it needs no memory for pictures that wait, and a picture's
vector can't depend on which others were new today.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from embedding_batch.events import Listener, Progress
from embedding_batch.steps.catalogue import Listed
from embedding_batch.steps.features import Features
from image_embedder import Embedder, PictureUnreadable, preprocess
from model_repository.documents.model_manifest import ModelInput

PART_ROWS = 4096
"""Embeddings in one part of the cache: what a batch that is killed loses at most."""

Vector = NDArray[np.float16]


def embed(
    missing: Sequence[Listed],
    embed_picture: Callable[[bytes], NDArray[np.float32]],
    keep: Callable[[Features], object],
    *,
    workers: int,
    listener: Listener,
) -> dict[bytes, str]:
    """Embed the pictures and hand the embeddings to `keep`, PART_ROWS at a time; return what is wrong with the others.

    embed_picture: raises PictureUnreadable. workers: threads; as many as cores, where each call uses one.
    """
    faults: dict[bytes, str] = {}
    done = 0
    listener(Progress("embed", 0, len(missing)))
    pool = ThreadPoolExecutor(workers)
    try:
        for start in range(0, len(missing), PART_ROWS):
            entries = missing[start : start + PART_ROWS]
            vectors: dict[bytes, Vector] = {}
            for entry, result in zip(
                entries, pool.map(lambda entry: _embed(entry, embed_picture), entries), strict=True
            ):
                if isinstance(result, str):
                    faults[entry.sha256] = result
                else:
                    vectors[entry.sha256] = result
                done += 1
                listener(Progress("embed", done, len(missing)))
            if vectors:
                keep(Features(tuple(vectors), np.stack(list(vectors.values()))))
    finally:
        pool.shutdown(cancel_futures=True)  # broken off, it doesn't first finish the thousands of pictures that wait
    return faults


def _embed(entry: Listed, embed_picture: Callable[[bytes], NDArray[np.float32]]) -> Vector | str:
    try:
        return embed_picture(read_picture(entry)).astype(np.float16)
    except PictureUnreadable as error:
        return str(error)


def read_picture(entry: Listed) -> bytes:
    """Return the very picture that was listed; raises PictureUnreadable where it isn't there any more."""
    try:
        data = entry.item.picture.read_bytes()
    except OSError as error:
        raise PictureUnreadable(f"the picture can't be read: {error.strerror or error}") from error
    if hashlib.sha256(data).digest() != entry.sha256:
        raise PictureUnreadable("the picture was changed while the batch ran")
    return data


def embed_picture(data: bytes, embedder: Embedder, takes: ModelInput) -> NDArray[np.float32]:
    """Return the embedding, float32[D], of an encoded picture; raises PictureUnreadable, also for no finite numbers."""
    vector: NDArray[np.float32] = embedder.embed(preprocess(data, takes)[np.newaxis])[0]
    if not np.isfinite(vector).all():
        raise PictureUnreadable("the model gave no finite numbers for the picture")
    return vector
