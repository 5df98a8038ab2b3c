"""Running sums and products."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ..dtypes import FLOATS, dtype_names
from ..errors import ShapeError
from ..loops import Memory, loop, loop_nest, when
from ..lowering import Operand, TensorExpressions
from ..onnx_io import ExportNode, ImportNode, exports, onnx_op, operator_of
from ..op import Case, Op, f16, f32, f64, i32, sample
from ..sizes import product
from ..types import TensorType
from ._accumulate import accumulator
from ._axes import axis_of
from ._read_axes import along_axis, is_read
from ._rows import place, row_of


@dataclass(frozen=True)
class Cumulative(Op):
    """A running total ``y[i]`` of ``x[0]`` to ``x[i]`` along ``axis``.

    ``exclusive`` leaves ``x[i]`` out; ``reverse`` begins at the end. Narrow floats are accumulated in float32.
    """

    needs_range = True
    operation: ClassVar[str]
    """How totals and elements are combined: ``add`` or ``mul``."""
    start: ClassVar[int]
    """The total of no elements."""
    axis: int = 0
    exclusive: bool = False
    reverse: bool = False

    def infer(self, *types: TensorType) -> TensorType:
        (x,) = types
        axis_of(self.axis, x.rank)
        if x.dtype not in (*FLOATS, "i32", "i64", "u32", "u64"):
            raise ShapeError(f"does not take {dtype_names(x.dtype)}")
        return TensorType(x.dtype, x.shape)

    def compute(self, k: TensorExpressions, xs: Sequence[Operand], outs: Sequence[TensorType]) -> Any:
        (x,), (out,) = xs, outs
        axis = axis_of(self.axis, out.rank)
        wide = accumulator(out)
        sizes, length = out.shape, out.shape[axis]
        table = wide.with_shape((product(sizes[:axis]) * product(sizes[axis + 1 :]), length))

        def given(row: Any, i: Any) -> Any:
            return x(*place(sizes, axis, row, length - 1 - i if self.reverse else i)).astype(wide.tvm_dtype)

        def body(ins: Sequence[Memory], results: Sequence[Memory]) -> Any:
            (x,), (y,) = ins, results

            def element(row: Any, i: Any) -> Any:
                first = k.const(self.start, wide.tvm_dtype) if self.exclusive else x(row, i)
                later = k.wrapping(self.operation, y(row, i - 1), x(row, i - 1 if self.exclusive else i))
                return when(k, i == 0, y.store(first, row, i), y.store(later, row, i))

            return loop(k, table.shape[0], lambda row: loop(k, length, lambda i: element(row, i)), parallel=True)

        made = loop_nest(k, [table], [k.operand(k.compute(table, given, "given"), table)], body, self.name)[0]

        def found(*index: Any) -> Any:
            row, i = row_of(sizes, axis, index)
            return made(row, length - 1 - i if self.reverse else i).astype(out.tvm_dtype)

        return k.compute(out, found, self.name)

    def flops(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> int:
        return inputs[0].numel


def import_cumulative(op: type[Cumulative], n: ImportNode) -> Any:
    flags = bool(n.attr("exclusive", 0)), bool(n.attr("reverse", 0))
    if is_read(n, 1):
        return along_axis(n, 1, op(1, *flags))
    axis = n.ints(1, "axis")
    if axis is None or len(axis) != 1:
        raise n.error("its axis must be one number")
    return n.emit(op(axis[0], *flags), n.input(0))


@exports(Cumulative)
def _export_cumulative(op: Cumulative, n: ExportNode) -> None:
    axis = n.constant(np.array(op.axis, np.int64), "axis")
    n.node(operator_of(op), [n.inputs[0], axis], n.outputs, exclusive=op.exclusive, reverse=op.reverse)


@onnx_op("CumSum", read=import_cumulative, folds=True)
class CumSum(Cumulative):
    """``y[i] = x[0] + ... + x[i]``; ONNX CumSum-14."""

    name = "cum_sum"
    operation = "add"
    start = 0

    @classmethod
    def cases(cls) -> Iterator[Case]:
        yield sample(cls(1), f32[2, 5, 3])
        yield sample(cls(-1, exclusive=True), f64[3, 4])
        yield sample(cls(0, reverse=True), i32[6])
        yield sample(cls(0, exclusive=True, reverse=True), f32[4, 1])
        yield sample(cls(0), f16[9])


@onnx_op("CumProd", read=import_cumulative)
class CumProd(Cumulative):
    """``y[i] = x[0] * ... * x[i]``; ONNX CumProd-26."""

    name = "cum_prod"
    operation = "mul"
    start = 1

    @classmethod
    def cases(cls) -> Iterator[Case]:
        new = {"oracle": "reference", "note": "ONNX Runtime has no CumProd"}
        yield sample(cls(1), f32[2, 5, 3], **new)
        yield sample(cls(-1, exclusive=True), f64[3, 4], **new)
        yield sample(cls(0, reverse=True), i32[6], **new)
        yield sample(cls(0, exclusive=True, reverse=True), f32[4, 1], **new)
