"""Repetition of a tensor: Expand, Tile, ConstantOfShape; and the import of Range."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..dtypes import dtype_of
from ..errors import ShapeError
from ..lowering import Operand, TensorExpressions
from ..onnx_io import ExportNode, ImportNode, exports, imports
from ..op import Case, Op, boolean, f16, f32, i64, sample
from ..sizes import Sizes, largest
from ..types import TensorType, broadcast
from ._read_axes import expanded, is_read
from .binary import Add, Div, Max, Mul, Sub
from .cast import Cast
from .known_sizes import Range
from .reshape import Reshape
from .unary import Ceil


@dataclass(frozen=True)
class Expand(Op):
    """The operand broadcast with ``shape`` by numpy's rule; ONNX Expand-13.

    ONNX ConstantOfShape becomes this op on a constant.
    """

    name = "expand"
    rounds = False
    elementwise = True
    injective = True
    shape: Sizes = ()

    def infer(self, *types: TensorType) -> TensorType:
        (x,) = types
        return TensorType(x.dtype, broadcast(x.shape, self.shape))

    def compute(self, k: TensorExpressions, xs: Sequence[Operand], outs: Sequence[TensorType]) -> Any:
        return k.compute(outs[0], lambda *i: xs[0].at(i), "expand")

    @classmethod
    def cases(cls) -> Iterator[Case]:
        yield sample(cls((2, 3, 4)), f32[3, 1])
        yield sample(cls((1, 4)), i64[2, 3, 1])
        yield sample(cls((2, 2)), boolean[()])
        yield sample(cls(()), f16[2, 1])


@imports("Expand", "ConstantOfShape", folds=True)
def _import_expand(n: ImportNode) -> Any:
    fills = n.op_type == "ConstantOfShape"
    if not fills and is_read(n, 1) and n.builder.known_sizes(n.input(1)) is None:
        return n.emit(Expand(expanded(n, 1)), n.input(0))
    shape = n.sizes(0 if fills else 1, "shape")
    if shape is None:
        raise n.error("its shape is missing")
    if not fills:
        return n.emit(Expand(shape), n.input(0))
    value = n.attr("value", np.zeros(1, np.float32))
    number = np.asarray(value).reshape(-1)[0].item()
    if not all(isinstance(d, int) for d in shape) and np.isfinite(number):
        return n.filled(shape, number, dtype_of(np.asarray(value)))
    return n.emit(Expand(shape), n.constant(np.asarray(value).reshape(()), "value"))


@exports(Expand)
def _export_expand(op: Expand, n: ExportNode) -> None:
    n.node("Expand", [n.inputs[0], n.ints(op.shape)], n.outputs)


@dataclass(frozen=True)
class Tile(Op):
    """The operand repeated ``repeats[a]`` times along each axis ``a``; ONNX Tile-13."""

    name = "tile"
    rounds = False
    injective = True
    repeats: Sizes = ()

    def infer(self, *types: TensorType) -> TensorType:
        (x,) = types
        if len(self.repeats) != x.rank or any(r < 0 for r in self.repeats):
            raise ShapeError(f"repeats {list(self.repeats)} must be {x.rank} numbers, none negative")
        return TensorType(x.dtype, tuple(d * r for d, r in zip(x.shape, self.repeats, strict=True)))

    def compute(self, k: TensorExpressions, xs: Sequence[Operand], outs: Sequence[TensorType]) -> Any:
        (x,) = xs
        return k.compute(outs[0], lambda *i: x(*(j % d for j, d in zip(i, x.shape, strict=True))), "tile")

    @classmethod
    def cases(cls) -> Iterator[Case]:
        yield sample(cls((1, 2, 3)), f32[2, 3, 4])
        yield sample(cls((2,)), i64[5])
        yield sample(cls((3, 1)), boolean[1, 4])
        yield sample(cls((0, 2)), f32[3, 4])


@imports("Tile", folds=True)
def _import_tile(n: ImportNode) -> Any:
    repeats = n.sizes(1, "repeats")
    if repeats is None:
        raise n.error("its repeats are missing")
    return n.emit(Tile(repeats), n.input(0))


@exports(Tile)
def _export_tile(op: Tile, n: ExportNode) -> None:
    n.node("Tile", [n.inputs[0], n.ints(op.repeats)], n.outputs)


@imports("Range", folds=True)
def _import_range(n: ImportNode) -> Any:
    """Import a Range of sizes or of data, and refuse others that the importer could not evaluate; ONNX Range-11."""
    names = ("start", "limit", "delta")
    if any(v is not None and n.builder.constant_of(v) is None for v in n.inputs) and not n.input(0).type.is_float:
        (first,), (end,), (step,) = (n.sizes(i, what) or () for i, what in enumerate(names))
        if isinstance(step, int) and step:
            count = largest(0, -((first - end) // step) if step > 0 else -((end - first) // -step))
            return n.emit(Range(count, first, step, n.input(0).type.dtype))
    if all(v is not None and v.type.numel == 1 for v in n.inputs) and any(n.is_data(v) for v in n.present_inputs()):
        return _range_of_data(n)
    start, limit, delta = (n.const(i, what) for i, what in enumerate(names))
    if start is None or limit is None or delta is None:
        raise n.error("its bounds are missing")
    if not start.size == limit.size == delta.size == 1:
        raise n.error("start, limit and delta must be one number each")
    what = f"a range from {start.item()} to {limit.item()} in steps of {delta.item()}"
    if not delta.item():
        raise n.error(f"{what} has no end")
    if not np.isfinite(np.array([start.item(), limit.item(), delta.item()], np.float64)).all():
        raise n.error(f"{what} has no number of elements")
    raise n.unsupported(f"{what} has more elements than convc computes while it reads a model")


def _range_of_data(n: ImportNode) -> Any:
    """A range whose bounds are computed at run time: their number is read, and the elements follow from it."""
    start, limit, delta = (n.emit(Reshape(()), v) for v in n.present_inputs())
    dtype = start.type.dtype
    first, end, step = (n.emit(Cast("f64"), v) for v in (start, limit, delta))
    steps = n.emit(Ceil(), n.emit(Div(), n.emit(Sub(), end, first), step))
    count = n.emit(Cast("i64"), n.emit(Max(), steps, n.constant(np.array(0.0), "none")))
    (size,) = n.builder.read_sizes(count)
    wide = "f64" if start.type.is_float else "i64"
    at = n.emit(Cast(wide), n.emit(Range(size)))
    made = n.emit(Add(), n.emit(Mul(), at, n.emit(Cast(wide), delta)), n.emit(Cast(wide), start))
    return n.emit(Cast(dtype), made)
