"""ONNX Runtime's operators on quantized tensors, which its quantizer writes beside ONNX's own (domain
``com.microsoft``).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..graph import Value
from ..onnx_io import ImportNode, importer_of, imports
from .binary import Mul
from .cast import Cast
from .concat import Concat
from .gemm import Gemm
from .quantize import Dequantize, Quantize
from .reshape import Reshape

DOMAIN = "com.microsoft::"
BINARY = ("Add", "Mul")
UNARY = ("AveragePool", "GlobalAveragePool", "LeakyRelu", "Sigmoid", "Softmax")
OPSET = 18
"""The attributes of what is computed are those of ONNX in this opset."""


@imports(*(f"{DOMAIN}QLinear{op}" for op in (*BINARY, *UNARY)))
def _import_qlinear(n: ImportNode) -> Any:
    """``quantize(op(dequantize(x)))``: each operand with its scale and zero point, then those of the result.

    As ONNX Runtime's ``QLinearAdd`` and its kin, which may differ by one where a result lies between two integers.
    """
    from onnx import NodeProto

    op_type = n.op_type.removeprefix("QLinear")
    count = 2 if op_type in BINARY else 1
    if n.attr("channels_last", 0):
        raise n.unsupported("channels_last is not supported")
    proto = NodeProto(op_type=op_type, name=n.proto.name, output=n.proto.output)
    proto.attribute.extend(a for a in n.proto.attribute if a.name not in ("channels_last", "opset"))
    inside = ImportNode(proto, n.attr("opset", OPSET), [_floats(n, i) for i in range(0, 3 * count, 3)], n.builder)
    importer = importer_of(op_type)
    assert importer is not None, op_type
    return _quantized(n, importer(inside), *_scale(n, 3 * count))


@imports(f"{DOMAIN}QLinearConcat")
def _import_qlinear_concat(n: ImportNode) -> Any:
    """Tensors of several scales joined in one of another.

    The scale and zero point of the result come first, then each operand with its own.
    """
    axis = n.attr("axis")
    if axis is None:
        raise n.error("attribute 'axis' is missing")
    parts = [_floats(n, i) for i in range(2, len(n.inputs), 3)]
    return _quantized(n, n.emit(Concat(axis), *parts), *_scale(n, 0))


@imports(f"{DOMAIN}QGemm")
def _import_qgemm(n: ImportNode) -> Any:
    """``alpha * a @ b + c`` of quantized matrices, c being int32 at the product of their scales.

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


def _floats(n: ImportNode, index: int, axis: int = 1) -> Value:
    """A quantized operand as floats."""
    zero = n.optional(index + 2)
    made: Value = n.emit(Dequantize(axis), n.input(index), n.input(index + 1), *([] if zero is None else [zero]))
    return made


def _scale(n: ImportNode, index: int) -> Sequence[Value]:
    """The scale and zero point of the result."""
    zero = n.optional(index + 1)
    return [n.input(index), *([] if zero is None else [zero])]


def _quantized(n: ImportNode, y: Value, scale: Value, *zero: Value) -> Value:
    """The result as integers, unsigned where it has no zero point."""
    made: Value = n.emit(Quantize(dtype=zero[0].type.dtype if zero else "u8"), y, scale, *zero)
    return made
