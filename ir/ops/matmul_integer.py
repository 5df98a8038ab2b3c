"""Import of matrix products of quantized operands, as products in int32."""

from __future__ import annotations

from typing import Any

from ..onnx_io import ImportNode, imports
from ._quantized import along, operand, requantized, shifted
from .matmul import MatMul


@imports("MatMulInteger")
def _import_mat_mul_integer(n: ImportNode) -> Any:
    """Import ``(a - a_zero) @ (b - b_zero)`` in int32; ONNX MatMulInteger-10.

    A vector of zero points has one for each row of a, or column of b.
    """
    a, b = shifted(n, n.input(0), n.optional(2), -2), shifted(n, n.input(1), n.optional(3), -1)
    return n.emit(MatMul(), a, b)


@imports("QLinearMatMul")
def _import_q_linear_mat_mul(n: ImportNode) -> Any:
    """Import a product of quantized matrices whose result is quantized; ONNX QLinearMatMul-21.

    Scales and zero points that are vectors have one for each row of a, or column of b.
    """
    (a, a_scale, a_zero), (b, b_scale, b_zero) = operand(n, 0), operand(n, 3)
    total = n.emit(MatMul(), shifted(n, a, a_zero, -2), shifted(n, b, b_zero, -1))
    rows = -2 if b.type.rank > 1 else -1
    scales = along(n, a_scale, rows, total.type.rank), along(n, b_scale, -1, total.type.rank)
    return requantized(n, total, scales, n.input(6), n.input(7))
