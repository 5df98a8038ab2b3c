"""Layers and networks in Python.

Sizes are inferred, parameters are lazy, and weights have the names and shapes of torch's.
"""

from __future__ import annotations

from .activation import ACTIVATIONS, Activation
from .container import Parallel, Residual, Sequential
from .conv import Conv1D, Conv1DTranspose, Conv2D, Conv2DTranspose, Conv3D, Conv3DTranspose
from .dense import Dense
from .functional import (
    concat,
    elu,
    flatten,
    gelu,
    hardsigmoid,
    hardswish,
    leaky_relu,
    log_softmax,
    mish,
    relu,
    relu6,
    selu,
    sigmoid,
    silu,
    softmax,
    softplus,
    tanh,
)
from .loss import MSE, SoftmaxCrossEntropy
from .module import Module
from .norm import BatchNorm, LayerNorm
from .pool import (
    AvgPool1D,
    AvgPool2D,
    AvgPool3D,
    GlobalAvgPool,
    GlobalMaxPool,
    LpPool1D,
    LpPool2D,
    LpPool3D,
    MaxPool1D,
    MaxPool2D,
    MaxPool3D,
)
from .reshape import Dropout, Flatten
from .tensor import Tensor, apply, apply_all

__all__ = [
    "ACTIVATIONS",
    "MSE",
    "Activation",
    "AvgPool1D",
    "AvgPool2D",
    "AvgPool3D",
    "BatchNorm",
    "Conv1D",
    "Conv1DTranspose",
    "Conv2D",
    "Conv2DTranspose",
    "Conv3D",
    "Conv3DTranspose",
    "Dense",
    "Dropout",
    "Flatten",
    "GlobalAvgPool",
    "GlobalMaxPool",
    "LayerNorm",
    "LpPool1D",
    "LpPool2D",
    "LpPool3D",
    "MaxPool1D",
    "MaxPool2D",
    "MaxPool3D",
    "Module",
    "Parallel",
    "Residual",
    "Sequential",
    "SoftmaxCrossEntropy",
    "Tensor",
    "apply",
    "apply_all",
    "concat",
    "elu",
    "flatten",
    "gelu",
    "hardsigmoid",
    "hardswish",
    "leaky_relu",
    "log_softmax",
    "mish",
    "relu",
    "relu6",
    "selu",
    "sigmoid",
    "silu",
    "softmax",
    "softplus",
    "tanh",
]


def __dir__() -> list[str]:
    return sorted(__all__)
