"""Root-mean-square normalization."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..lowering import Operand, TensorExpressions
from ..onnx_io import ExportNode, ImportNode, exports, imports, onnx_dtype
from ..op import Case, Op, f16, f32, f64, sample
from ..types import TensorType
from ._accumulate import accumulator, mean, power
from ._axes import axis_of
from .layer_norm import check_normalized


@dataclass(frozen=True)
class RmsNorm(Op):
    """``x / sqrt(mean(x**2) + epsilon) * scale``, the mean over ``axis`` and all after; ONNX RMSNormalization-23.

    Operands x and scale, of one float dtype, row-major, scale broadcast to x.
    """

    name = "rms_norm"
    normalises_rows = True
    axis: int = -1
    epsilon: float = 1e-5

    def infer(self, *types: TensorType) -> TensorType:
        x, *params = types
        check_normalized(x, params, 1)
        axis_of(self.axis, x.rank)
        return x

    def compute(self, k: TensorExpressions, xs: Sequence[Operand], outs: Sequence[TensorType]) -> Any:
        x, scale = xs
        acc = accumulator(x.type)
        axis = axis_of(self.axis, x.type.rank)
        stat = acc.with_shape((*x.shape[:axis], *(1,) * (x.type.rank - axis)))
        square = mean(k, stat, x.shape[axis:], lambda i, r: power(k, x(*i[:axis], *r).astype(acc.tvm_dtype), 2))

        def element(*i: Any) -> Any:
            size = k.tirx.sqrt(square.at(i) + k.const(self.epsilon, acc.tvm_dtype))
            return (x(*i).astype(acc.tvm_dtype) / size * scale.at(i).astype(acc.tvm_dtype)).astype(outs[0].tvm_dtype)

        return k.compute(outs[0], element, "rms_norm")

    def flops(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> int:
        return 4 * inputs[0].numel

    @classmethod
    def cases(cls) -> Iterator[Case]:
        yield sample(cls(), f32[2, 3, 7], f32[7])
        yield sample(cls(1, 0.5), f32[2, 3, 5], f32[3, 5])
        yield sample(cls(), f16[3, 40], f16[40])
        yield sample(cls(-2), f64[3, 4, 5], f64[1])


@imports("RMSNormalization")
def _import_rms_norm(n: ImportNode) -> Any:
    return n.emit(RmsNorm(n.attr("axis", -1), n.attr("epsilon", 1e-5)), n.input(0), n.input(1))


@exports(RmsNorm)
def _export_rms_norm(op: RmsNorm, n: ExportNode) -> None:
    """The function body of RMSNormalization, which the exported opset does not have yet."""
    type = n.input_types[0]
    wide = accumulator(type)

    def cast(name: str, to: TensorType, outputs: Sequence[str] | None = None) -> str:
        return n.node("Cast", [name], outputs, to=onnx_dtype(to.dtype))

    x, scale = n.inputs if wide == type else (cast(name, wide) for name in n.inputs)
    axes = n.ints(range(axis_of(op.axis, type.rank), type.rank), "axes")
    square = n.node("ReduceMean", [n.node("Mul", [x, x]), axes], keepdims=1)
    shifted = n.node("Add", [square, n.constant(np.array(op.epsilon, wide.numpy_dtype), "epsilon")])
    normal = n.node("Div", [x, n.node("Sqrt", [shifted])])
    if wide == type:
        n.node("Mul", [normal, scale], n.outputs)
    else:
        cast(n.node("Mul", [normal, scale]), type, n.outputs)
