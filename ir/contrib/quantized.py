"""Operators on quantized tensors, which ONNX Runtime's quantizer and its optimiser write."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from ..graph import Value
from ..onnx_io import ImportNode
from ..ops.binary import Add, Mul
from ..ops.cast import Cast
from ..ops.concat import Concat
from ..ops.gemm import Gemm
from ..ops.quantize import Dequantize, Quantize
from ..ops.reshape import Reshape
from ..ops.where import Where
from ._operator import POOL, WINDOW, given, need, operator
from .convolutions import channels_first, channels_last

UNARY = "X X_scale X_zero_point? Y_scale Y_zero_point?"
BINARY = "A A_scale A_zero_point? B B_scale B_zero_point? C_scale C_zero_point?"


@operator("QuantizeLinear", "x y_scale y_zero_point?", "y", True, axis="int", block_size="int")
def _import_quantize(n: ImportNode) -> Any:
    return n.call("QuantizeLinear", *n.present_inputs(), **given(n, "axis", "block_size"))


@operator("DequantizeLinear", "x x_scale x_zero_point?", "y", axis="int", block_size="int")
def _import_dequantize(n: ImportNode) -> Any:
    return n.call("DequantizeLinear", *n.present_inputs(), **given(n, "axis", "block_size"))


def _import_unary(op_type: str, n: ImportNode) -> Any:
    """Import ``quantize(op(dequantize(x)))``: the operand with its scale and zero point, then those of the result."""
    last = bool(n.attr("channels_last", 0))
    x = _floats(n, 0)
    attrs = given(n, *(name for name in n.signature().attributes if name not in ("channels_last", "opset")))
    y = n.call(op_type, channels_first(n, x) if last else x, opset=n.attr("opset", 18), **attrs)
    return _quantized(n, channels_last(n, y) if last else y, *_scale(n, 3))


def _import_binary(op_type: str, n: ImportNode) -> Any:
    """Import ``quantize(op(dequantize(a), dequantize(b)))``.

    ONNX Runtime's operators may differ by one where a result lies between two integers.
    """
    return _quantized(n, n.call(op_type, _floats(n, 0), _floats(n, 3)), *_scale(n, 6))


def _register(op_type: str, read: Callable[[str, ImportNode], Any], inputs: str, output: str, **attrs: Any) -> None:
    operator(f"QLinear{op_type}", inputs, output, **attrs)(partial(read, op_type))


_register("Add", _import_binary, BINARY, "C")
_register("Mul", _import_binary, BINARY, "C")
_register("LeakyRelu", _import_unary, UNARY, "Y", alpha="float")
_register("Sigmoid", _import_unary, UNARY, "Y")
_register("Softmax", _import_unary, "X X_scale x_zero_point? y_scale y_zero_point", "Y", axis="int", opset="int!")
_register(
    "AveragePool",
    _import_unary,
    "X x_scale x_zero_point? y_scale y_zero_point?",
    "Y",
    **POOL,
    count_include_pad="int",
    channels_last="int",
)
_register("GlobalAveragePool", _import_unary, "X x_scale x_zero_point y_scale y_zero_point", "Y", channels_last="int")


@operator(
    "QLinearReduceMean", "data data_scale data_zero_point? reduced_scale reduced_zero_point?", "reduced",
    axes="ints!", keepdims="int!",
)  # fmt: skip
def _import_reduce_mean(n: ImportNode) -> Any:
    y = n.call("ReduceMean", _floats(n, 0), opset=17, axes=n.attr("axes"), keepdims=n.attr("keepdims"))
    return _quantized(n, y, *_scale(n, 3))


@operator("QLinearConcat", "Y_scale Y_zero_point inputs*", axis="int!")
def _import_concat(n: ImportNode) -> Any:
    """Import the concatenation of tensors of several scales in a tensor of another scale.

    The scale and zero point of the result come first, then each operand with its own.
    """
    need(n, len(n.inputs) % 3 == 2 and len(n.inputs) > 2,
         f"it has {len(n.inputs)} inputs; the result has two, and each operand three")  # fmt: skip
    parts = [_floats(n, i) for i in range(2, len(n.inputs), 3)]
    return _quantized(n, n.emit(Concat(n.attr("axis")), *parts), *_scale(n, 0))


@operator("QLinearWhere", "condition X x_scale x_zero_point Y y_scale y_zero_point z_scale z_zero_point", "Z")
def _import_where(n: ImportNode) -> Any:
    return _quantized(n, n.emit(Where(), n.input(0), _floats(n, 1), _floats(n, 4)), *_scale(n, 7))


@operator("QGemm", "A a_scale a_zero_point B b_scale b_zero_point C? y_scale? y_zero_point?",
          alpha="float", transA="int", transB="int")  # fmt: skip
def _import_gemm(n: ImportNode) -> Any:
    """Import ``alpha * a @ b + c`` of quantized matrices, where c is int32 at the product of their scales.

    The result is a float where it has no scale.
    """
    trans_b = bool(n.attr("transB", 0))
    alpha = n.attr("alpha", 1.0)
    a, b = _floats(n, 0), _floats(n, 3, axis=0 if trans_b else 1)
    operands = [a, b]
    if (bias := n.optional(6)) is not None:
        scale = n.emit(Mul(), n.emit(Reshape((1,)), n.input(1)), n.emit(Reshape((-1,)), n.input(4)))
        factor = n.emit(Mul(), scale, n.scalar(alpha, scale))
        operands.append(n.emit(Mul(), n.emit(Cast("f32"), bias), factor))
    y = n.emit(Gemm(alpha, 1.0, bool(n.attr("transA", 0)), trans_b), *operands)
    return y if n.optional(7) is None else _quantized(n, y, *_scale(n, 7))


@operator(
    "QLinearConv", "x x_scale x_zero_point w w_scale w_zero_point y_scale y_zero_point B?", "y",
    **WINDOW, channels_last="int",
)  # fmt: skip
def _import_conv(n: ImportNode) -> Any:
    """Import ONNX's QLinearConv, or with ``channels_last`` one whose data, but not weight, has its channels last."""
    x, *rest = n.present_inputs()
    last = bool(n.attr("channels_last", 0))
    y = n.call("QLinearConv", channels_first(n, x) if last else x, *rest, **given(n, *WINDOW))
    return channels_last(n, y) if last else y


