"""Matrix products with transposed operands, factors and activations."""

from __future__ import annotations

from typing import Any

from ..graph import Value
from ..onnx_io import ImportNode
from ..ops.binary import Mul
from ..ops.transpose import Transpose
from ._operator import need, operator
from .activations import with_named_activation

TRANSPOSES: dict[str, Any] = {"transA": "int", "transB": "int"}
BATCHES: dict[str, Any] = {"transBatchA": "int", "transBatchB": "int"}
ACTIVATION: dict[str, Any] = {
    "activation": "string", "activation_alpha": "float", "activation_beta": "float", "activation_gamma": "float",
}  # fmt: skip


@operator("FusedGemm", "A B C?", alpha="float", beta="float", **TRANSPOSES, **ACTIVATION)
def _import_fused_gemm(n: ImportNode) -> Any:
    """Import ``activation(alpha * a @ b + beta * c)``."""
    attrs = {"alpha": n.attr("alpha", 1.0), "beta": n.attr("beta", 1.0)}
    transposes = {name: n.attr(name, 0) for name in TRANSPOSES}
    return with_named_activation(n, n.call("Gemm", *n.present_inputs(), **attrs, **transposes))


@operator("FusedMatMul", "A B", alpha="float", **TRANSPOSES, **BATCHES)
def _import_fused_mat_mul(n: ImportNode) -> Any:
    return product(n)


@operator("TransposeMatMul", "A B", alpha="float", **TRANSPOSES)
def _import_transpose_mat_mul(n: ImportNode) -> Any:
    return product(n)


@operator(
    "FusedMatMulActivation", "A B", alpha="float", activation_axis="int", **TRANSPOSES, **BATCHES,
    **ACTIVATION | {"activation": "string!"},
)  # fmt: skip
def _import_fused_mat_mul_activation(n: ImportNode) -> Any:
    return with_named_activation(n, product(n))


def product(n: ImportNode) -> Value:
    """``alpha * a @ b`` of operands whose last two axes, or whose batch axes and rows, were exchanged."""
    a = _turned(n, n.input(0), n.attr("transA", 0), n.attr("transBatchA", 0))
    b = _turned(n, n.input(1), n.attr("transB", 0), n.attr("transBatchB", 0))
    y: Value = n.call("MatMul", a, b)
    alpha = n.attr("alpha", 1.0)
    return y if alpha == 1 else n.emit(Mul(), y, n.scalar(alpha, y))


def _turned(n: ImportNode, x: Value, matrix: int, batch: int) -> Value:
    """The operand as MatMul takes it.

    ``matrix`` exchanges the last two axes. ``batch`` says that the rows are the first axis, before those of the batch:
    ``M B1 B2 K`` becomes ``B1 B2 M K``, and with ``matrix`` ``K B1 B2 M`` does. A vector is not transposed.
    """
    rank = x.type.rank
    if rank < 2 or not (matrix or batch):
        return x
    need(n, not batch or rank >= 3, f"the batch of {list(x.type.shape)} cannot be transposed")
    axes = list(range(rank))
    if batch:
        axes = [*axes[1:-1], 0, axes[-1]]
    if matrix:
        axes = [*axes[:-2], axes[-1], axes[-2]]
    made: Value = n.emit(Transpose(tuple(axes)), x)
    return made
