"""Activations: those that ONNX Runtime fuses into another node, and its kinds of GELU."""

from __future__ import annotations

from typing import Any

from ..graph import Value
from ..onnx_io import ImportNode
from ..op import Op
from ..ops.activations import (
    Elu,
    Gelu,
    HardSigmoid,
    HardSwish,
    LeakyRelu,
    Mish,
    Selu,
    Silu,
    Softsign,
    ThresholdedRelu,
)
from ..ops.binary import Add, Mul
from ..ops.clip import Clip
from ..ops.reshape import Reshape
from ..ops.slice import Slice
from ..ops.softmax import Softmax
from ..ops.transcendental import Sigmoid, Softplus, Tanh
from ..ops.unary import Relu
from ._operator import need, operator, refuse_inputs

FUSED: dict[str, tuple[type[Op], tuple[str, ...]]] = {
    "Clip": (Clip, ("low", "high")),
    "Elu": (Elu, ("alpha",)),
    "Gelu": (Gelu, ()),
    "HardSigmoid": (HardSigmoid, ("alpha", "beta")),
    "HardSwish": (HardSwish, ()),
    "LeakyRelu": (LeakyRelu, ("alpha",)),
    "Mish": (Mish, ()),
    "Relu": (Relu, ()),
    "Selu": (Selu, ("alpha", "gamma")),
    "Sigmoid": (Sigmoid, ()),
    "Softplus": (Softplus, ()),
    "Softsign": (Softsign, ()),
    "Tanh": (Tanh, ()),
    "ThresholdedRelu": (ThresholdedRelu, ("alpha",)),
}
"""The activations that other nodes may hold, with their parameters in the order in which ``activation_params`` has
them."""


def with_activation(n: ImportNode, y: Value) -> Value:
    """What the activation makes of y that the attributes ``activation`` and ``activation_params`` of a node name."""
    name, params = n.attr("activation", ""), n.attr("activation_params", ())
    if not name:
        return y
    op, fields = _fused(n, name)
    if len(params) != len(fields):
        raise n.error(f"activation {name} takes {len(fields)} activation_params, not {len(params)}")
    made: Value = n.emit(op(*params), y)
    return made


def with_named_activation(n: ImportNode, y: Value) -> Value:
    """What the activation makes of y whose parameters are the attributes ``activation_alpha``, ``_beta``, ``_gamma``.

    A parameter that is left out has the value that ONNX gives it.
    """
    name = n.attr("activation", "")
    if not name:
        return y
    if name == "Softmax":
        softmax: Value = n.emit(Softmax(n.attr("activation_axis", -1)), y)
        return softmax
    op, fields = _fused(n, name)
    parameters = {f: n.attr(f"activation_{f}") for f in fields if n.attr(f"activation_{f}") is not None}
    made: Value = n.emit(op(**parameters), y)
    return made


def _fused(n: ImportNode, name: str) -> tuple[type[Op], tuple[str, ...]]:
    if name not in FUSED:
        raise n.unsupported(f"activation {name!r} is not supported; {', '.join(FUSED)} are")
    return FUSED[name]


@operator("Gelu", "X")
def _import_gelu(n: ImportNode) -> Any:
    return n.emit(Gelu(), n.input(0))


@operator("QuickGelu", "X", alpha="float")
def _import_quick_gelu(n: ImportNode) -> Any:
    """Import ``x * sigmoid(alpha * x)``."""
    return n.emit(Silu(n.attr("alpha", 1.702)), n.input(0))


@operator("FastGelu", "X bias?")
def _import_fast_gelu(n: ImportNode) -> Any:
    return n.emit(Gelu("tanh"), biased(n, n.input(0), n.optional(1)))


@operator("BiasGelu", "A B", "C")
def _import_bias_gelu(n: ImportNode) -> Any:
    return n.emit(Gelu(), biased(n, n.input(0), n.input(1)))


@operator("GemmFastGelu", "X W bias?")
def _import_gemm_fast_gelu(n: ImportNode) -> Any:
    return n.emit(Gelu("tanh"), biased(n, n.call("MatMul", n.input(0), n.input(1)), n.optional(2)))


@operator("BiasSplitGelu", "X bias")
def _import_bias_split_gelu(n: ImportNode) -> Any:
    """Import the product of the first half of the channels and the GELU of the second, after the bias is added."""
    x = biased(n, n.input(0), n.input(1))
    size = x.type.sizes[-1]
    need(n, size % 2 == 0, f"its last axis has {size} elements, which cannot be halved")
    left = n.emit(Slice((-1,), (0,), (size // 2,)), x)
    right = n.emit(Slice((-1,), (size // 2,), (size,)), x)
    return n.emit(Mul(), left, n.emit(Gelu(), right))


@operator("BiasAdd", "X bias skip")
def _import_bias_add(n: ImportNode) -> Any:
    return n.emit(Add(), biased(n, n.input(0), n.input(1)), n.input(2))


@operator("BiasSoftmax", "data bias", "output", axis="int", is_inner_broadcast="int!")
def _import_bias_softmax(n: ImportNode) -> Any:
    """Import a softmax over ``axis`` and all after, as in opset 12, of the data with a bias that broadcasts.

    Where ``is_inner_broadcast`` is 0 the bias has the leading axes of the data and is repeated for those before
    ``axis`` that it lacks.
    """
    x, bias, axis = n.input(0), n.input(1), n.attr("axis", 1)
    missing = x.type.rank - bias.type.rank
    if missing > 0 and not n.attr("is_inner_broadcast"):
        split = axis % x.type.rank - missing
        need(n, split >= 0, f"its bias of shape {list(bias.type.shape)} does not fit data {list(x.type.shape)}")
        bias = n.emit(Reshape((*bias.type.sizes[:split], *(1,) * missing, *bias.type.sizes[split:])), bias)
    return n.emit(Softmax(axis, flat=True), n.emit(Add(), x, bias))


@operator("BiasDropout", "data bias residual? ratio? training_mode?", "output mask?", seed="int")
def _import_bias_dropout(n: ImportNode) -> Any:
    """Import the sum of data, bias and residual: outside training nothing is dropped."""
    refuse_inputs(n, [4])
    y = n.emit(Add(), n.input(0), n.input(1))
    return [y if n.optional(2) is None else n.emit(Add(), y, n.input(2))]


def biased(n: ImportNode, x: Value, bias: Value | None) -> Value:
    """The value with a bias vector added along its last axis, where there is a bias."""
    if bias is None:
        return x
    need(n, x.type.rank > 0 and bias.type.shape == x.type.shape[-1:],
         f"its bias has shape {list(bias.type.shape)}, not {list(x.type.shape[-1:])}")  # fmt: skip
    made: Value = n.emit(Add(), x, bias)
    return made
