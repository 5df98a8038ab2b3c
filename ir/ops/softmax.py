"""Softmax, log-softmax and hardmax."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import ShapeError
from ..layout import Layout
from ..lowering import Operand, TensorExpressions
from ..onnx_io import ExportNode, ImportNode, exports, onnx_op, operator_of
from ..op import Case, Op, f16, f32, f64, sample
from ..types import TensorType
from ._accumulate import accumulator
from ._axes import axis_of
from ._math import exp, log
from ._reducers import maximum


@dataclass(frozen=True)
class Normalization(Op):
    """A normalization along ``axis``, or with ``flat`` over ``axis`` and all later axes, as in ONNX before opset 13."""

    normalises_rows = True
    axis: int = -1
    flat: bool = False

    def infer(self, *types: TensorType) -> TensorType:
        (x,) = types
        if not x.is_float or (x.layout and x.layout.is_blocked):
            raise ShapeError("takes float data that is not in blocks")
        axis_of(self.axis, x.rank)
        return x

    def reduced(self, rank: int) -> tuple[int, ...]:
        """The axes of a slice, whose elements are normalized together."""
        axis = axis_of(self.axis, rank)
        return tuple(range(axis, rank)) if self.flat else (axis,)

    def statistic(self, x: TensorType) -> TensorType:
        """The type of a statistic: one number per slice, with the axes of the slice kept with size 1."""
        reduced = self.reduced(x.rank)
        return accumulator(x).with_shape([1 if a in reduced else d for a, d in enumerate(x.shape)])

    def slice(self, k: TensorExpressions, x: Operand) -> tuple[list[Any], Any]:
        """Reduction axes over a slice, and a reader of its elements by the index of the statistic and those axes."""
        reduced = self.reduced(x.type.rank)
        axes = [k.reduce_axis(x.shape[a]) for a in reduced]
        dtype = accumulator(x.type).tvm_dtype

        def read(index: Sequence[Any]) -> Any:
            place = dict(zip(reduced, axes, strict=True))
            return x(*(place.get(a, i) for a, i in enumerate(index))).astype(dtype)

        return axes, read

    def largest(self, k: TensorExpressions, x: Operand) -> Operand:
        """The largest element of each slice."""
        stat = self.statistic(x.type)
        axes, read = self.slice(k, x)
        return k.operand(k.compute(stat, lambda *i: maximum(k, read(i), axes), "largest"), stat)

    def flops(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> int:
        return 5 * inputs[0].numel

    def layouts(self, inputs: Sequence[TensorType], layout: Layout) -> bool:
        return inputs[0].rank == layout.rank and not layout.is_blocked

    @classmethod
    def cases(cls) -> Iterator[Case]:
        yield sample(cls(), f32[2, 3, 7])
        yield sample(cls(1), f32[2, 5, 3, 4], low=-20, high=20)
        yield sample(cls(1, flat=True), f32[2, 3, 4, 2])
        yield sample(cls(-3, flat=True), f32[3, 4, 2])
        yield sample(cls(0), f64[5])
        yield sample(cls(-2), f16[3, 40, 2])


def import_normalization(op: type[Normalization], n: ImportNode) -> Any:
    x = n.input(0)
    if n.opset >= 13:
        return n.emit(op(n.attr("axis", -1)), x)
    axis = axis_of(n.attr("axis", 1), x.type.rank) if x.type.rank > 1 else 0
    later = x.type.shape[axis + 1 :]
    return n.emit(op(axis, flat=any(d != 1 for d in later)), x)


@exports(Normalization)
def _export_normalization(op: Normalization, n: ExportNode) -> None:
    if not op.flat:
        n.node(operator_of(op), n.inputs, n.outputs, axis=op.axis)
        return
    x = n.input_types[0]
    matrix = n.node("Flatten", n.inputs, axis=axis_of(op.axis, x.rank))
    n.reshape(n.node(operator_of(op), [matrix], axis=1), x.sizes, n.outputs)


@onnx_op("Softmax", read=import_normalization)
class Softmax(Normalization):
    """``exp(x - max) / sum(exp(x - max))``; ONNX Softmax-13."""

    name = "softmax"

    def compute(self, k: TensorExpressions, xs: Sequence[Operand], outs: Sequence[TensorType]) -> Any:
        (x,) = xs
        acc, stat = accumulator(x.type), self.statistic(x.type)
        largest = self.largest(k, x)
        powers = k.operand(k.compute(acc, lambda *i: exp(k, x(*i).astype(acc.tvm_dtype) - largest.at(i)), "exp"), acc)
        axes, read = self.slice(k, powers)
        total = k.operand(k.compute(stat, lambda *i: k.te.sum(read(i), axis=axes), "exp_sum"), stat)
        return k.compute(outs[0], lambda *i: (powers(*i) / total.at(i)).astype(outs[0].tvm_dtype), "softmax")


@onnx_op("LogSoftmax", read=import_normalization)
class LogSoftmax(Normalization):
    """``x - max - log(sum(exp(x - max)))``; ONNX LogSoftmax-13."""

    name = "log_softmax"

    def compute(self, k: TensorExpressions, xs: Sequence[Operand], outs: Sequence[TensorType]) -> Any:
        (x,) = xs
        acc, stat = accumulator(x.type), self.statistic(x.type)
        largest = self.largest(k, x)
        axes, read = self.slice(k, x)
        total = k.operand(
            k.compute(stat, lambda *i: k.te.sum(exp(k, read(i) - largest(*i)), axis=axes), "exp_sum"), stat
        )
        logs = k.operand(k.compute(stat, lambda *i: log(k, total(*i)), "log_sum"), stat)

        def element(*i: Any) -> Any:
            return (x(*i).astype(acc.tvm_dtype) - largest.at(i) - logs.at(i)).astype(outs[0].tvm_dtype)

        return k.compute(outs[0], element, "log_softmax")


@onnx_op("Hardmax", read=import_normalization)
class Hardmax(Normalization):
    """1 at the first largest element, else 0; NaN counts as the largest; ONNX Hardmax-13."""

    name = "hardmax"
    rounds = False

    def compute(self, k: TensorExpressions, xs: Sequence[Operand], outs: Sequence[TensorType]) -> Any:
        (x,) = xs
        stat = self.statistic(x.type).with_dtype("i32")
        reduced = self.reduced(x.type.rank)
        sizes = [x.shape[a] for a in reduced]

        def number(position: Sequence[Any]) -> Any:
            """The position of an element in its slice."""
            return sum(p * math.prod(sizes[j + 1 :]) for j, p in enumerate(position))

        largest = self.largest(k, x)
        axes, read = self.slice(k, x)

        def first(*i: Any) -> Any:
            found = k.tirx.any(read(i) == largest(*i), k.tirx.isnan(read(i)))
            return k.te.min(k.select(found, number(axes), k.const(math.prod(sizes), "int32")), axis=axes)

        chosen = k.operand(k.compute(stat, first, "first"), stat)

        def element(*i: Any) -> Any:
            hit = chosen.at(i) == number([i[a] for a in reduced])
            return k.select(hit, k.const(1, outs[0].tvm_dtype), k.const(0, outs[0].tvm_dtype))

        return k.compute(outs[0], element, "hardmax")

    @classmethod
    def cases(cls) -> Iterator[Case]:
        yield sample(cls(), f32[2, 3, 7])
        yield sample(cls(1, flat=True), f32[2, 3, 4, 2])
        yield sample(cls(0, flat=True), f32[4, 5, 2], low=0, high=0)
        yield sample(cls(0), f64[5, 2], oracle="reference", note="ONNX Runtime has Hardmax only for float32")
