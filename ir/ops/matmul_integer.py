"""Matrix products of quantized operands; they become products in int32."""

from __future__ import annotations

from typing import Any

from ..onnx_io import ImportNode, imports
from ._quantized import along, operand, requantized, shifted
from .matmul import MatMul


@imports("MatMulInteger")
def _import_mat_mul_integer(n: ImportNode) -> Any:
    """``(a - a_zero) @ (b - b_zero)`` in int32; a vector of zero points is one for each row of a or column of b; ONNX
    MatMulInteger-10.
    """
    a, b = shifted(n, n.input(0), n.optional(2), -2), shifted(n, n.input(1), n.optional(3), -1)
    return n.emit(MatMul(), a, b)


@imports("QLinearMatMul")
def _import_q_linear_mat_mul(n: ImportNode) -> Any:
    """A product of quantized matrices, quantized; scales and zero points for each row of a or column of b; ONNX
    QLinearMatMul-21.
    """
    (a, a_scale, a_zero), (b, b_scale, b_zero) = operand(n, 0), operand(n, 3)
    total = n.emit(MatMul(), shifted(n, a, a_zero, -2), shifted(n, b, b_zero, -1))
    scales = along(n, a_scale, -2, max(total.type.rank, 2)), b_scale
    return requantized(n, total, scales, n.input(6), n.input(7))
