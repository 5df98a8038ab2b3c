"""Instance normalization."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import ShapeError
from ..layout import Layout
from ..lowering import Operand, TensorExpressions
from ..onnx_io import onnx_op
from ..op import Case, Op, f16, f32, f64, sample
from ..sizes import same
from ..types import TensorType
from ._accumulate import accumulator, moments
from .layer_norm import FAR


@onnx_op("InstanceNormalization")
@dataclass(frozen=True)
class InstanceNorm(Op):
    """``(x - mean) / sqrt(var + epsilon) * scale[c] + b[c]``, statistics over space; ONNX InstanceNormalization-22.

    Operands x, scale, b: data ``N C spatial`` in any layout and two vectors ``C``, of one float dtype.
    """

    name = "instance_norm"
    normalises_rows = True
    epsilon: float = 1e-5

    def infer(self, *types: TensorType) -> TensorType:
        x, *params = types
        if len(params) != 2 or {t.dtype for t in types} != {x.dtype} or not x.is_float or x.rank < 3:
            raise ShapeError("takes data of rank 3 or more, scale and b, of one float dtype")
        if any(t.rank != 1 or not same(t.shape[0], x.shape[1]) for t in params):
            raise ShapeError(f"scale and b must have shape [{x.shape[1]}]")
        return x

    def compute(self, k: TensorExpressions, xs: Sequence[Operand], outs: Sequence[TensorType]) -> Any:
        x, scale, b = xs
        acc = accumulator(x.type)
        stat = acc.with_shape((*x.shape[:2], *(1,) * (x.type.rank - 2)))
        m = moments(k, stat, x.shape[2:], lambda i, r: x(*i[:2], *r).astype(acc.tvm_dtype))

        def element(n: Any, c: Any, *i: Any) -> Any:
            at = (n, c, *(0 for _ in i))
            spread = k.tirx.sqrt(m.variance(*at) + k.const(self.epsilon, acc.tvm_dtype))
            normal = m.centred(x(n, c, *i).astype(acc.tvm_dtype), at) / spread
            y = normal * scale(c).astype(acc.tvm_dtype) + b(c).astype(acc.tvm_dtype)
            return y.astype(outs[0].tvm_dtype)

        return k.compute(outs[0], element, "instance_norm", guard=True)

    def flops(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> int:
        return 8 * inputs[0].numel

    def layouts(self, inputs: Sequence[TensorType], layout: Layout) -> bool:
        return layout.rank == inputs[0].rank

    @classmethod
    def cases(cls) -> Iterator[Case]:
        yield sample(cls(), f32[2, 3, 5, 7], f32[3], f32[3])
        yield sample(cls(), f32[2, 3, 5, 7], *[np.ones(3, np.float32)] * 2, low=20, high=21)
        yield sample(cls(), f32[2, 3, 5, 7], *[np.ones(3, np.float32)] * 2, low=9998, high=10002, **FAR)
        yield sample(cls(0.5), f32[2, 3, 9], f32[3], f32[3])
        yield sample(cls(), f32[1, 2, 3, 4, 5], f32[2], f32[2])
        yield sample(cls(), f16[1, 3, 8, 8], f16[3], f16[3])
        yield sample(
            cls(),
            f64[1, 3, 4, 4],
            f64[3],
            f64[3],
            oracle="reference",
            note="ONNX Runtime has no float64 InstanceNormalization",
        )
