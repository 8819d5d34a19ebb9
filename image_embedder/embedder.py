"""An ONNX embedder, run on the CPU or on a CUDA device."""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

# onnxruntime 1.31 reports on its users unless told otherwise before it is loaded, and writes to the home folder for it.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import onnxruntime

from image_embedder.decoding import PictureUnreadable
from image_embedder.preprocessing import preprocess, preprocessed_shape
from model_repository.documents.model_manifest import ModelInput
from model_repository.errors import Misconfigured

_LEAST_LENGTH = np.float32(1e-12)


class Device(StrEnum):
    """What a network runs on."""

    CPU = "cpu"
    CUDA = "cuda"


_PROVIDERS: dict[Device, tuple[str, dict[str, str]]] = {
    Device.CPU: ("CPUExecutionProvider", {}),
    # EXHAUSTIVE did not return within minutes on an H200. TF32 would be another precision than what we say.
    Device.CUDA: ("CUDAExecutionProvider", {"cudnn_conv_algo_search": "HEURISTIC", "use_tf32": "0"}),
}

_NUMBERS = {"tensor(float)": np.float32, "tensor(uint8)": np.uint8}


class InputRefused(Exception):
    """A model takes, or gives, something else than is said of it."""


def open_session(model: Path | bytes, *, device: Device = Device.CPU) -> onnxruntime.InferenceSession:
    """Open an ONNX file, or what is in one; each call uses one core.

    Raises Misconfigured where the device can't be had: no other is taken in its place; InputRefused for a graph
    without inputs or outputs. Raises whatever onnxruntime does for a file that it can't load; its exceptions have no
    common base.
    """
    provider = _PROVIDERS[device]
    if provider[0] not in onnxruntime.get_available_providers():
        raise Misconfigured(
            f"--device {device}: the onnxruntime installed here ({onnxruntime.__version__}) has no {provider[0]}; "
            "install requirements/embedding_batch_cuda.txt in an environment of its own"
        )
    if device is Device.CUDA:
        onnxruntime.preload_dlls(directory="")  # those of the nvidia packages, which nothing else finds
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1  # callers bring processes, or threads, of their own
    source = model if isinstance(model, bytes) else str(model)
    session = onnxruntime.InferenceSession(source, options, providers=[provider])
    if not session.get_inputs() or not session.get_outputs():
        raise InputRefused("the model takes nothing, or gives nothing")
    # onnxruntime goes on with the CPU where it can't load CUDA's libraries, and says so only in its own log.
    if provider[0] not in session.get_providers():
        raise Misconfigured(
            f"--device {device}: onnxruntime can't use {provider[0]}, only "
            f"{', '.join(session.get_providers())}; its own line above says why: the driver or a library of "
            "CUDA is missing, or no device is given to this container"
        )
    return session


class Embedder:
    """A model of the contract: pictures as `ModelInput` says in, float32[N,D], L2-normalised, out.

    On the CPU the vector of a picture depends on nothing but the picture as long as N is 1; in larger batches its last
    bits may follow its neighbours. Safe to use from several threads at once: onnxruntime releases the GIL while it
    computes.

    device: what it runs on.
    """

    def __init__(self, path: Path, *, normalised: bool = True, device: Device = Device.CPU) -> None:
        """Open the model file at `path`. normalised: whether it does that itself. Raises what `open_session` does."""
        self._session = open_session(path, device=device)
        self.device = device
        self._normalised = normalised
        self._input: str = self._session.get_inputs()[0].name
        self._output: str = self._session.get_outputs()[0].name

    def embed(self, batch: NDArray[Any]) -> NDArray[np.float32]:
        """Return the embeddings, float32[N,D], of N preprocessed pictures."""
        return self._of_length_1(self._session.run([self._output], {self._input: batch})[0])

    def embed_there(self, batch: onnxruntime.OrtValue, count: int) -> NDArray[np.float32]:
        """Return the embeddings, float32[count,D], of the first preprocessed pictures in the device's memory."""
        bound = self._session.io_binding()
        kind = _NUMBERS[batch.data_type()]
        bound.bind_input(self._input, self.device.value, 0, kind, [count, *batch.shape()[1:]], batch.data_ptr())
        bound.bind_output(self._output)
        self._session.run_with_iobinding(bound)
        return self._of_length_1(bound.copy_outputs_to_cpu()[0])

    def _of_length_1(self, embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
        if not self._normalised:
            embeddings = embeddings / np.maximum(np.linalg.norm(embeddings, axis=1, keepdims=True), _LEAST_LENGTH)
        return embeddings

    def embed_picture(self, data: bytes, takes: ModelInput) -> NDArray[np.float32]:
        """Return the embedding, float32[D], of an encoded picture by itself; raises PictureUnreadable."""
        return finite(self.embed(preprocess(data, takes)[np.newaxis])[0])

    def probe(self, wanted: ModelInput) -> int:
        """Embed an empty picture; return D. Raises `InputRefused` if the model doesn't take what `wanted` says."""
        shape = preprocessed_shape(wanted)
        try:
            found = np.asarray(self._session.run([self._output], {self._input: np.zeros((1, *shape), wanted.dtype)})[0])
        except Exception as error:  # onnxruntime has a dozen exceptions of its own, none with a common base
            takes, reason = self._session.get_inputs()[0], str(error).splitlines()[0]
            raise InputRefused(
                f"the model takes {takes.type} of {takes.shape}, not {wanted.dtype} of {['N', *shape]}: {reason}"
            ) from error
        if found.ndim != 2 or len(found) != 1 or not found.size or found.dtype != np.float32:  # noqa: PLR2004 - [N, D]
            raise InputRefused(
                f"the model gives {found.dtype} of {list(found.shape)} for one picture: float32 of [N, D] is needed"
            )
        return int(found.shape[1])


def finite(vector: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the vector; raises PictureUnreadable where it has numbers that are none, or nothing but zeros."""
    if not np.isfinite(vector).all():
        raise PictureUnreadable("the model gave no finite numbers for the picture")
    if not vector.any():
        raise PictureUnreadable("the model gave nothing but zeros for the picture")
    return vector
