"""Pictures through a model on all cores: by processes, on the CPU or on a CUDA device.

`embed_pictures` is the door. `processes.py` runs any work in processes of which each may die; `worker.py` is what such
a process runs; `single.py` and `batches.py` are the two ways to a vector. `on_device.py` has the device decode, too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from embedding_batch.embedding.batches import embed_in_batches
from embedding_batch.embedding.single import embed_one_by_one
from embedding_batch.embedding.work import Cutting, Model
from image_embedder import Device, Embedder

__all__ = ["Cutting", "Device", "Model", "embed_pictures"]

K = TypeVar("K")


def embed_pictures(
    pictures: Iterable[tuple[K, bytes]],
    model: Model,
    *,
    workers: int,
    device: Device = Device.CPU,
    decodes: bool = False,
    cutting: Cutting | None = None,
) -> Iterator[tuple[K, NDArray[np.float32] | str]]:
    """Return for each picture, in any order, its key with its embedding, float32[D], or why it has none.

    pictures: encoded ones, each with a key that comes back; pulled in the caller's thread, as room for them comes up.
    Not more than 16 for each worker are under way at a time, nor more bytes than 2 MiB and two pictures for each; for a
    device, besides, not more than 384 from being pulled to having their vector.
    workers: processes; on the CPU each decodes and runs the network on one core, for a device they decode. They are
    started as the pictures become more. Each has 75 MB of its own with EfficientNet-Lite0, 36 MB where it only decodes;
    for a device all share 384 pictures as the model takes them; see docs/benchmarks/batch.md.

    decodes: whether the device decodes plain JPEGs, too (see `on_device`); of those up to 256 more are under way, and
    their vectors come last.
    cutting: what is embedded of a picture, found by the workers on the CPU; None: all of it.

    On the CPU a picture is alone in its network call, so its vector doesn't depend on its neighbours. On a device it is
    one of up to 128, and its last bits may follow them.

    A picture whose worker dies of it (a decoder's crash, memory that the kernel wants back) gets that as its reason,
    after a second try by itself. Closing the iterator ends all processes at once, as does the end of this process.

    Raises Misconfigured where the device can't be had, before a picture is pulled; WorkersDied where workers die of
    more than single pictures; RuntimeError, with the worker's own stack, for a defect.
    """
    if device is Device.CPU:
        return embed_one_by_one(pictures, model, workers=workers, cutting=cutting)
    embedder = Embedder(model.path, normalised=model.normalised, device=device)
    if not decodes:
        return embed_in_batches(pictures, model.takes, embedder, workers=workers, cutting=cutting)
    from embedding_batch.embedding.on_device import DeviceDecoder, embed_decoded_there  # noqa: PLC0415 - it has nvimgcodec

    decoder = DeviceDecoder(model.takes, device, threads=workers)
    return embed_decoded_there(pictures, model.takes, embedder, decoder, workers=workers)
