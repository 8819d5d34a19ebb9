"""A device decodes, too: JPEGs go in, and no pixel passes through this machine's memory on its way to the network.

NVIDIA's nvImageCodec decodes; two products of matrices, an ONNX graph of ours, resize as Pillow does and write into the
network's batch. Both run on a CPU as well, which is how they are tested where there is no device.

A device has no say in whether a picture is broken: what isn't plain, or what it can't decode, goes to the workers.
"""

from __future__ import annotations

import io
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache
from typing import Any, TypeVar

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper
from PIL import Image

from embedding_batch.embedding.batches import BATCH, embed_in_batches
from image_embedder import Device, Embedder, PictureUnreadable, finite, preprocessed_shape
from image_embedder.embedder import open_session
from image_embedder.metadata import plain_jpeg_size
from image_embedder.preprocessing import placement
from model_repository.documents.model_manifest import Layout, ModelInput, PixelType
from model_repository.errors import Misconfigured

DEVICE_PIXELS = 2**22
"""Most of a picture that the device decodes: a batch of them takes 1.5 GiB there. Larger ones Pillow reads at a half or
a quarter of their size, which costs it less than all of one."""

DEVICE_PICTURE_BYTES = 2**21
"""Most of such a picture as it comes; a batch waits in memory."""

_OPSET, _IR = 17, 8
_WHITE = 255.0
_WEIGHTS_KEPT = 128
_SUPPORT = 2.0

K = TypeVar("K")


def decoded_there(data: bytes) -> bool:
    """Return whether the device is given an encoded picture, and not a worker."""
    size = plain_jpeg_size(data)
    return size is not None and size[0] * size[1] <= DEVICE_PIXELS and len(data) <= DEVICE_PICTURE_BYTES


class DeviceDecoder:
    """Decodes and resizes up to BATCH plain JPEGs at a time, as `image_embedder.preprocess` does but for rounding.

    One thread may use it at a time. A batch stays as it is until the next but one is asked for.

    images: the codec alone: what it makes of each of many JPEGs, None where it can't.
    """

    def __init__(self, takes: ModelInput, device: Device, *, threads: int) -> None:
        """Open the codec, whose part on the CPU has so many threads, and the graph.

        Raises Misconfigured where the codec can't be had, and what `open_session` does.
        """
        self._takes, self._device = takes, device
        self._graph = open_session(_resizing(takes), device=device)
        self._binding = self._graph.io_binding()
        self._options = onnxruntime.RunOptions()
        # A batch is waited for as a whole.
        self._options.add_run_config_entry("disable_synchronize_execution_providers", "1")
        self._shape, self._type = preprocessed_shape(takes), np.dtype(takes.dtype)
        self._batches = deque(self._memory((BATCH, *self._shape), self._type) for _ in range(2))
        self._across = lru_cache(_WEIGHTS_KEPT)(self._weights)
        self.images = _codec(device, threads)
        if self.images([_a_picture()])[0] is None:
            raise Misconfigured(
                "--decode gpu: nvImageCodec can't decode a JPEG on this device; its own lines above say what is "
                "missing: install requirements/embedding_batch_cuda.txt in an environment of its own"
            )

    def decode(self, pictures: Sequence[bytes]) -> tuple[Any, list[bool]]:
        """Return the memory of a batch, OrtValue [BATCH, ...] on the device, and which of the pictures are in it.

        Those are its first rows, in their order.
        """
        self._batches.rotate()
        batch, row, there = self._batches[0], 0, []
        images = self.images(list(pictures))
        used = []  # memory that is let go of may be given to the next picture before the device is done with it
        self._binding.synchronize_inputs()  # the codec has a stream of its own
        for image in images:
            there.append(image is not None)
            if image is not None:
                address = batch.data_ptr() + row * int(np.prod(self._shape)) * self._type.itemsize
                used.append(self._resize(image, address))
                row += 1
        self._binding.synchronize_outputs()
        return batch, there

    def _resize(self, image: Any, address: int) -> tuple[Any, Any]:  # noqa: ANN401 - nvimgcodec's
        """Begin it; returns the weights, which the device still reads."""
        height, width, _ = image.shape
        placed = placement(width, height, self._takes.resize, self._takes.size)
        left, top, right, bottom = placed.box
        across = self._across(width, left, right, placed.size[0], placed.corner[0])
        down = self._across(height, top, bottom, placed.size[1], placed.corner[1])
        array = image.__array_interface__ if self._device is Device.CPU else image.__cuda_array_interface__
        bound = self._binding
        bound.bind_input("picture", self._device.value, 0, np.uint8, (height, width, 3), array["data"][0])
        bound.bind_ortvalue_input("across", across)
        bound.bind_ortvalue_input("down", down)
        bound.bind_output("pixels", self._device.value, 0, self._type, (1, *self._shape), address)
        self._graph.run_with_iobinding(bound, self._options)
        return across, down

    def _weights(self, side: int, start: float, end: float, size: int, corner: int) -> Any:  # noqa: ANN401 - OrtValue
        weights = np.zeros((self._takes.size, side), np.float32)
        weights[corner : corner + size] = resizing_weights(side, start, end, size)
        return onnxruntime.OrtValue.ortvalue_from_numpy(weights, self._device.value, 0)

    def _memory(self, shape: tuple[int, ...], kind: np.dtype[Any]) -> Any:  # noqa: ANN401 - OrtValue
        return onnxruntime.OrtValue.ortvalue_from_shape_and_type(shape, kind, self._device.value, 0)


