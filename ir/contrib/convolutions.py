"""Convolutions with an activation, and convolutions and poolings whose channels come last."""

from __future__ import annotations

from typing import Any

from ..graph import Value
from ..onnx_io import ImportNode
from ..ops.binary import Add
from ..ops.transpose import Transpose
from ._operator import POOL, WINDOW, given, operator
from .activations import with_activation

FUSED: dict[str, Any] = {"activation": "string", "activation_params": "floats"}


@operator("FusedConv", "X W B? Z?", **WINDOW, **FUSED)
def _import_fused_conv(n: ImportNode) -> Any:
    """Import ``activation(conv(x, w) + b + z)``."""
    return with_activation(n, convolved(n, n.input(0), n.input(1), n.optional(2), n.optional(3)))


def convolved(n: ImportNode, x: Value, w: Value, b: Value | None, z: Value | None) -> Value:
    """A convolution by the node's own attributes, and what is added to it."""
    y: Value = n.call("Conv", x, w, *([] if b is None else [b]), **given(n, *WINDOW))
    if z is None:
        return y
    if z.type.shape != y.type.shape:
        raise n.error(f"the tensor to add has shape {list(z.type.shape)}, not the result's {list(y.type.shape)}")
    made: Value = n.emit(Add(), y, z)
    return made


@operator("NhwcConv", "X W B?", **WINDOW)
def _import_nhwc_conv(n: ImportNode) -> Any:
    """Import a convolution whose data has its channels last, and whose weight is ``O spatial I``."""
    x, w = channels_first(n, n.input(0)), channels_first(n, n.input(1))
    return channels_last(n, convolved(n, x, w, n.optional(2), None))


@operator("NhwcFusedConv", "X W B? Z?", **WINDOW, **FUSED)
def _import_nhwc_fused_conv(n: ImportNode) -> Any:
    """Import a fused convolution whose data has its channels last; the weight is ``O I spatial``."""
    z = n.optional(3)
    y = convolved(n, channels_first(n, n.input(0)), n.input(1), n.optional(2), z and channels_first(n, z))
    return channels_last(n, with_activation(n, y))


@operator("NhwcMaxPool", "x", "y", **POOL, dilations="ints")
def _import_nhwc_max_pool(n: ImportNode) -> Any:
    return channels_last(n, n.call("MaxPool", channels_first(n, n.input(0)), **given(n, *POOL, "dilations")))


def channels_first(n: ImportNode, x: Value) -> Value:
    """The tensor with its last axis, the channels, moved to the second place."""
    rank = x.type.rank
    if rank < 3:
        raise n.error(f"takes tensors of rank 3 or more with channels last, not {list(x.type.shape)}")
    made: Value = n.emit(Transpose((0, rank - 1, *range(1, rank - 1))), x)
    return made


def channels_last(n: ImportNode, x: Value) -> Value:
    """The tensor with its second axis, the channels, moved to the end."""
    made: Value = n.emit(Transpose((0, *range(2, x.type.rank), 1)), x)
    return made
