"""The index of the largest or smallest element."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ..dtypes import FLOATS, INTEGERS, dtype_names
from ..errors import ShapeError
from ..lowering import Operand, TensorExpressions
from ..onnx_io import ImportNode, onnx_op
from ..op import Case, Op, f16, f32, i8, i64, sample
from ..types import TensorType
from ._axes import axis_of
from ._reducers import Reducer, maximum, minimum, reduce_over


@dataclass(frozen=True)
class ArgExtreme(Op):
    """The index along ``axis``, as int64, of the extreme element: the first of equal ones, or the last.

    NaN counts as more extreme than any number, as in numpy.
    """

    reducer: ClassVar[Reducer]
    axis: int = 0
    keepdims: bool = True
    select_last_index: bool = False

    def infer(self, *types: TensorType) -> TensorType:
        (x,) = types
        axis = axis_of(self.axis, x.rank)
        if x.dtype not in FLOATS + INTEGERS:
            raise ShapeError(f"does not take {dtype_names(x.dtype)}; it takes numbers")
        if x.shape[axis] == 0:
            raise ShapeError(f"axis {axis} of {x} has no elements to choose from")
        return TensorType("i64", (*x.shape[:axis], *((1,) if self.keepdims else ()), *x.shape[axis + 1 :]))

    def compute(self, k: TensorExpressions, xs: Sequence[Operand], outs: Sequence[TensorType]) -> Any:
        (x,), (out,) = xs, outs
        axis = axis_of(self.axis, x.type.rank)
        kept = TensorType(x.type.dtype, (*x.shape[:axis], 1, *x.shape[axis + 1 :]))
        extreme = reduce_over(k, x.shape, [axis], kept, type(self).reducer, x)
        never = k.const(-1 if self.select_last_index else x.shape[axis], "int64")

        def position(*i: Any) -> Any:
            hit = x(*i) == extreme.at(i)
            if x.type.is_float:
                hit = k.tirx.any(hit, k.tirx.isnan(x(*i)))
            return k.select(hit, i[axis].astype("int64"), never)

        return reduce_over(k, x.shape, [axis], out, maximum if self.select_last_index else minimum, position).tensor

    def flops(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> int:
        return 2 * inputs[0].numel

    @classmethod
    def cases(cls) -> Iterator[Case]:
        yield sample(cls(1), f32[2, 21, 3, 4])
        yield sample(cls(-1, keepdims=False), f32[3, 7])
        yield sample(cls(0, select_last_index=True), np.array([[1, 3, 3], [1, 3, 0], [0, 3, 3]], np.float32))
        yield sample(cls(0), np.array([[1, 3, 3], [1, 3, 0], [0, 3, 3]], np.int32))
        yield sample(cls(1), i8[2, 9])
        yield sample(cls(0, keepdims=False), f16[5])
        yield sample(cls(2), i64[2, 1, 5])
        nan = np.array([[1, np.nan, 3], [4, 5, 6]], np.float32)
        yield sample(cls(1), nan, oracle="reference", note="ONNX Runtime passes over NaN; numpy finds it")


def import_arg_extreme(op: type[ArgExtreme], n: ImportNode) -> Any:
    flags = bool(n.attr("keepdims", 1)), bool(n.attr("select_last_index", 0))
    return n.emit(op(n.attr("axis", 0), *flags), n.input(0))


@onnx_op("ArgMax", read=import_arg_extreme)
class ArgMax(ArgExtreme):
    """The index of the largest element; ONNX ArgMax-13."""

    name = "arg_max"
    reducer = maximum


@onnx_op("ArgMin", read=import_arg_extreme)
class ArgMin(ArgExtreme):
    """The index of the smallest element; ONNX ArgMin-13."""

    name = "arg_min"
    reducer = minimum
