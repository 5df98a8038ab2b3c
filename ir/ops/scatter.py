"""Scatter: elements or slices are written at given indices of a copy."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..dtypes import FLOATS, INTEGERS, dtype_names
from ..errors import ShapeError, plural
from ..loops import Memory, block, loop, loop_nest
from ..lowering import Operand, TensorExpressions
from ..onnx_io import ImportNode, imports, onnx_op
from ..op import Case, Op, boolean, f32, i64, sample
from ..sizes import Dim, product, same
from ..types import TensorType
from ._axes import axis_of, check_asked, check_index, data_index, size_of
from ._math import maximum, minimum

REDUCTIONS: dict[str, Callable[[TensorExpressions, Any, Any], Any]] = {
    "none": lambda k, old, new: new,
    "add": lambda k, old, new: old + new,
    "mul": lambda k, old, new: old * new,
    "min": minimum,
    "max": maximum,
}
"""The reductions of the element in a place and the one that is written there, by ONNX's names."""


@dataclass(frozen=True)
class _Scatter(Op):
    """The base class of both scatters, with operands data, indices, updates.

    With reduction ``none`` the indices must be distinct.
    """

    reduction: str = "none"

    def check(self, x: TensorType, indices: TensorType, updates: TensorType) -> None:
        """Raises ``ShapeError`` unless the dtypes and the reduction fit."""
        check_index(indices)
        if x.dtype != updates.dtype:
            raise ShapeError(f"data is {dtype_names(x.dtype)}, the updates {dtype_names(updates.dtype)}")
        if self.reduction not in REDUCTIONS:
            raise ShapeError(f"unknown reduction {self.reduction!r}")
        if self.reduction != "none" and x.dtype not in FLOATS + INTEGERS:
            raise ShapeError(f"reduction {self.reduction!r} does not take {dtype_names(x.dtype)}")

    def place(self, k: TensorExpressions, x: Operand, indices: Operand, i: Sequence[Any]) -> Sequence[Any]:
        """The index in the data at which the update at index ``i`` is written."""
        raise NotImplementedError(self.name)

    def compute(self, k: TensorExpressions, xs: Sequence[Operand], outs: Sequence[TensorType]) -> Any:
        x, indices, updates = xs
        if x.type.is_empty or updates.type.is_empty:
            return k.compute(outs[0], lambda *i: x(*i))
        offsets = TensorType("i32", (product(updates.shape),))

        def offset(u: Any) -> Any:
            at = self.place(k, x, indices, _unravel(u, updates.shape))
            return _ravel([i.astype(offsets.tvm_dtype) for i in at], x.shape)

        reduced, count = REDUCTIONS[self.reduction], product(updates.shape)

        def body(ins: Sequence[Memory], results: Sequence[Memory]) -> Any:
            (data, places, new), (y,) = ins, results

            def write(u: Any) -> Any:
                return y.store(reduced(k, y(places(u)), new(u)), places(u))

            # a loop of one iteration that counts as parallel tells GPUs where a kernel begins
            writes = loop(k, 1, lambda _: loop(k, count, write), parallel=True)
            return block(k, loop(k, product(x.shape), lambda e: y.store(data(e), e), parallel=True), writes)

        given, written = (TensorType(x.type.dtype, (product(t.shape),)) for t in (x, updates))
        operands = [
            k.operand(k.compute(given, lambda e: x(*_unravel(e, x.shape))), given),
            k.operand(k.compute(offsets, offset), offsets),
            k.operand(k.compute(written, lambda u: updates(*_unravel(u, updates.shape))), written),
        ]
        flat = loop_nest(k, [given], operands, body, self.name)[0]
        return k.compute(outs[0], lambda *i: flat(_ravel(i, x.shape)))


