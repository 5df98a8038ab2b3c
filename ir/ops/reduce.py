"""Reductions over any axes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from ..dtypes import FLOATS, INTEGERS, dtype_names
from ..errors import ShapeError
from ..layout import Layout
from ..lowering import Operand, TensorExpressions
from ..onnx_io import ExportNode, ImportNode, exports, onnx_op, operator_of
from ..op import Case, Op, boolean, f16, f32, i8, i32, i64, sample
from ..sizes import Dim, largest, typical
from ..types import TensorType
from . import _math
from ._axes import Ints, axes_of
from ._read_axes import is_read, reduced
from ._reducers import WIDER, Reducer, maximum, minimum, product, reduce_over, total


@dataclass(frozen=True)
class Reduce(Op):
    """A reduction ``y = finish(reduce of prepare(x) over axes)``, over all axes where ``axes`` is ``None``, and none
    where it is empty.

    With ``keepdims`` reduced axes stay, with size 1. Narrow floats are accumulated in float32 and rounded once. Over
    no elements the result is the reduction's identity.
    """

    dtypes: ClassVar[tuple[str, ...]] = (*FLOATS, "i32", "i64", "u32", "u64")
    reducer: ClassVar[Reducer]
    finishes: ClassVar[bool] = False
    """Whether ``finish`` changes its argument."""
    axes: Ints | None = None
    keepdims: bool = True

    def prepare(self, k: TensorExpressions, x: Any) -> Any:
        """The term of one element, which is reduced."""
        return x

    def finish(self, k: TensorExpressions, y: Any, count: Dim) -> Any:
        """The result, from the reduction of ``count`` elements."""
        return y

    def accumulator(self, dtype: str) -> str:
        """The dtype of the accumulator."""
        return WIDER.get(dtype, dtype)

    def infer(self, *types: TensorType) -> TensorType:
        (x,) = types
        if x.dtype not in self.dtypes:
            raise ShapeError(f"does not take {dtype_names(x.dtype)}; it takes {dtype_names(*self.dtypes)}")
        axes = self.reduced(x.rank)
        if self.keepdims:
            layout = x.layout if x.layout and self.layouts([x], x.layout) else None
            return TensorType(x.dtype, tuple(1 if a in axes else d for a, d in enumerate(x.shape)), layout)
        return TensorType(x.dtype, tuple(d for a, d in enumerate(x.shape) if a not in axes))

    def reduced(self, rank: int) -> Ints:
        """The axes to reduce over, counted from the front."""
        return tuple(range(rank)) if self.axes is None else axes_of(self.axes, rank)

    def compute(self, k: TensorExpressions, xs: Sequence[Operand], outs: Sequence[TensorType]) -> Any:
        (x,), (out,) = xs, outs
        axes = self.reduced(x.type.rank)
        count = math.prod(x.shape[a] for a in axes)
        wide = out.with_dtype(self.accumulator(out.dtype))
        if type(self).reducer is total:
            wide = _for_sums(wide, count)
        reduced = reduce_over(
            k, x.shape, axes, wide, type(self).reducer, lambda *i: self.prepare(k, x(*i).astype(wide.tvm_dtype))
        )
        if not self.finishes and wide == out:
            return reduced.tensor

        def element(*i: Any) -> Any:
            return self.finish(k, reduced(*i), count).astype(out.tvm_dtype)

        return k.compute(out, element, self.name, mask=True)

    def flops(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> int:
        return inputs[0].numel

    def layouts(self, inputs: Sequence[TensorType], layout: Layout) -> bool:
        x = inputs[0]
        return self.keepdims and x.rank == layout.rank and all(layout.block(a) == 1 for a in self.reduced(x.rank))

    def reads_any_layout(self) -> bool:
        return not self.keepdims

    @classmethod
    def cases(cls) -> Iterator[Case]:
        low = 0.1 if cls.name.startswith("reduce_log") else -2.0
        yield sample(cls((2, 3)), f32[2, 5, 3, 4], low=low)
        yield sample(cls((0, -1), keepdims=False), f32[3, 4, 5], low=low)
        yield sample(cls(), f32[2, 3, 2], low=low)
        yield sample(cls((1,), keepdims=False), f16[3, 70], low=low)


def import_reduce(op: type[Reduce], n: ImportNode) -> Any:
    if n.attr("axes") is None and is_read(n, 1) and (op is not ReduceMean or n.input(0).type.is_float):
        return reduced(n, 1, lambda count: _one_by_one(op, count), bool(n.attr("keepdims", 1)))
    x, axes = n.input(0), n.ints_from("axes", 1)
    given = axes_of(axes or (), x.type.rank) or None
    axes = () if given is None and n.attr("noop_with_empty_axes", 0) else given
    return n.emit(op(axes, bool(n.attr("keepdims", 1))), x)


def _one_by_one(op: type[Reduce], count: int) -> list[Op]:
    """The ops that reduce over ``count`` axes one after the other, each over axis 1."""
    first = last = op
    if count > 1 and op is ReduceLogSum:
        first = ReduceSum
    elif count > 1 and op is ReduceSumSquare:
        last = ReduceSum
    between = ReduceSum if op in (ReduceLogSum, ReduceSumSquare) else op
    return [kind((1,), True) for kind in (first, *[between] * (count - 2), last)[-count:]]


@exports(Reduce)
def _export_reduce(op: Reduce, n: ExportNode) -> None:
    inputs = n.inputs if op.axes is None else [n.inputs[0], n.ints(op.axes)]
    n.node(operator_of(op), inputs, n.outputs, keepdims=op.keepdims, noop_with_empty_axes=op.axes == () or None)


LONG = 4096
"""Sums of more float32 numbers are accumulated in float64: one running sum loses a digit for each tenfold length, and
stops growing at 2**24 ones.
"""


OPEN_LONG = LONG // 16
"""Sums of more numbers than this are long where their number is open, and this many is typical."""


def _for_sums(wide: TensorType, count: Dim) -> TensorType:
    """The type that a sum of ``count`` numbers of a type is computed in."""
    is_long = count > LONG if isinstance(count, int) else typical(count) > OPEN_LONG
    return wide.with_dtype("f64") if wide.dtype == "f32" and is_long else wide


@onnx_op("ReduceSum", read=import_reduce, folds=True)
class ReduceSum(Reduce):
    """The sum of elements; ONNX ReduceSum-13."""

    name = "reduce_sum"
    needs_range = True
    reducer = total

    @classmethod
    def cases(cls) -> Iterator[Case]:
        yield from super().cases()
        yield sample(cls(()), f32[2, 3])
        yield sample(cls((0,)), i64[3, 2])
        yield sample(cls(), f32[()])
        yield sample(cls((1,)), f32[2, 0, 3])
        yield sample(cls((0, 1), keepdims=False), f32[0, 3])


@onnx_op("ReduceMean", read=import_reduce)
class ReduceMean(Reduce):
    """The mean of elements, truncated toward zero for integers; ONNX ReduceMean-18."""

    name = "reduce_mean"
    reducer = total
    finishes = True

    def finish(self, k: TensorExpressions, y: Any, count: Dim) -> Any:
        if k.dtype(y).startswith(("int", "uint")):
            return k.tirx.truncdiv(y, k.like(largest(count, 1), y))
        return y / k.like(count, y) if count != 0 else k.like(math.nan, y)

    @classmethod
    def cases(cls) -> Iterator[Case]:
        yield from super().cases()
        yield sample(cls((0,)), i32[3, 4], low=-9, high=9)


@onnx_op("ReduceProd", read=import_reduce, folds=True)
class ReduceProd(Reduce):
    """The product of elements; ONNX ReduceProd-18."""

    name = "reduce_prod"
    needs_range = True
    reducer = product


@onnx_op("ReduceMax", read=import_reduce, folds=True)
class ReduceMax(Reduce):
    """The maximum of elements, NaN where any element is NaN; ONNX ReduceMax-20."""

    name = "reduce_max"
    rounds = False
    reducer = maximum
    dtypes = (*FLOATS, *INTEGERS, "bool")

    @classmethod
    def cases(cls) -> Iterator[Case]:
        yield from super().cases()
        yield sample(cls((1,)), i8[2, 20], low=-100, high=100)
        yield sample(cls((1,)), boolean[4, 2])
        yield sample(cls((1,)), boolean[4, 0], oracle="reference", note="ONNX Runtime refuses bool here")
        yield sample(cls((0,)), f32[0, 3])


@onnx_op("ReduceMin", read=import_reduce, folds=True)
class ReduceMin(Reduce):
    """The minimum of elements, NaN where any element is NaN; ONNX ReduceMin-20."""

    name = "reduce_min"
    rounds = False
    reducer = minimum
    dtypes = (*FLOATS, *INTEGERS, "bool")

    @classmethod
    def cases(cls) -> Iterator[Case]:
        yield from super().cases()
        yield sample(cls((0,), keepdims=False), i32[7, 3])
        yield sample(cls((1,)), boolean[4, 0], oracle="reference", note="ONNX Runtime refuses bool here")


@onnx_op("ReduceL1", read=import_reduce)
class ReduceL1(Reduce):
    """The sum of absolute values; ONNX ReduceL1-18."""

    name = "reduce_l1"
    needs_range = True
    reducer = total

    def prepare(self, k: TensorExpressions, x: Any) -> Any:
        return x if k.dtype(x).startswith("uint") else k.tirx.abs(x)


@onnx_op("ReduceSumSquare", read=import_reduce)
class ReduceSumSquare(Reduce):
    """The sum of squares; ONNX ReduceSumSquare-18."""

    name = "reduce_sum_square"
    needs_range = True
    reducer = total

    def prepare(self, k: TensorExpressions, x: Any) -> Any:
        return x * x

    @classmethod
    def cases(cls) -> Iterator[Case]:
        yield from super().cases()
        yield sample(cls(()), f32[2, 3])


class _InFloats(Reduce):
    """A reduction with real results: integers are reduced in float64, and the result is truncated."""

    finishes = True

    def accumulator(self, dtype: str) -> str:
        return "f64" if dtype in INTEGERS else WIDER.get(dtype, dtype)


@onnx_op("ReduceL2", read=import_reduce)
class ReduceL2(_InFloats):
    """The square root of the sum of squares; ONNX ReduceL2-18."""

    name = "reduce_l2"
    needs_range = True
    reducer = total

    def prepare(self, k: TensorExpressions, x: Any) -> Any:
        return x * x

    def finish(self, k: TensorExpressions, y: Any, count: Dim) -> Any:
        return k.tirx.sqrt(y)


@onnx_op("ReduceLogSum", read=import_reduce)
class ReduceLogSum(_InFloats):
    """The logarithm of the sum; ONNX ReduceLogSum-18."""

    name = "reduce_log_sum"
    needs_range = True
    reducer = total

    def finish(self, k: TensorExpressions, y: Any, count: Dim) -> Any:
        return _math.log(k, y)


@onnx_op("ReduceLogSumExp", read=import_reduce)
class ReduceLogSumExp(_InFloats):
    """``log(sum(exp(x)))``, computed from ``x - max(x)`` so that nothing overflows; ONNX ReduceLogSumExp-18."""

    name = "reduce_log_sum_exp"
    needs_range = True

    def compute(self, k: TensorExpressions, xs: Sequence[Operand], outs: Sequence[TensorType]) -> Any:
        (x,), (out,) = xs, outs
        axes = self.reduced(x.type.rank)
        wide = out.with_dtype(self.accumulator(out.dtype))
        kept = x.type.with_shape([1 if a in axes else d for a, d in enumerate(x.shape)]).with_dtype(wide.dtype)
        kept = kept if kept.rank == out.rank else kept.with_layout(None)

        def read(*i: Any) -> Any:
            return x(*i).astype(wide.tvm_dtype)

        largest = reduce_over(k, x.shape, axes, kept, maximum, read)

        def finite(*i: Any) -> Any:  # infinity - infinity would be NaN
            m = largest(*i)
            return k.select(k.tirx.abs(m) < k.like(math.inf, m), m, k.like(0, m))

        shift = k.operand(k.compute(kept, finite, "shift", mask=True), kept)
        sums = _for_sums(wide, math.prod(x.shape[a] for a in axes))

        def exp(*i: Any) -> Any:
            return _math.exp(k, read(*i) - shift.at(i)).astype(sums.tvm_dtype)

        exps = reduce_over(k, x.shape, axes, sums, total, exp)

        def element(*i: Any) -> Any:
            rest = iter(i)
            at = i if out.rank == kept.rank else [0 if a in axes else next(rest) for a in range(kept.rank)]
            return (_math.log(k, exps(*i).astype(wide.tvm_dtype)) + shift(*at)).astype(out.tvm_dtype)

        return k.compute(out, element, self.name, mask=True)

    @classmethod
    def cases(cls) -> Iterator[Case]:
        yield sample(cls((2, 3)), f32[2, 5, 3, 4])
        yield sample(cls((0, -1), keepdims=False), f32[3, 4, 5], low=-200, high=200)
        yield sample(cls(), f32[2, 3, 2])
        yield sample(cls((1,), keepdims=False), f16[3, 70])
