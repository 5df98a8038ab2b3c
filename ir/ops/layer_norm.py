"""Layer normalization."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import ShapeError
from ..lowering import Operand, TensorExpressions
from ..onnx_io import ExportNode, ImportNode, exports, imports
from ..op import Case, Op, f16, f32, f64, sample
from ..types import TensorType, broadcasts_to
from ._accumulate import accumulator, moments
from ._axes import axis_of

FAR = {"oracle": "reference in float64", "note": "ONNX Runtime and onnx's reference lose digits far from zero"}
"""The oracle of data whose mean is far larger than its deviation."""


@dataclass(frozen=True)
class LayerNorm(Op):
    """``(x - mean) / sqrt(var + epsilon) * scale + b``, statistics over ``axis`` and all after; ONNX
    LayerNormalization-17.

    Operands x, scale and an optional b are row-major and of one float dtype; scale and b are broadcast to x. ``stats``
    adds two float32 outputs: the mean and ``1 / sqrt(var + epsilon)``, with size 1 on the reduced axes.
    """

    name = "layer_norm"
    normalises_rows = True
    axis: int = -1
    epsilon: float = 1e-5
    stats: bool = False

    def infer(self, *types: TensorType) -> TensorType | tuple[TensorType, ...]:
        x, *params = types
        check_normalized(x, params, 2)
        axis = axis_of(self.axis, x.rank)
        stat = TensorType("f32", (*x.shape[:axis], *(1,) * (x.rank - axis)))
        return (x, stat, stat) if self.stats else x

    def compute(self, k: TensorExpressions, xs: Sequence[Operand], outs: Sequence[TensorType]) -> Any:
        x, scale, *b = xs
        acc = accumulator(x.type)
        axis = axis_of(self.axis, x.type.rank)
        stat = acc.with_shape((*x.shape[:axis], *(1,) * (x.type.rank - axis)))
        m = moments(k, stat, x.shape[axis:], lambda i, r: x(*i[:axis], *r).astype(acc.tvm_dtype))

        def inverse(*i: Any) -> Any:
            spread = k.tirx.sqrt(m.variance(*i) + k.const(self.epsilon, acc.tvm_dtype))
            return k.const(1, acc.tvm_dtype) / spread

        factor = k.operand(k.compute(stat, inverse, "inverse_deviation"), stat)

        def element(*i: Any) -> Any:
            row = (*i[:axis], *(0 for _ in i[axis:]))
            y = m.centred(x(*i).astype(acc.tvm_dtype), row) * factor.at(i) * scale.at(i).astype(acc.tvm_dtype)
            return (y + b[0].at(i).astype(acc.tvm_dtype) if b else y).astype(outs[0].tvm_dtype)

        y = k.compute(outs[0], element, "layer_norm")
        if not self.stats:
            return y

        def whole_mean(*i: Any) -> Any:  # an infinite mean leaves no rest
            mean, rest = m.mean(*i), m.rest(*i)
            return k.select(k.tirx.isnan(rest), mean, mean + rest).astype("float32")

        mean = k.compute(outs[1], whole_mean)
        return y, mean, k.compute(outs[2], lambda *i: factor(*i).astype("float32"))

    def flops(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> int:
        return 7 * inputs[0].numel

    @classmethod
    def cases(cls) -> Iterator[Case]:
        yield sample(cls(), f32[2, 3, 7], f32[7], f32[7])
        yield sample(cls(1, 0.5), f32[2, 3, 5, 4], f32[3, 5, 4])
        yield sample(cls(-2, stats=True), f32[2, 3, 5, 4], f32[5, 1], f32[4])
        yield sample(cls(), f32[4, 30], np.ones(30, np.float32), low=20, high=21)
        yield sample(cls(1), f32[2, 3, 5], np.ones(5, np.float32), low=9998, high=10002, **FAR)
        yield sample(cls(stats=True), f32[2, 35], np.ones(35, np.float32), low=498, high=502, **FAR)
        yield sample(
            cls(stats=True),
            f16[3, 40],
            f16[40],
            f16[40],
            oracle="onnxruntime",
            note="the reference gives Mean and InvStdDev the dtype of x, not that of stash_type",
        )
        yield sample(cls(), f64[3, 8], f64[8])


@imports("LayerNormalization")
def _import_layer_norm(n: ImportNode) -> Any:
    stats = any(n.proto.output[1:])
    if stats and n.attr("stash_type", 1) != 1:
        raise n.unsupported("the outputs Mean and InvStdDev are computed only as float32 (stash_type=1)")
    return n.emit(LayerNorm(n.attr("axis", -1), n.attr("epsilon", 1e-5), stats), *n.present_inputs())


@exports(LayerNorm)
def _export_layer_norm(op: LayerNorm, n: ExportNode) -> None:
    n.node("LayerNormalization", n.inputs, n.outputs, axis=op.axis, epsilon=op.epsilon)


def check_normalized(x: TensorType, params: Sequence[TensorType], most: int) -> None:
    """Raises ``ShapeError`` unless x is row-major float and the parameters broadcast to it."""
    if not 1 <= len(params) <= most or {t.dtype for t in params} != {x.dtype} or not x.is_float or x.layout:
        raise ShapeError("takes row-major data, scale and what shifts it, of one float dtype")
    for t in params:
        if not broadcasts_to(t.shape, x.shape):
            raise ShapeError(f"shape {list(t.shape)} does not broadcast to {list(x.shape)}")
