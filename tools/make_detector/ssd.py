"""The detector's TensorFlow Lite file as an ONNX model that gives boxes and scores.

The file has a convolutional network whose weights are of half precision (DEQUANTIZE makes them whole), and ends in
what SSD predicts for each of its 1,917 anchors: how far the box is from the anchor, and a logit for each class. Here
the anchors are decoded in the graph, so that whoever runs it needs to know nothing of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final

import numpy as np
import onnx
import tflite
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from tools.make_model.efficientnet_lite import IR_VERSION, OPSET, same_padding

INPUT_SIZE: Final = 300

GRIDS: Final = (19, 10, 5, 3, 2, 1)
"""Cells a side of the six layers that predict."""
SCALES: Final = (0.2, 0.35, 0.5, 0.65, 0.8, 0.95, 1.0)
"""Of a layer's anchors, as shares of the picture's side; the last is beyond the last layer."""
ASPECTS: Final = (1.0, 2.0, 0.5, 3.0, 0.3333)
LOWEST: Final = ((0.1, 1.0), (0.2, 2.0), (0.2, 0.5))
"""Scale and aspect of the lowest layer's anchors, which are fewer."""
CENTRE_SCALE: Final = 10.0
SIZE_SCALE: Final = 5.0
"""What the network's numbers are multiples of: TensorFlow's box coder, as MediaPipe's graph of this network sets it."""

_HALF: Final = 127.5
_WEIGHTS: Final[dict[int, np.dtype[Any]]] = {0: np.dtype("<f4"), 1: np.dtype("<f2"), 2: np.dtype("<i4")}
"""Types of numbers, as the schema counts them."""
_RELU6: Final = 3
_SAME: Final = 0


def anchors() -> NDArray[np.float64]:
    """Return the anchors, float64[1917,4]: centre x, centre y, width, height, as shares of the picture's sides."""
    found = []
    for layer, cells in enumerate(GRIDS):
        shapes = LOWEST if layer == 0 else _shapes(SCALES[layer], SCALES[layer + 1])
        for row in range(cells):
            for column in range(cells):
                for scale, aspect in shapes:
                    wide = math.sqrt(aspect)
                    found.append([(column + 0.5) / cells, (row + 0.5) / cells, scale * wide, scale / wide])
    return np.array(found)


def _shapes(scale: float, following: float) -> tuple[tuple[float, float], ...]:
    return (*((scale, aspect) for aspect in ASPECTS), (math.sqrt(scale * following), 1.0))


class _Graph:
    """The ONNX graph while it grows, beside the file that it follows."""

    def __init__(self, data: bytes) -> None:
        self.model = tflite.Model.GetRootAsModel(data, 0)
        self.source = self.model.Subgraphs(0)
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self.weights: dict[int, NDArray[Any]] = {}

    def node(self, operator: str, inputs: list[str], output: str, **attributes: Any) -> str:  # noqa: ANN401 - as onnx
        self.nodes.append(helper.make_node(operator, inputs, [output], name=output, **attributes))
        return output

    def constant(self, name: str, value: NDArray[Any] | float, dtype: type = np.float32) -> str:
        self.initializers.append(numpy_helper.from_array(np.asarray(value, dtype, order="C"), name))
        return name

    def shape(self, tensor: int) -> list[int]:
        return [int(side) for side in self.source.Tensors(tensor).ShapeAsNumpy()]

    def numbers(self, tensor: int) -> NDArray[Any]:
        """The constant that a tensor is."""
        if tensor not in self.weights:
            found = self.source.Tensors(tensor)
            data = self.model.Buffers(found.Buffer()).DataAsNumpy().tobytes()
            self.weights[tensor] = np.frombuffer(data, _WEIGHTS[found.Type()]).reshape(self.shape(tensor))
        return self.weights[tensor]

    def dequantize(self, inputs: list[int], output: int) -> None:
        self.weights[output] = self.numbers(inputs[0]).astype(np.float32)

    def convolution(self, inputs: list[int], output: int, options: Any, *, depthwise: bool) -> None:  # noqa: ANN401 - of either kind
        if options.Padding() != _SAME or (options.DilationHFactor(), options.DilationWFactor()) != (1, 1):
            raise ValueError("a convolution of a kind that the checked network has none of")
        picture, kernel, bias = inputs
        # [out, height, width, in], or of a depthwise one [1, height, width, channels]
        weights = self.numbers(kernel).transpose((3, 0, 1, 2) if depthwise else (0, 3, 1, 2))
        side, stride = weights.shape[-1], options.StrideH()
        before, after, _ = same_padding(self.shape(picture)[1], side, stride)
        activation = options.FusedActivationFunction()
        result = self.node(
            "Conv",
            [
                f"t{picture}",
                self.constant(f"t{output}.weight", weights),
                self.constant(f"t{output}.bias", self.numbers(bias)),
            ],
            f"t{output}" if activation != _RELU6 else f"t{output}.raw",
            kernel_shape=[side, side],
            strides=[stride, stride],
            pads=[before, before, after, after],
            group=len(weights) if depthwise else 1,
        )
        if activation == _RELU6:
            self.node("Clip", [result, "zero", "six"], f"t{output}")

    def reshape(self, inputs: list[int], output: int) -> None:
        """Of a layer's predictions, [N, K * numbers, cells, cells], to [N, cells * cells * K, numbers]."""
        numbers, source = self.shape(output)[-1], f"t{inputs[0]}"
        shape = self.constant(f"t{output}.shape", np.array([0, -1, numbers]), np.int64)
        cells = self.shape(inputs[0])[1]
        if cells in GRIDS:  # the last one, of all layers together, has no pixels any more
            source = self.node("Transpose", [source], f"t{output}.last", perm=[0, 2, 3, 1])
        self.node("Reshape", [source, shape], f"t{output}")


