"""An ONNX embedder, run on the CPU."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

# onnxruntime 1.31 reports on its users unless told otherwise before it is loaded, and writes to the home folder for it.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import onnxruntime

from model_repository.documents.model_manifest import Layout, ModelInput

_LEAST_LENGTH = np.float32(1e-12)


class InputRefused(Exception):
    """A model takes, or gives, something else than is said of it."""


class Embedder:
    """A model of the contract: pictures as `ModelInput` says in, float32[N,D], L2-normalised, out.

    The vector of a picture depends on nothing but the picture as long as N is 1; in larger batches its last bits may
    follow its neighbours. Safe to use from several threads at once: onnxruntime releases the GIL while it computes.
    """

    def __init__(self, path: Path, *, threads: int, normalised: bool = True) -> None:
        """Open the model file at `path`. threads: cores that one call may use. normalised: whether it does that itself.

        Raises whatever onnxruntime does for a file that it can't load; its exceptions have no common base.
        """
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        # Threads that spin while they wait take the cores from whoever else is on the machine.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self._normalised = normalised
        self._input: str = self._session.get_inputs()[0].name
        self._output: str = self._session.get_outputs()[0].name

    def embed(self, batch: NDArray[Any]) -> NDArray[np.float32]:
        """Return the embeddings, float32[N,D], of N preprocessed pictures."""
        embeddings: NDArray[np.float32] = self._session.run([self._output], {self._input: batch})[0]
        if not self._normalised:
            embeddings = embeddings / np.maximum(np.linalg.norm(embeddings, axis=1, keepdims=True), _LEAST_LENGTH)
        return embeddings

    def probe(self, wanted: ModelInput) -> int:
        """Embed an empty picture; return D. Raises `InputRefused` if the model doesn't take what `wanted` says."""
        edge = wanted.size
        shape = (3, edge, edge) if wanted.layout is Layout.NCHW else (edge, edge, 3)
        try:
            found = self.embed(np.zeros((1, *shape), wanted.dtype))
        except Exception as error:  # onnxruntime has a dozen exceptions of its own, none with a common base
            takes, reason = self._session.get_inputs()[0], str(error).splitlines()[0]
            raise InputRefused(
                f"the model takes {takes.type} of {takes.shape}, not {wanted.dtype} of {['N', *shape]}: {reason}"
            ) from error
        if found.ndim != 2 or found.dtype != np.float32:  # noqa: PLR2004 - pictures and numbers
            raise InputRefused(f"the model gives {found.dtype} of {list(found.shape)}: float32 of [N, D] is needed")
        return int(found.shape[1])
