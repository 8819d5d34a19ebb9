"""Small detectors that find the same in every picture, for tests."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from image_embedder.detector import Box

SIZE = 32


def write_detector(path: Path, boxes: Sequence[Box], scores: Sequence[Sequence[float]]) -> Path:
    """Write a detector of pictures of SIZE pixels a side; scores: of each box for each class."""
    nodes = [
        helper.make_node("ReduceMean", ["images"], ["mean"], axes=[1, 2, 3], keepdims=0),
        helper.make_node("Mul", ["mean", "none"], ["zero"]),
        helper.make_node("Reshape", ["zero", "shape"], ["each"]),
        helper.make_node("Add", ["each", "its_boxes"], ["boxes"]),
        helper.make_node("Add", ["each", "its_scores"], ["scores"]),
    ]
    constants = {
        "none": np.array(0, np.float32),
        "shape": np.array([-1, 1, 1]),
        "its_boxes": np.array(boxes, np.float32),
        "its_scores": np.array(scores, np.float32),
    }
    graph = helper.make_graph(
        nodes,
        "detector",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["N", 3, SIZE, SIZE])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("boxes", "scores")],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    return path
