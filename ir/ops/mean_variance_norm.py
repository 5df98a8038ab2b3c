"""Mean-variance normalization."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import ShapeError
from ..lowering import Operand, TensorExpressions
from ..onnx_io import ExportNode, exports, onnx_dtype, onnx_op
from ..op import Case, Op, f16, f32, f64, sample
from ..types import TensorType
from ._accumulate import accumulator, moments
from ._axes import Ints, axes_of
from .layer_norm import FAR

EPSILON = 1e-9
"""What the function body of MeanVarianceNormalization adds to the deviation."""


@onnx_op("MeanVarianceNormalization")
@dataclass(frozen=True)
class MeanVarianceNorm(Op):
    """``(x - mean) / (deviation + 1e-9)``, statistics over ``axes``; ONNX MeanVarianceNormalization-13.

    The operand is row-major and of a float dtype. The function body of ONNX computes the variance as a difference of
    squares, which loses all digits of data far from zero; here nothing cancels.
    """

    name = "mean_variance_norm"
    normalises_rows = True
    axes: Ints = (0, 2, 3)

    def infer(self, *types: TensorType) -> TensorType:
        (x,) = types
        if not x.is_float or x.layout:
            raise ShapeError("takes row-major float data")
        axes_of(self.axes, x.rank)
        return x

    def compute(self, k: TensorExpressions, xs: Sequence[Operand], outs: Sequence[TensorType]) -> Any:
        (x,) = xs
        acc = accumulator(x.type)
        reduced = axes_of(self.axes, x.type.rank)
        stat = acc.with_shape([1 if a in reduced else d for a, d in enumerate(x.shape)])

        def read(i: Sequence[Any], r: Sequence[Any]) -> Any:
            place = dict(zip(reduced, r, strict=True))
            return x(*(place.get(a, at) for a, at in enumerate(i))).astype(acc.tvm_dtype)

        m = moments(k, stat, [x.shape[a] for a in reduced], read)

        def element(*i: Any) -> Any:
            at = [0 if a in reduced else index for a, index in enumerate(i)]
            spread = k.tirx.sqrt(m.variance(*at)) + k.const(EPSILON, acc.tvm_dtype)
            return (m.centred(x(*i).astype(acc.tvm_dtype), at) / spread).astype(outs[0].tvm_dtype)

        return k.compute(outs[0], element, self.name)

    def flops(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> int:
        return 8 * inputs[0].numel

    @classmethod
    def cases(cls) -> Iterator[Case]:
        yield sample(cls(), f32[2, 3, 4, 5])
        yield sample(cls((1, -1)), f32[2, 3, 1, 5])
        yield sample(cls((0,)), f32[7, 3], low=498, high=502, **FAR)
        yield sample(cls((0, 1)), f32[5, 9], low=9998, high=10002, **FAR)
        yield sample(cls((1,)), f32[3, 1])
        yield sample(cls(), f16[1, 3, 8, 8], low=18, high=22, **FAR)
        yield sample(cls((1,)), f64[3, 8])


@exports(MeanVarianceNorm)
def _export_mean_variance_norm(op: MeanVarianceNorm, n: ExportNode) -> None:
    """Write the computation in ops whose results keep their digits, which the standard's function body does not."""
    type = n.input_types[0]
    wide = accumulator(type)
    axes = n.ints(axes_of(op.axes, type.rank), "axes")
    x = n.inputs[0] if wide == type else n.node("Cast", n.inputs, to=onnx_dtype(wide.dtype))
    for _ in range(2):
        x = n.node("Sub", [x, n.node("ReduceMean", [x, axes], keepdims=1)])
    deviation = n.node("Sqrt", [n.node("ReduceMean", [n.node("Mul", [x, x]), axes], keepdims=1)])
    spread = n.node("Add", [deviation, n.constant(np.array(EPSILON, wide.numpy_dtype), "epsilon")])
    if wide == type:
        n.node("Div", [x, spread], n.outputs)
    else:
        n.node("Cast", [n.node("Div", [x, spread])], n.outputs, to=onnx_dtype(type.dtype))
