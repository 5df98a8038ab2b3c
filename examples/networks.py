"""Networks for the commands of convc, such as

    convc build examples/networks.py:resnet18 --shape x=1,3,224,224

``lenet`` and ``resnet18`` have random weights: train them, or load weights (``Module.load``, whose names and layouts
are PyTorch's). ``blur`` takes pictures of any size.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from convc import nn


def lenet() -> nn.Module:
    """A LeNet (LeCun et al. 1998) for digits float32 ``[N, 1, 28, 28]``, scores float32 ``[N, 10]``."""
    return nn.Sequential(
        nn.Conv2D(20, kernel_size=5, activation="tanh"),
        nn.AvgPool2D(2),
        nn.Conv2D(50, kernel_size=5, activation="tanh"),
        nn.AvgPool2D(2),
        nn.Flatten(),
        nn.Dense(500, activation="tanh"),
        nn.Dense(10),
    )


def resnet18() -> nn.Module:
    """ResNet-18 (He et al. 2015) for pictures float32 ``[N, 3, 224, 224]``, scores float32 ``[N, 1000]``."""
    blocks = [_block(c, stride) for c, s in ((64, 1), (128, 2), (256, 2), (512, 2)) for stride in (s, 1)]
    return nn.Sequential(
        *_conv(64, 7, stride=2),
        nn.MaxPool2D(3, strides=2, padding=1),
        *blocks,
        nn.GlobalAvgPool(),
        nn.Flatten(),
        nn.Dense(1000),
    )


def _conv(channels: int, size: int, stride: int = 1, activation: str | None = "relu") -> list[nn.Module]:
    """A convolution that keeps the size but for its stride, and a batch normalization."""
    conv = nn.Conv2D(channels, kernel_size=size, strides=stride, padding=size // 2, use_bias=False)
    norm = nn.BatchNorm()
    return [conv, norm, *([nn.Activation(activation)] if activation else [])]


def _block(channels: int, stride: int) -> nn.Module:
    branch = nn.Sequential(*_conv(channels, 3, stride), *_conv(channels, 3, activation=None))
    shortcut = nn.Sequential(*_conv(channels, 1, stride, None)) if stride > 1 else None
    return nn.Residual(branch, shortcut, activation="relu")


def blur() -> onnx.ModelProto:
    """A Gaussian blur of pictures float32 ``[1, 3, height, width]``, as an ONNX model whose sizes are dynamic."""
    bell = np.exp(-(np.arange(-4, 5) ** 2) / 8)
    kernel = np.outer(bell, bell) / bell.sum() ** 2
    weights = numpy_helper.from_array(np.tile(kernel.astype(np.float32), (3, 1, 1, 1)), "kernel")
    node = helper.make_node("Conv", ["x", "kernel"], ["y"], name="blur", group=3, pads=[4, 4, 4, 4])
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 3, "height", "width"]) for n in "xy")
    graph = helper.make_graph([node], "blur", [x], [y], [weights])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
