"""Import of random numbers. They are constants of the compiled model, which draws the same numbers in every call.

A node's numbers follow from its seed, or else from the seed of ``convc.compile``, and from its place among the random
nodes of the model (``ir/random.py``), so that no two nodes draw the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..dtypes import FLOATS, dtype_names
from ..graph import Value
from ..limits import check_made
from ..onnx_io import ImportNode, dtype_from_onnx, imports
from ..random import Stream
from ..types import TensorType
from .binary import Div, Mul, Sub
from .cast import Cast
from .compare import Greater, GreaterOrEqual, Less
from .cum_sum import CumSum
from .logical import Not, Or
from .reduce import ReduceMax, ReduceSum
from .reshape import Reshape
from .slice import Slice
from .transcendental import Exp
from .where import Where


@imports("RandomUniform", "RandomUniformLike", "RandomNormal", "RandomNormalLike")
def _import_random(n: ImportNode) -> Any:
    """Import numbers from a uniform distribution ``[low, high)``, or a normal one; ONNX RandomUniform-22 and others."""
    like = n.input(0).type if n.op_type.endswith("Like") else None
    code = n.attr("dtype")
    dtype = dtype_from_onnx(code) if code else like.dtype if like else "f32"
    if dtype not in FLOATS:
        raise n.error(f"it makes {dtype_names(dtype)}; random numbers are {dtype_names(*FLOATS)}")
    shape = like.sizes if like else n.attr("shape")
    if shape is None:
        raise n.error("attribute 'shape' is missing")
    if any(size < 0 for size in shape):
        raise n.error(f"its shape {list(shape)} has a negative size")
    normal = n.op_type.startswith("RandomNormal")
    limits = (n.attr("mean", 0.0), n.attr("scale", 1.0)) if normal else (n.attr("low", 0.0), n.attr("high", 1.0))
    stream = _stream(n, shape, "f64")
    made = (stream.normal if normal else stream.uniform)(tuple(shape), dtype, *limits)
    return n.constant(made, "random")


@imports("Bernoulli")
def _import_bernoulli(n: ImportNode) -> Any:
    """Import ones with the probabilities that the operand holds, and zeros; ONNX Bernoulli-22."""
    x, code = n.input(0), n.attr("dtype")
    dtype = "f64" if x.type.dtype == "f64" else "f32"
    if x.type.dtype in ("f16", "bf16"):
        x = n.emit(Cast("f32"), x)
    drawn = n.constant(_stream(n, x.type.sizes, dtype).uniform(x.type.sizes, dtype), "random")
    return n.emit(Cast(dtype_from_onnx(code) if code else n.input(0).type.dtype), n.emit(Less(), drawn, x))


@imports("Multinomial")
def _import_multinomial(n: ImportNode) -> Any:
    """Import ``sample_size`` classes for each row of unnormalised log-probabilities ``batch classes``; ONNX
    Multinomial-22.

    A class is the number of classes whose cumulative probability is at most a uniform number.
    """
    x, count, code = n.input(0), n.attr("sample_size", 1), n.attr("dtype")
    dtype = dtype_from_onnx(code) if code else "i32"
    if x.type.rank != 2 or not x.type.is_float or not x.type.sizes[1]:
        raise n.error(f"takes log-probabilities [batch, classes] of one class at least, not {x.type}")
    if count < 1 or dtype not in ("i32", "i64"):
        raise n.error(f"makes at least one sample, as int32 or int64, not {count} as {dtype_names(dtype)}")
    batch, classes = x.type.sizes
    check_made(TensorType("f32", (batch, count, classes)), f"{n.describe()}: its comparisons")
    wide = x if x.type.dtype == "f64" else n.emit(Cast("f64"), x)
    weights = n.emit(Exp(), n.emit(Sub(), wide, n.emit(ReduceMax((1,), True), wide)))
    below = n.emit(CumSum(1), weights)
    drawn = n.constant(_stream(n, (batch, count), "f64").uniform((batch, count, 1), "f64"), "random")
    share = n.emit(Mul(), drawn, n.emit(Reshape((batch, 1, 1)), n.emit(ReduceSum((1,), True), weights)))
    # the last class is not compared, so that rounding never counts beyond it
    beyond = n.emit(Greater(), share, _but_last(n, below))
    return n.emit(ReduceSum((2,), False), n.emit(Cast(dtype), beyond))


@imports("Dropout")
def _import_dropout(n: ImportNode) -> Any:
    """Import the identity, or in training mode elements that become 0 with a probability of ``ratio`` while the others
    are divided by ``1 - ratio``, and the mask of these others; ONNX Dropout-22.
    """
    x = n.input(0)
    computed = [v for v in n.inputs[1:3] if v is not None and n.builder.constant_of(v) is None]
    if n.opset >= 12 and any(map(n.is_data, computed)):
        return _dropout_of_data(n)
    training = not n.attr("is_test", 0) if n.opset < 7 else n.opset >= 12 and bool(n.const(2, "training_mode"))
    given = n.attr("ratio", 0.5) if n.opset < 12 else n.const(1, "ratio")
    ratio = 0.5 if given is None else float(np.asarray(given).reshape(-1)[0])
    of_mask = "bool" if n.opset >= 10 else x.type.dtype
    if not training or not ratio:
        return x if len(n.proto.output) == 1 else (x, n.filled(x.type.sizes, 1, of_mask, "mask"))
    if not 0 < ratio < 1:
        raise n.error(f"its ratio is {ratio}; it must be at least 0 and less than 1")
    kept = n.constant(_stream(n, x.type.sizes, "f64").uniform(x.type.sizes, "f64") >= ratio, "mask")
    y = n.emit(Where(), kept, n.emit(Mul(), x, n.scalar(1 / (1 - ratio), x)), n.scalar(0, x))
    return y if len(n.proto.output) == 1 else (y, n.emit(Cast(of_mask), kept))


def _dropout_of_data(n: ImportNode) -> Any:
    """A Dropout whose ratio, or whether it is in training, is computed at run time."""
    x = n.input(0)
    drawn = n.constant(_stream(n, x.type.sizes, "f64").uniform(x.type.sizes, "f64"), "random")
    given = n.optional(1)
    ratio = n.constant(np.array(0.5)) if given is None else n.emit(Cast("f64"), n.emit(Reshape(()), given))
    kept = n.emit(GreaterOrEqual(), drawn, ratio)
    share = n.emit(Cast(x.type.dtype), n.emit(Sub(), n.constant(np.array(1.0)), ratio))
    y = n.emit(Where(), kept, n.emit(Div(), x, share), n.scalar(0, x))
    training = n.optional(2)
    if training is None:
        return (x, n.filled(x.type.sizes, 1, "bool", "mask"))[: len(n.proto.output)]
    training = n.emit(Reshape(()), training)
    kept = n.emit(Or(), kept, n.emit(Not(), training))
    return (n.emit(Where(), training, y, x), kept)[: len(n.proto.output)]


def _but_last(n: ImportNode, x: Value) -> Value:
    """``[batch, classes]`` without the last class, as ``[batch, 1, classes - 1]``."""
    batch, classes = x.type.sizes
    y: Value = n.emit(Reshape((batch, 1, classes - 1)), n.emit(Slice((1,), (0,), (classes - 1,)), x))
    return y


def _stream(n: ImportNode, shape: Sequence[int], dtype: str) -> Stream:
    """The numbers of a node. Raises ``LimitError`` when so many cannot be kept."""
    check_made(TensorType(dtype, tuple(shape)), f"{n.describe()}: its random numbers")
    n.builder.streams += 1
    return Stream(n.builder.streams - 1, n.attr("seed"))
