"""Helpers to import operators on quantized operands: subtract zero points, and quantize sums of products again."""

from __future__ import annotations

import numpy as np

from ..graph import Value
from ..onnx_io import ImportNode
from .binary import Div, Mul, Sub
from .cast import Cast
from .quantize import Quantize
from .reshape import Reshape


def shifted(n: ImportNode, x: Value, zero: Value | None, axis: int) -> Value:
    """``x - zero`` in int32. A zero point that is a vector lies along ``axis``."""
    wide: Value = n.emit(Cast("i32"), x)
    if zero is None:
        return wide
    difference: Value = n.emit(Sub(), wide, n.emit(Cast("i32"), along(n, zero, axis, x.type.rank)))
    return difference


def along(n: ImportNode, vector: Value, axis: int, rank: int) -> Value:
    """A vector reshaped to lie along an axis of a tensor of this rank, to be broadcast; any other value as it is.

    A vector of one element becomes a single number.
    """
    if vector.type.rank != 1:
        return vector
    shape = [] if vector.type.shape == (1,) else [1] * rank
    if shape and not -rank <= axis < rank:
        raise n.error(f"a zero point or scale of {list(vector.type.shape)} does not fit an operand of rank {rank}")
    if shape:
        shape[axis] = -1
    reshaped: Value = n.emit(Reshape(tuple(shape)), vector)
    return reshaped


def requantized(n: ImportNode, total: Value, scales: tuple[Value, Value], y_scale: Value, y_zero: Value) -> Value:
    """``saturate(round(total * (a_scale * b_scale / y_scale)) + zero)``, with halves rounded to even, in float32 as in
    ONNX Runtime.

    ``total`` is int32; scales broadcast to it, result scale and zero point are single numbers.
    """
    if y_scale.type.is_static and y_scale.type.numel != 1:
        raise n.unsupported("a result with a scale for each row is not supported; it must have one scale")
    a, b, y = (v if v.type.dtype == "f32" else n.emit(Cast("f32"), v) for v in (*scales, y_scale))
    factor = n.emit(Div(), n.emit(Mul(), a, b), n.emit(Reshape(()), y))
    scaled = n.emit(Mul(), n.emit(Cast("f32"), total), factor)
    one = n.constant(np.ones((), np.float32), "one")
    result: Value = n.emit(Quantize(dtype=y_zero.type.dtype), scaled, one, n.emit(Reshape(()), y_zero))
    return result


def operand(n: ImportNode, index: int) -> tuple[Value, Value, Value]:
    """A quantized operand of a node with its scale and zero point, which are three inputs in turn."""
    return n.input(index), n.input(index + 1), n.input(index + 2)