@onnx_op("ScatterElements")
@dataclass(frozen=True)
class ScatterElements(_Scatter):
    """``y = x``, then ``y[i] <- updates[i]`` at every ``i`` with ``i[axis]`` replaced by ``indices[i]``; ONNX
    ScatterElements-18.

    Indices are int32 or int64, of the shape of the updates; negative ones count from the end.
    """

    name = "scatter_elements"
    axis: int = 0

    def infer(self, *types: TensorType) -> TensorType:
        x, indices, updates = types
        self.check(*types)
        axis = axis_of(self.axis, x.rank)
        if indices.rank != x.rank or not all(map(same, indices.shape, updates.shape)):
            raise ShapeError("indices and updates must have one shape, of the data's rank")
        sizes = zip(indices.shape, x.shape, strict=True)
        if any(a != axis and i > d for a, (i, d) in enumerate(sizes)):
            raise ShapeError(f"indices {indices} reach beyond the data {x}")
        check_asked(x, axis, indices)
        return x

    def place(self, k: TensorExpressions, x: Operand, indices: Operand, i: Sequence[Any]) -> Sequence[Any]:
        axis = axis_of(self.axis, x.type.rank)
        return (*i[:axis], data_index(k, indices(*i), x.shape[axis]), *i[axis + 1 :])

    @classmethod
    def cases(cls) -> Iterator[Case]:
        rows = np.array([[1, -2, 0], [2, 0, 1]])
        yield sample(cls(), f32[3, 4], rows, f32[2, 3])
        yield sample(cls(axis=-1), i64[2, 4], np.array([[3], [-4]], np.int32), i64[2, 1])
        yield sample(cls(axis=1), boolean[2, 4, 2], np.array([[[3], [0]], [[1], [2]]]), boolean[2, 2, 1])
        for reduction in list(REDUCTIONS)[1:]:
            yield sample(cls(reduction), f32[3, 3], np.array([[1, 1, 0], [1, 0, 0]]), f32[2, 3])


@imports("Scatter")
@imports("ScatterElements", folds=True)
def _import_scatter_elements(n: ImportNode) -> Any:
    return n.emit(ScatterElements(_reduction(n), n.attr("axis", 0)), *n.present_inputs())


@onnx_op("ScatterND")
class ScatterND(_Scatter):
    """``y = x``, then ``y[*indices[i]] <- updates[i]`` at every ``i``; ONNX ScatterND-18.

    The last axis of the indices, int64, holds tuples of positions on the first axes; axes beyond the length of the
    tuple are written whole.
    """

    name = "scatter_nd"

    def infer(self, *types: TensorType) -> TensorType:
        x, indices, updates = types
        self.check(*types)
        depth = size_of(indices, indices.rank - 1) if indices.rank else 0
        if not 1 <= depth <= x.rank:
            raise ShapeError(f"index tuples of {depth} do not fit the {plural(x.rank, 'axis', 'axes')} of the data")
        for axis in range(depth):
            check_asked(x, axis, indices)
        shape = (*indices.shape[:-1], *x.shape[depth:])
        if updates.rank != len(shape) or not all(map(same, updates.shape, shape)):
            raise ShapeError(f"the updates have shape {list(updates.shape)}, not {list(shape)}")
        return x

    def place(self, k: TensorExpressions, x: Operand, indices: Operand, i: Sequence[Any]) -> Sequence[Any]:
        tuples, depth = indices.type.rank - 1, indices.shape[-1]
        at = [data_index(k, indices(*i[:tuples], j), x.shape[j]) for j in range(depth)]
        return (*at, *i[tuples:])

    @classmethod
    def cases(cls) -> Iterator[Case]:
        yield sample(cls(), f32[4, 3], np.array([[2], [-4]]), f32[2, 3])
        yield sample(cls(), i64[2, 3, 2], np.array([[[1, 2], [0, 0]]]), i64[1, 2, 2])
        yield sample(cls(), boolean[5], np.array([[4], [0]]), boolean[2])
        yield sample(cls(), f32[2, 2], np.array([[0, 0], [1, 1]]), f32[2])  # two offsets fill half a register
        for reduction in list(REDUCTIONS)[1:]:
            yield sample(cls(reduction), f32[2, 2], np.array([[1, 1], [0, 1], [1, 1]]), f32[3])


@imports("ScatterND", folds=True)
def _import_scatter_nd(n: ImportNode) -> Any:
    return n.emit(ScatterND(_reduction(n)), *n.present_inputs())


def _reduction(n: ImportNode) -> str:
    """The reduction that an ONNX node names."""
    reduction = n.attr("reduction", "none")
    if reduction not in REDUCTIONS:
        raise n.error(f"unknown reduction {reduction!r}")
    return str(reduction)


def _ravel(index: Sequence[Any], shape: Sequence[Dim]) -> Any:
    """The row-major offset of an index."""
    total: Any = 0
    for i, size in zip(index, shape, strict=True):
        total = total * size + i
    return total


def _unravel(offset: Any, shape: Sequence[Dim]) -> list[Any]:
    """The index at a row-major offset."""
    return [offset // product(shape[d + 1 :]) % size for d, size in enumerate(shape)]
