"""Normalization by the Lp norm."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ..dtypes import dtype_names
from ..errors import ShapeError
from ..layout import Layout
from ..lowering import Operand, TensorExpressions
from ..onnx_io import onnx_op
from ..op import Case, Op, f16, f32, f64, sample
from ..types import TensorType
from ._accumulate import accumulator, power, root
from ._axes import axis_of


@onnx_op("LpNormalization")
@dataclass(frozen=True)
class LpNorm(Op):
    """``x / (sum of |x|**p along axis) ** (1/p)``, zero where that norm is zero; p is 1 or 2; ONNX LpNormalization-22.

    Data in any layout.
    """

    name = "lp_norm"
    normalises_rows = True
    axis: int = -1
    p: int = 2

    def infer(self, *types: TensorType) -> TensorType:
        (x,) = types
        axis_of(self.axis, x.rank)
        if not x.is_float or self.p not in (1, 2):
            raise ShapeError(f"takes float data and p of 1 or 2, not {dtype_names(x.dtype)} and {self.p}")
        return x

    def compute(self, k: TensorExpressions, xs: Sequence[Operand], outs: Sequence[TensorType]) -> Any:
        (x,) = xs
        acc = accumulator(x.type)
        axis = axis_of(self.axis, x.type.rank)
        stat = TensorType(acc.dtype, (*x.shape[:axis], 1, *x.shape[axis + 1 :]))
        ra = k.reduce_axis(x.shape[axis], "ra")

        def powers(*i: Any) -> Any:
            return k.te.sum(power(k, x(*i[:axis], ra, *i[axis + 1 :]).astype(acc.tvm_dtype), self.p), axis=ra)

        total = k.operand(k.compute(stat, powers, "power_sum"), stat)
        norm = k.operand(k.compute(stat, lambda *i: root(k, total(*i), self.p), "norm"), stat)

        def element(*i: Any) -> Any:
            size = norm.at(i)
            quotient = k.select(size == 0, k.const(0, acc.tvm_dtype), x(*i).astype(acc.tvm_dtype) / size)
            return quotient.astype(outs[0].tvm_dtype)

        return k.compute(outs[0], element, "lp_norm", guard=True)

    def flops(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> int:
        return 3 * inputs[0].numel

    def layouts(self, inputs: Sequence[TensorType], layout: Layout) -> bool:
        return layout.rank == inputs[0].rank

    @classmethod
    def cases(cls) -> Iterator[Case]:
        yield sample(cls(), f32[3, 4, 7])
        yield sample(cls(1), f32[2, 5, 3, 4])
        yield sample(cls(0, 1), f32[5, 3], oracle="onnxruntime", note="the reference sums without absolute values")
        yield sample(cls(-2), f32[2, 3, 2], low=0, high=0)
        yield sample(cls(), f16[3, 50])
        yield sample(cls(1), f64[2, 5, 3])