def embed_decoded_there(
    pictures: Iterable[tuple[K, bytes]],
    takes: ModelInput,
    embedder: Embedder,
    decoder: DeviceDecoder,
    *,
    workers: int,
) -> Iterator[tuple[K, NDArray[np.float32] | str]]:
    """See `embed_pictures`."""
    others = _Others(pictures, decoder, embedder)
    for result in embed_in_batches(others, takes, embedder, workers=workers):
        yield from others.taken()
        yield result
    yield from others.taken()


class _Others(Iterable[tuple[K, bytes]]):
    """Pictures for the workers, out of all: those that the device decodes are embedded on the way."""

    def __init__(self, pictures: Iterable[tuple[K, bytes]], decoder: DeviceDecoder, embedder: Embedder) -> None:
        self._done: deque[tuple[K, NDArray[np.float32] | str]] = deque()
        self._pictures, self._decoder, self._embedder = pictures, decoder, embedder
        self._waiting: list[tuple[K, bytes]] = []
        self._decoding: deque[tuple[list[tuple[K, bytes]], Future[tuple[Any, list[bool]]]]] = deque()

    def __iter__(self) -> Iterator[tuple[K, bytes]]:
        with ThreadPoolExecutor(1, "decode") as thread:  # it decodes a batch while the one before is in the network
            for key, data in self._pictures:
                if not decoded_there(data):
                    yield key, data
                    continue
                self._waiting.append((key, data))
                if len(self._waiting) == BATCH:
                    self._begin(thread)
                    if len(self._decoding) > 1:
                        yield from self._embed()
            if self._waiting:
                self._begin(thread)
            while self._decoding:
                yield from self._embed()

    def taken(self) -> Iterator[tuple[K, NDArray[np.float32] | str]]:
        """Take what became of those, so far."""
        while self._done:
            yield self._done.popleft()

    def _begin(self, thread: ThreadPoolExecutor) -> None:
        batch, self._waiting = self._waiting, []
        self._decoding.append((batch, thread.submit(self._decoder.decode, [data for _, data in batch])))

    def _embed(self) -> Iterator[tuple[K, bytes]]:
        """Embed the batch that was begun first; those that aren't in it are for the workers."""
        pictures, decoding = self._decoding.popleft()
        memory, there = decoding.result()
        keys = [key for (key, _), is_there in zip(pictures, there, strict=True) if is_there]
        if keys:
            for key, vector in zip(keys, self._embedder.embed_there(memory, len(keys)), strict=True):
                try:
                    self._done.append((key, finite(vector)))
                except PictureUnreadable as error:
                    self._done.append((key, str(error)))
        yield from (picture for picture, is_there in zip(pictures, there, strict=True) if not is_there)


def resizing_weights(side: int, start: float, end: float, size: int) -> NDArray[np.float32]:
    """Return how much of each of `side` pixels is in each of `size` that stand for those from start to end.

    float32[size, side], rows of sum 1: Pillow's bicubic filter (a = -0.5), which is as much wider as the picture
    becomes smaller (libImaging/Resample.c, precompute_coeffs).
    """
    scale = (end - start) / size
    wide = max(scale, 1.0)
    centres = start + (np.arange(size) + 0.5) * scale
    first = np.maximum(np.floor(centres - _SUPPORT * wide + 0.5), 0)
    last = np.minimum(np.floor(centres + _SUPPORT * wide + 0.5), side)
    pixels = np.arange(side)
    at = np.abs((pixels[None] - centres[:, None] + 0.5) / wide)
    near = (1.5 * at - 2.5) * at * at + 1
    far = ((-0.5 * at + 2.5) * at - 4) * at + 2
    weights = np.where(at < 1, near, np.where(at < _SUPPORT, far, 0.0))
    weights[(pixels[None] < first[:, None]) | (pixels[None] >= last[:, None])] = 0
    weights /= weights.sum(axis=1, keepdims=True)
    return weights.astype(np.float32)


