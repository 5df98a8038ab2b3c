"""Small convolutional networks in ONNX, one piece of each family, with seeded random weights; `MODELS` lists them.

Each builder takes the batch size and a channel count, so that tests can choose counts that fill vector registers and
counts that do not.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from .models import model

OPSET = 20


class Sketch:
    """An ONNX model that is built node by node. Methods take and return tensor names."""

    def __init__(self, name: str, shape: Sequence[int]) -> None:
        self.name = name
        self.rng = np.random.default_rng(zlib.crc32(name.encode()))
        self.input = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.channels = {"x": shape[1]}

    def constant(self, values: Any) -> str:
        """Add an initializer: float32 for floats, int64 for integers."""
        array = np.asarray(values)
        array = array.astype(np.float32 if array.dtype.kind == "f" else np.int64)
        self.weights.append(numpy_helper.from_array(array, f"w{len(self.weights)}"))
        return self.weights[-1].name

    def node(self, op: str, *inputs: str, channels: int | None = None, **attrs: Any) -> str:
        """Add a node with one output, which has as many channels as the first input unless told."""
        output = f"{op}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [output], name=output, **attrs))
        self.channels[output] = self.channels[inputs[0]] if channels is None else channels
        return output

    def conv(self, x: str, channels: int, kernel: int | tuple[int, int] = 3, group: int = 1, **attrs: Any) -> str:
        """Add a convolution with bias that keeps the image size at stride 1."""
        kernel = (kernel, kernel) if isinstance(kernel, int) else kernel
        shape = (channels, self.channels[x] // group, *kernel)
        weight = self.constant(self.rng.standard_normal(shape) * np.sqrt(2 / np.prod(shape[1:])))
        bias = self.constant(self.rng.standard_normal(channels) * 0.1)
        attrs = {"pads": [(k - 1) // 2 for k in kernel] + [k // 2 for k in kernel], **attrs}
        return self.node("Conv", x, weight, bias, channels=channels, group=group, **attrs)

    def norm(self, x: str) -> str:
        """Add a BatchNormalization with means near 0 and variances near 1."""
        n = self.channels[x]
        scale, variance = (self.constant(self.rng.uniform(0.5, 1.5, n)) for _ in range(2))
        shift, mean = (self.constant(self.rng.standard_normal(n) * 0.1) for _ in range(2))
        return self.node("BatchNormalization", x, scale, shift, mean, variance)

    def cbr(self, x: str, channels: int, kernel: int | tuple[int, int] = 3, **attrs: Any) -> str:
        """Add a convolution, a normalisation and a ReLU."""
        return self.node("Relu", self.norm(self.conv(x, channels, kernel, **attrs)))

    def matmul(self, x: str, width: int, outputs: int) -> str:
        """Add the product of the last axis, of length ``width``, with a matrix."""
        return self.node("MatMul", x, self.constant(self.rng.standard_normal((width, outputs)) / np.sqrt(width)))

    def reshape(self, x: str, *shape: int) -> str:
        return self.node("Reshape", x, self.constant(np.array(shape)))

    def concat(self, *parts: str) -> str:
        """Add a concatenation along the channels."""
        return self.node("Concat", *parts, axis=1, channels=sum(self.channels[p] for p in parts))

    def dense(self, x: str, width: int, outputs: int) -> str:
        """Add a dense layer with bias, on rows of length ``width``."""
        weight = self.constant(self.rng.standard_normal((outputs, width)) / np.sqrt(width))
        return self.node("Gemm", x, weight, self.constant(self.rng.standard_normal(outputs)), transB=1)

    def head(self, x: str) -> str:
        """Add the mean over the image, and a dense layer to ten classes."""
        return self.dense(self.node("Flatten", self.node("GlobalAveragePool", x)), self.channels[x], 10)

    def finish(self, *outputs: str) -> onnx.ModelProto:
        return onnx.shape_inference.infer_shapes(self.unchecked(*outputs), check_type=True, strict_mode=True)

    def unchecked(self, *outputs: str) -> onnx.ModelProto:
        """The model without inferred shapes. With dynamic shapes, some follow only from computation."""
        weights = {w.name: w for w in self.weights}
        infos = dict.fromkeys(outputs, (TensorProto.FLOAT, None))
        return model(self.nodes, [self.input], infos, weights, opset=OPSET, name=self.name)


def resnet(batch: int, width: int) -> onnx.ModelProto:
    """A stem, a block with an identity skip connection, a block with a projected one, and a head."""
    s = Sketch("resnet", (batch, 3, 32, 32))
    x = s.cbr("x", width, 7, strides=[2, 2])
    x = s.node("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    for channels, stride in ((width, 1), (2 * width, 2)):
        inner = s.norm(s.conv(s.cbr(x, channels, strides=[stride, stride]), channels))
        skip = x if stride == 1 else s.norm(s.conv(x, channels, 1, strides=[stride, stride], pads=[0, 0, 0, 0]))
        x = s.node("Relu", s.node("Add", inner, skip))
    return s.finish(s.node("Softmax", s.head(x)))


def mobilenet(batch: int, width: int) -> onnx.ModelProto:
    """Inverted bottlenecks.

    One has ReLU6 and a skip connection, and one has HardSwish, stride 2 and squeeze-and-excitation.
    """
    s = Sketch("mobilenet", (batch, width, 15, 15))
    low, high = s.constant(0.0), s.constant(6.0)
    x = s.node("Clip", s.norm(s.conv("x", 3 * width, 1)), low, high)
    x = s.node("Clip", s.norm(s.conv(x, 3 * width, 3, group=3 * width)), low, high)
    x = s.node("Add", "x", s.norm(s.conv(x, width, 1)))
    x = s.node("HardSwish", s.norm(s.conv(x, 4 * width, 1)))
    x = s.norm(s.conv(x, 4 * width, 5, group=4 * width, strides=[2, 2]))
    gate = s.node("Clip", s.node("Add", x, s.constant(3.0)), low, high)  # HardSwish as Paddle writes it, and a scale
    x = s.node("Mul", s.node("Div", s.node("Mul", x, gate), high), s.constant([1.2]))
    squeezed = s.node("Relu", s.conv(s.node("GlobalAveragePool", x), width, 1))
    excited = s.node("HardSigmoid", s.conv(squeezed, 4 * width, 1), alpha=1 / 6, beta=0.5)
    return s.finish(s.head(s.conv(s.node("Mul", x, excited), 2 * width, 1)))


def densenet(batch: int, width: int) -> onnx.ModelProto:
    """Normalisation before convolution, layers that read all layers before them, and a transition."""
    s = Sketch("densenet", (batch, width, 14, 14))
    parts = ["x"]
    for _ in range(3):
        x = parts[0] if len(parts) == 1 else s.concat(*parts)
        x = s.cbr(s.node("Relu", s.norm(x)), 2 * width, 1)
        parts.append(s.conv(x, width // 2))
    x = s.conv(s.node("Relu", s.norm(s.concat(*parts))), width, 1)
    return s.finish(s.node("AveragePool", x, kernel_shape=[2, 2], strides=[2, 2]))


def inception(batch: int, width: int) -> onnx.ModelProto:
    """Four branches (1x1, factorized 7x7, two 3x3, average pool), and a reduction of the image."""
    s = Sketch("inception", (batch, 2 * width, 17, 17))
    seven = s.cbr(s.cbr(s.cbr("x", width, 1), width, (1, 7)), width, (7, 1))
    three = s.cbr(s.cbr(s.cbr("x", width, 1), width), width)
    pooled = s.node("AveragePool", "x", kernel_shape=[3, 3], pads=[1, 1, 1, 1])
    x = s.concat(s.cbr("x", width, 1), seven, three, s.cbr(pooled, width // 2, 1))
    shrunk = s.node("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2])
    return s.finish(s.concat(s.cbr(x, width, 3, strides=[2, 2], pads=[0, 0, 0, 0]), shrunk))


def unet(batch: int, width: int) -> onnx.ModelProto:
    """One level down and up again, by a transposed convolution and by resizing, joined to the skip connection."""
    s = Sketch("unet", (batch, 3, 16, 20))
    skip = s.cbr(s.cbr("x", width), width)
    down = s.cbr(s.node("MaxPool", skip, kernel_shape=[2, 2], strides=[2, 2]), 2 * width)
    weight = s.constant(s.rng.standard_normal((2 * width, width, 2, 2)) / np.sqrt(2 * width))
    grown = s.node("ConvTranspose", down, weight, channels=width, strides=[2, 2])
    scales = s.constant([1.0, 1.0, 2.0, 2.0])
    resized = [s.node("Resize", down, "", scales, **how) for how in ({"mode": "nearest"}, {"mode": "linear"})]
    x = s.concat(skip, grown, *(s.conv(r, width // 2, 1) for r in resized))
    return s.finish(s.node("Sigmoid", s.conv(s.cbr(x, width), 1, 1)))


def shufflenet(batch: int, width: int) -> onnx.ModelProto:
    """Channels that are split, processed in one half, joined and shuffled, and a grouped 1x1 convolution."""
    s = Sketch("shufflenet", (batch, 2 * width, 14, 14))
    sizes = s.constant(np.array([width, width]))
    s.nodes.append(helper.make_node("Split", ["x", sizes], ["left", "right"], name="split", axis=1))
    s.channels |= {"left": width, "right": width}
    right = s.norm(s.conv(s.cbr("right", width, 1), width, group=width))
    x = s.concat("left", s.cbr(right, width, 1))
    x = s.node("Transpose", s.reshape(x, batch, 2, width, 14, 14), perm=[0, 2, 1, 3, 4])
    x = s.reshape(x, batch, 2 * width, 14, 14)
    s.channels[x] = 2 * width
    return s.finish(s.cbr(x, 4 * width, 1, group=4))


def convnext(batch: int, width: int) -> onnx.ModelProto:
    """A block with channels last inside.

    It has a depthwise 7x7 convolution, LayerNormalization, two matrix products with GELU, and a scaled skip connection.
    """
    s = Sketch("convnext", (batch, width, 14, 14))
    x = s.node("Transpose", s.conv("x", width, 7, group=width), perm=[0, 2, 3, 1])
    scale, shift = s.constant(s.rng.uniform(0.5, 1.5, width)), s.constant(s.rng.standard_normal(width))
    x = s.matmul(s.node("LayerNormalization", x, scale, shift, axis=-1, epsilon=1e-6), width, 4 * width)
    x = s.node("Add", x, s.constant(s.rng.standard_normal(4 * width)))
    gauss = s.node("Add", s.node("Erf", s.node("Div", x, s.constant(np.sqrt(2.0)))), s.constant(1.0))
    x = s.matmul(s.node("Mul", s.node("Mul", x, gauss), s.constant(0.5)), 4 * width, width)
    x = s.node("Mul", x, s.constant(s.rng.uniform(0.1, 1, width)))
    return s.finish(s.node("Add", "x", s.node("Transpose", x, perm=[0, 3, 1, 2])))


def vgg(batch: int, width: int) -> onnx.ModelProto:
    """Convolutions with bias alone, a pool, and a head of dense layers on all pixels."""
    s = Sketch("vgg", (batch, 3, 8, 8))
    x = s.node("Relu", s.conv(s.node("Relu", s.conv("x", width)), width))
    x = s.node("Flatten", s.node("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2]))
    return s.finish(s.dense(s.node("Relu", s.dense(x, 16 * width, 8 * width)), 8 * width, 10))


def yolo(batch: int, width: int) -> onnx.ModelProto:
    """SiLU, pyramid pooling, an upward path, and a head that decodes boxes."""
    s = Sketch("yolo", (batch, 3, 32, 32))

    def silu(x: str) -> str:
        return s.node("Mul", x, s.node("Sigmoid", x))

    high = silu(s.conv("x", width, 3, strides=[2, 2]))
    low = silu(s.conv(high, 2 * width, 3, strides=[2, 2]))
    pools = [low]
    for _ in range(3):
        pools.append(s.node("MaxPool", pools[-1], kernel_shape=[5, 5], pads=[2, 2, 2, 2]))
    low = silu(s.conv(s.concat(*pools), width, 1))
    up = s.node("Resize", low, "", s.constant([1.0, 1.0, 2.0, 2.0]), mode="nearest", nearest_mode="floor")
    outputs = s.conv(silu(s.conv(s.concat(up, high), width)), 6, 1)
    cells = s.node("Transpose", s.reshape(outputs, batch, 6, 256), perm=[0, 2, 1])
    split = helper.make_node("Split", [cells, s.constant(np.array([2, 2, 2]))], ["xy", "wh", "classes"], axis=2)
    s.nodes.append(split)
    s.channels |= {"xy": 2, "wh": 2, "classes": 2}
    grid = s.constant(np.stack(np.meshgrid(np.arange(16.0), np.arange(16.0)), axis=-1).reshape(1, 256, 2))
    centers = s.node("Mul", s.node("Add", s.node("Sigmoid", "xy"), grid), s.constant(2.0))
    boxes = s.node("Concat", centers, s.node("Exp", "wh"), axis=2)
    return s.finish(boxes, s.node("Sigmoid", "classes"))


def attention(batch: int, width: int) -> onnx.ModelProto:
    """A convolution whose pixels attend to one another in two heads, as in the reader of PP-OCR."""
    s = Sketch("attention", (batch, 3, 8, 12))
    x = s.conv("x", 2 * width, 3, strides=[2, 2])
    tokens = s.node("Transpose", s.reshape(x, batch, 2 * width, 24), perm=[0, 2, 1])
    heads = s.reshape(s.matmul(tokens, 2 * width, 6 * width), batch, 24, 3, 2, width)
    heads = s.node("Transpose", heads, perm=[2, 0, 3, 1, 4])
    query, key, value = (s.node("Gather", heads, s.constant(np.array(i)), axis=0) for i in range(3))
    scores = s.node("MatMul", query, s.node("Transpose", key, perm=[0, 1, 3, 2]))
    weights = s.node("Softmax", s.node("Mul", scores, s.constant(width**-0.5)), axis=-1)
    mixed = s.node("Transpose", s.node("MatMul", weights, value), perm=[0, 2, 1, 3])
    return s.finish(s.node("Add", tokens, s.matmul(s.reshape(mixed, batch, 24, 2 * width), 2 * width, 2 * width)))


MODELS: tuple[Callable[[int, int], onnx.ModelProto], ...] = (
    attention,
    convnext,
    densenet,
    inception,
    mobilenet,
    resnet,
    shufflenet,
    unet,
    vgg,
    yolo,
)
