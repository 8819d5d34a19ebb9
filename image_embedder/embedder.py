"""An ONNX embedder, run on the CPU."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

# onnxruntime 1.31 reports on its users unless told otherwise before it is loaded, and writes to the home folder for it.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import onnxruntime


class Embedder:
    """A model of the contract: float32[N,3,S,S] RGB 0 to 255 in, float32[N,D], L2-normalised, out.

    The vector of a picture depends on nothing but the picture as long as N is 1; in larger batches its last bits may
    follow its neighbours. Safe to use from several threads at once: onnxruntime releases the GIL while it computes.
    """

    def __init__(self, path: Path, *, threads: int) -> None:
        """Open the model file at `path`. threads: cores that one call may use.

        Raises whatever onnxruntime does for a file that it can't load; its exceptions have no common base.
        """
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        # Threads that spin while they wait take the cores from whoever else is on the machine.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self._input: str = self._session.get_inputs()[0].name
        self._output: str = self._session.get_outputs()[0].name

    @property
    def input_size(self) -> int:
        """S, the edge of the square input in pixels."""
        return int(self._session.get_inputs()[0].shape[-1])

    @property
    def dimensions(self) -> int:
        """D, the length of an embedding."""
        return int(self._session.get_outputs()[0].shape[-1])

    def embed(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the embeddings, float32[N,D], of the preprocessed pictures float32[N,3,S,S]."""
        embeddings: NDArray[np.float32] = self._session.run([self._output], {self._input: batch})[0]
        return embeddings