def _resizing(takes: ModelInput) -> bytes:
    """A graph: picture uint8[H,W,3], across float32[S,W], down float32[S,H] -> pixels [1,...] as the model takes them.

    Where both have only zeros it is white.
    """
    constants = {
        "white": np.float32(_WHITE),
        "none": np.float32(0),
        "one": np.float32(1),
        "mean": np.array(takes.mean, np.float32).reshape(3, 1, 1),
        "std": np.array(takes.std, np.float32).reshape(3, 1, 1),
        "rows": np.array([1], np.int64),
        "first": np.array([0], np.int64),
    }
    steps = [
        ("Cast", ["picture"], "values", {"to": TensorProto.FLOAT}),
        ("Transpose", ["values"], "planes", {"perm": [2, 0, 1]}),
        ("MatMul", ["down", "planes"], "low", {}),
        ("Transpose", ["across"], "across_turned", {"perm": [1, 0]}),
        ("MatMul", ["low", "across_turned"], "square", {}),
        ("ReduceSum", ["down", "rows"], "covered_down", {"keepdims": 1}),
        ("ReduceSum", ["across", "rows"], "covered_across", {"keepdims": 1}),
        ("Transpose", ["covered_across"], "covered_turned", {"perm": [1, 0]}),
        ("Mul", ["covered_down", "covered_turned"], "covered", {}),
        ("Sub", ["one", "covered"], "bare", {}),
        ("Mul", ["bare", "white"], "ground", {}),
        ("Add", ["square", "ground"], "laid", {}),
        ("Clip", ["laid", "none", "white"], "clipped", {}),
        ("Round", ["clipped"], "whole", {}),
    ]
    last = "whole"
    if takes.dtype is PixelType.UINT8:
        steps.append(("Cast", [last], "given", {"to": TensorProto.UINT8}))
        last = "given"
    elif not takes.as_they_are:
        steps += [("Sub", [last, "mean"], "centred", {}), ("Div", ["centred", "std"], "given", {})]
        last = "given"
    if takes.layout is Layout.NHWC:
        steps.append(("Transpose", [last], "turned", {"perm": [1, 2, 0]}))
        last = "turned"
    steps.append(("Unsqueeze", [last, "first"], "pixels", {}))
    used = {name for _, taken, _, _ in steps for name in taken}
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(takes.dtype))
    graph = helper.make_graph(
        [helper.make_node(name, taken, [given], **how) for name, taken, given, how in steps],
        "resizing",
        [
            helper.make_tensor_value_info("picture", TensorProto.UINT8, ["H", "W", 3]),
            helper.make_tensor_value_info("across", TensorProto.FLOAT, [takes.size, "W"]),
            helper.make_tensor_value_info("down", TensorProto.FLOAT, [takes.size, "H"]),
        ],
        [helper.make_tensor_value_info("pixels", kind, [1, *preprocessed_shape(takes)])],
        [onnx.numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items() if name in used],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR)
    return bytes(model.SerializeToString())


def _codec(device: Device, threads: int) -> Callable[[list[bytes]], list[Any]]:
    """Open nvImageCodec; the function gives an image, uint8[H,W,3] of RGB on the device, or None, for each JPEG."""
    os.environ.setdefault("PYNVIMGCODEC_VERBOSITY", "0")  # a picture that it can't decode is none of our errors
    try:
        from nvidia import nvimgcodec  # noqa: PLC0415 - only where it is asked for
    except ImportError as error:
        raise Misconfigured(
            f"--decode gpu: {error}; install requirements/embedding_batch_cuda.txt in an environment of its own"
        ) from None
    on_cpu = device is Device.CPU
    # No decoder on the CPU in a device's place: what it can't decode is for the workers, which are held in bounds.
    kinds = (
        [nvimgcodec.CPU_ONLY] if on_cpu else [nvimgcodec.HW_GPU_ONLY, nvimgcodec.GPU_ONLY, nvimgcodec.HYBRID_CPU_GPU]
    )
    try:
        decoder = nvimgcodec.Decoder(
            device_id=nvimgcodec.NVIMGCODEC_DEVICE_CPU_ONLY if on_cpu else 0,
            max_num_cpu_threads=threads,
            backends=[nvimgcodec.Backend(kind) for kind in kinds],
        )
    except RuntimeError as error:
        raise Misconfigured(f"--decode gpu: nvImageCodec can't be opened: {error}") from None
    how = nvimgcodec.DecodeParams(apply_exif_orientation=False, color_spec=nvimgcodec.SRGB)
    return lambda pictures: list(decoder.decode(pictures, params=how))


def _a_picture() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (16, 16), "grey").save(file, "JPEG")
    return file.getvalue()
