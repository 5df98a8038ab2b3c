"""General matrix multiplication."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ..dtypes import dtype_names
from ..errors import ShapeError
from ..lowering import Operand, TensorExpressions
from ..onnx_io import ExportNode, ImportNode, exports, imports
from ..op import Case, Op, f16, f32, f64, i32, sample
from ..sizes import same
from ..types import TensorType, broadcasts_to
from ._accumulate import accumulator
from ._math import truncated
from .matmul import DTYPES


@dataclass(frozen=True)
class Gemm(Op):
    """``alpha * A @ B + beta * C`` on matrices, C optional and broadcast to the result; ONNX Gemm-13.

    ``A`` is ``M K`` (``K M`` with ``trans_a``), ``B`` is ``K N`` (``N K`` with ``trans_b``). C is not read when beta
    is 0. Integers are scaled in float64 when alpha or beta is not an integer of the dtype.
    """

    name = "gemm"
    contraction = True
    alpha: float = 1.0
    beta: float = 1.0
    trans_a: bool = False
    trans_b: bool = False

    def infer(self, *types: TensorType) -> TensorType:
        a, b, *c = types
        if a.rank != 2 or b.rank != 2 or len(c) > 1:
            raise ShapeError("takes two matrices and an optional third operand")
        if {t.dtype for t in types} != {a.dtype} or a.dtype not in DTYPES:
            raise ShapeError(f"takes operands of one dtype out of {dtype_names(*DTYPES)}")
        rows, inner = a.shape[::-1] if self.trans_a else a.shape
        inner_b, columns = b.shape[::-1] if self.trans_b else b.shape
        if not same(inner, inner_b):
            raise ShapeError(f"the inner sizes {inner} and {inner_b} differ")
        if c and (c[0].rank > 2 or not broadcasts_to(c[0].shape, (rows, columns))):
            raise ShapeError(f"shape {list(c[0].shape)} does not broadcast to {[rows, columns]}")
        return TensorType(a.dtype, (rows, columns))

    def compute(self, k: TensorExpressions, xs: Sequence[Operand], outs: Sequence[TensorType]) -> Any:
        a, b, *c = xs
        acc = accumulator(outs[0])
        rk = k.reduce_axis(a.shape[0 if self.trans_a else 1], "rk")

        def element(i: Any, j: Any) -> Any:
            left = a(rk, i) if self.trans_a else a(i, rk)
            right = b(j, rk) if self.trans_b else b(rk, j)
            return k.te.sum(left.astype(acc.tvm_dtype) * right.astype(acc.tvm_dtype), axis=rk)

        return self.scale_and_add(k, k.operand(k.compute(acc, element, "gemm"), acc), c, outs[0])

    def scale_and_add(self, k: TensorExpressions, product: Operand, c: Sequence[Operand], out: TensorType) -> Any:
        """``alpha * product + beta * c``, rounded to the dtype of the result; the product itself when alpha is 1 and c
        is not read.
        """
        acc = product.type
        c = c if self.beta else []
        if acc == out and self.alpha == 1 and not c:
            return product.tensor
        work = acc.tvm_dtype if acc.is_float or all(map(acc.holds, (self.alpha, self.beta))) else "float64"

        def scaled(value: Any, factor: float) -> Any:
            value = value.astype(work)
            return value if factor == 1 else value * k.like(factor, value)

        def finish(*i: Any) -> Any:
            value = scaled(product(*i), self.alpha)
            value = value + scaled(c[0].at(i), self.beta) if c else value
            return (
                value.astype(out.tvm_dtype) if out.is_float or work != "float64" else truncated(k, value, out.tvm_dtype)
            )

        return k.compute(out, finish, "scale_and_add")

    def flops(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> int:
        inner = inputs[0].sizes[0 if self.trans_a else 1]
        return outputs[0].numel * (2 * inner + (self.alpha != 1) + 2 * (len(inputs) == 3))

    @classmethod
    def cases(cls) -> Iterator[Case]:
        yield sample(cls(), f32[3, 5], f32[5, 7], f32[7])
        yield sample(cls(0.5, 2.0, trans_a=True), f32[5, 3], f32[5, 7], f32[3, 1])
        yield sample(cls(trans_b=True), f32[3, 5], f32[7, 5])
        yield sample(cls(trans_a=True, trans_b=True, beta=0.0), f32[5, 3], f32[7, 5], f32[3, 7])
        yield sample(cls(0.25), f32[1, 70], f32[70, 33], f32[()])
        yield sample(cls(), f16[3, 5], f16[5, 7], f16[1, 7])
        yield sample(cls(0.125, 0.375), f64[3, 5], f64[5, 7], f64[7])
        for factors in ((2.0, 3.0), (0.5, 0.25), (1e10, 1.0), (math.inf, 1.0), (0.0, -1e12)):
            yield sample(
                cls(*factors),
                i32[3, 5],
                i32[5, 7],
                i32[7],
                low=-9,
                high=9,
                oracle="reference",
                note="ONNX Runtime has no integer Gemm",
            )


@imports("Gemm")
def _import_gemm(n: ImportNode) -> Any:
    op = Gemm(n.attr("alpha", 1.0), n.attr("beta", 1.0), bool(n.attr("transA", 0)), bool(n.attr("transB", 0)))
    return n.emit(op, *n.present_inputs())


@exports(Gemm)
def _export_gemm(op: Gemm, n: ExportNode) -> None:
    n.node("Gemm", n.inputs, n.outputs, alpha=op.alpha, beta=op.beta, transA=op.trans_a, transB=op.trans_b)