def _translate(graph: _Graph) -> None:
    operators = {value: name for name, value in vars(tflite.BuiltinOperator).items() if isinstance(value, int)}
    for number in range(graph.source.OperatorsLength()):
        operator = graph.source.Operators(number)
        code = graph.model.OperatorCodes(operator.OpcodeIndex())
        name = operators[max(code.BuiltinCode(), code.DeprecatedBuiltinCode())]
        inputs, output = [int(tensor) for tensor in operator.InputsAsNumpy()], int(operator.Outputs(0))
        match name:
            case "DEQUANTIZE":
                graph.dequantize(inputs, output)
            case "CONV_2D":
                options = _options(operator, tflite.Conv2DOptions)
                graph.convolution(inputs, output, options, depthwise=False)
            case "DEPTHWISE_CONV_2D":
                options = _options(operator, tflite.DepthwiseConv2DOptions)
                graph.convolution(inputs, output, options, depthwise=True)
            case "ADD":
                graph.node("Add", [f"t{tensor}" for tensor in inputs], f"t{output}")
            case "RESHAPE":
                graph.reshape(inputs, output)
            case "CONCATENATION":
                graph.node("Concat", [f"t{tensor}" for tensor in inputs], f"t{output}", axis=1)
            case _:
                raise ValueError(f"{name}: the checked network has none of those")


def _options(operator: Any, kind: Callable[[], Any]) -> Any:  # noqa: ANN401 - generated classes
    options, table = kind(), operator.BuiltinOptions()
    options.Init(table.Bytes, table.Pos)
    return options


def _decode(graph: _Graph, encodings: str, logits: str) -> None:
    """Append what makes boxes and scores of the network's numbers; it has y before x."""
    fixed = anchors()
    centre, size = graph.node("Split", [encodings], "offsets", axis=2), "sizes"
    graph.nodes[-1].output.append(size)
    swap = graph.constant("swap", np.array([1, 0]), np.int64)
    centre = graph.node("Gather", [centre, swap], "offsets_xy", axis=2)
    size = graph.node("Gather", [size, swap], "sizes_xy", axis=2)
    centre = graph.node("Mul", [centre, graph.constant("centre_scale", fixed[:, 2:] / CENTRE_SCALE)], "moved")
    centre = graph.node("Add", [centre, graph.constant("centres", fixed[:, :2])], "centre")
    size = graph.node("Exp", [graph.node("Div", [size, graph.constant("size_scale", SIZE_SCALE)], "grown")], "factor")
    half = graph.node("Mul", [size, graph.constant("half_sizes", fixed[:, 2:] / 2)], "half")
    corners = [graph.node("Sub", [centre, half], "first"), graph.node("Add", [centre, half], "last")]
    whole = graph.node("Concat", corners, "unclipped", axis=2)
    graph.node("Clip", [whole, "zero", graph.constant("one", 1.0)], "boxes")
    scores = graph.node("Sigmoid", [logits], "all_scores")
    first, last, axis = (
        graph.constant(name, np.array([value]), np.int64) for name, value in (("from", 1), ("to", 2**31), ("axis", 2))
    )
    graph.node("Slice", [scores, first, last, axis], "scores")


def build(data: bytes, classes: int) -> onnx.ModelProto:
    """Return the detector as an ONNX model; data: the TensorFlow Lite file.

    Input `images`: float32[N,3,300,300], RGB, 0 to 255. Outputs `boxes`: float32[N,1917,4], left, top, right, bottom
    as shares of the picture's sides, in it; `scores`: float32[N,1917,classes], each from 0 to 1 by itself, without the
    background's. Raises ValueError for another network.
    """
    graph = _Graph(data)
    graph.constant("zero", 0.0)
    graph.constant("six", 6.0)
    half = graph.constant("half_range", _HALF)
    centred = graph.node("Sub", ["images", half], "centred")
    graph.node("Div", [centred, half], f"t{graph.source.Inputs(0)}")
    _translate(graph)
    encodings, logits = (graph.source.Outputs(place) for place in range(2))
    _decode(graph, f"t{encodings}", f"t{logits}")
    count = len(anchors())
    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "ssd-mobilenetv2-oid",
            [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["N", 3, INPUT_SIZE, INPUT_SIZE])],
            [
                helper.make_tensor_value_info("boxes", TensorProto.FLOAT, ["N", count, 4]),
                helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["N", count, classes]),
            ],
            graph.initializers,
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="indexpush",
    )
    onnx.checker.check_model(model, full_check=True)
    return model


def onnx_bytes(data: bytes, classes: int) -> bytes:
    """Return the detector, serialised: the same bytes each time with the same version of onnx."""
    made: bytes = build(data, classes).SerializeToString(deterministic=True)
    return made