@operator("MatMulInteger16", "A B")
def _import_mat_mul_integer16(n: ImportNode) -> Any:
    return n.call("MatMul", *(n.emit(Cast("i32"), v) for v in n.present_inputs()))


@operator("MatMulIntegerToFloat", "A B a_scale b_scale a_zero_point? b_zero_point? bias?")
def _import_mat_mul_to_float(n: ImportNode) -> Any:
    """Import ``(a - a_zero) @ (b - b_zero) * (a_scale * b_scale) + bias``; those of b may be one for each column."""
    zeros = n.optional(4), n.optional(5)
    return scaled_product(n, n.input(0), n.input(1), (n.input(2), n.input(3)), zeros, n.optional(6))


@operator("DynamicQuantizeMatMul", "A B b_scale b_zero_point? bias?")
def _import_dynamic_mat_mul(n: ImportNode) -> Any:
    """Import a product of a, which is quantized to uint8 by its extremes when the model runs, and a quantized b."""
    a, scale, zero = n.call("DynamicQuantizeLinear", n.input(0))
    return scaled_product(n, a, n.input(1), (scale, n.input(2)), (zero, n.optional(3)), n.optional(4))


def scaled_product(
    n: ImportNode, a: Value, b: Value, scales: tuple[Value, Value], zeros: tuple[Value | None, Value | None],
    bias: Value | None,
) -> Value:  # fmt: skip
    """``(a - a_zero) @ (b - b_zero)``, exact in int32, times both scales, plus a bias."""
    total = n.call("MatMulInteger", a, b, *zeros)
    factor = n.emit(Mul(), *(n.emit(Reshape(()), s) if s.type.shape == (1,) else s for s in scales))
    y: Value = n.emit(Mul(), n.emit(Cast(factor.type.dtype), total), factor)
    return y if bias is None else n.emit(Add(), y, bias)


def _floats(n: ImportNode, index: int, axis: int = 1) -> Value:
    """A quantized operand, dequantized."""
    zero = n.optional(index + 2)
    made: Value = n.emit(Dequantize(axis), n.input(index), n.input(index + 1), *([] if zero is None else [zero]))
    return made


def _scale(n: ImportNode, index: int) -> Sequence[Value]:
    """The scale and zero point of the result."""
    zero = n.optional(index + 1)
    return [n.input(index), *([] if zero is None else [zero])]


def _quantized(n: ImportNode, y: Value, scale: Value, *zero: Value) -> Value:
    """The result, quantized to the dtype of its zero point, or to uint8 without one."""
    made: Value = n.emit(Quantize(dtype=zero[0].type.dtype if zero else "u8"), y, scale, *zero)
    return made
