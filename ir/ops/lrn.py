"""Local response normalization."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import ShapeError
from ..layout import Layout
from ..lowering import Operand, TensorExpressions
from ..onnx_io import onnx_op
from ..op import Case, Op, f16, f32, sample
from ..types import TensorType
from ._accumulate import accumulator, power


@onnx_op("LRN")
@dataclass(frozen=True)
class Lrn(Op):
    """``x / (bias + alpha / size * s) ** beta``, s the sum of squares over ``size`` channels around; ONNX LRN-13.

    Data ``N C ...`` in any layout. The channels are ``c - (size-1)//2`` to ``c + size//2``, as far as they exist.
    """

    name = "lrn"
    size: int
    alpha: float = 1e-4
    beta: float = 0.75
    bias: float = 1.0

    def infer(self, *types: TensorType) -> TensorType:
        (x,) = types
        if not x.is_float or x.rank < 2:
            raise ShapeError("takes float data of rank 2 or more")
        if self.size < 1:
            raise ShapeError(f"its size is {self.size}; it must be at least 1")
        return x

    def compute(self, k: TensorExpressions, xs: Sequence[Operand], outs: Sequence[TensorType]) -> Any:
        (x,) = xs
        acc = accumulator(x.type)
        channels = x.shape[1]
        rc = k.reduce_axis(self.size, "rc")

        def squares(n: Any, c: Any, *i: Any) -> Any:
            at = c + rc - (self.size - 1) // 2
            inside = k.tirx.all(at >= 0, at < channels)
            square = power(k, x(n, at, *i).astype(acc.tvm_dtype), 2)
            return k.te.sum(k.guarded(inside, square, k.const(0, acc.tvm_dtype)), axis=rc)

        total = k.operand(k.compute(acc, squares, "square_sum"), acc)

        def element(*i: Any) -> Any:
            base = total(*i) * k.const(self.alpha / self.size, acc.tvm_dtype) + k.const(self.bias, acc.tvm_dtype)
            return (x(*i).astype(acc.tvm_dtype) / self._raised(k, base)).astype(outs[0].tvm_dtype)

        return k.compute(outs[0], element, "lrn", mask=True)

    def _raised(self, k: TensorExpressions, base: Any) -> Any:
        """``base ** beta``. The usual 3/4 is computed by square roots, which have vector instructions."""
        if self.beta != 0.75:
            return k.tirx.pow(base, k.like(self.beta, base))
        half = k.tirx.sqrt(base)
        return half * k.tirx.sqrt(half)

    def flops(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> int:
        return (2 * self.size + 6) * inputs[0].numel

    def layouts(self, inputs: Sequence[TensorType], layout: Layout) -> bool:
        return layout.rank == inputs[0].rank

    @classmethod
    def cases(cls) -> Iterator[Case]:
        wrong = {"oracle": "onnxruntime", "note": "the reference takes the batch for the channels"}
        yield sample(cls(5), f32[2, 9, 4, 3], low=-20, high=20, **wrong)
        yield sample(cls(3, 0.5, 0.6, 2.0), f32[2, 4, 3, 3], **wrong)
        yield sample(cls(11, 0.1), f32[1, 5, 3, 3], **wrong)
        yield sample(cls(3), f16[1, 5, 3, 3], **wrong)
        yield sample(cls(4, 0.3), f32[5, 5, 2, 3], oracle="reference", note="ONNX Runtime takes only odd sizes")
