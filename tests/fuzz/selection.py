"""Random ops that select by indices, sort, compare, and compute with integers."""

from __future__ import annotations

import math

import numpy as np

from convc.ir.graph import Value
from convc.ir.ops import logical as b
from convc.ir.ops.binary import Add, Div, Max, Min, Mod, Mul, Sub
from convc.ir.ops.cast import Cast
from convc.ir.ops.gather_elements import GatherElements
from convc.ir.ops.gather_nd import GatherND
from convc.ir.ops.one_hot import OneHot
from convc.ir.ops.scatter import ScatterElements, ScatterND
from convc.ir.ops.softmax import Hardmax
from convc.ir.ops.top_k import TopK
from convc.ir.ops.trilu import Trilu

from .draw import Draw
from .movement import anything

INTEGERS = ("i32", "i64", "i8", "u8")


def top_k(d: Draw) -> Value:
    """A TopK, with its values and its indices."""
    x = d.value(lambda v: v.type.dtype in ("f32", "i32", "i64") and v.type.rank > 0, exact=True)
    axis = d.whole(0, x.type.rank - 1)
    return d.emit(TopK(d.whole(1, x.type.sizes[axis]), axis, d.chance(0.6)), x, exact=True)


def hardmax(d: Draw) -> Value:
    x = d.floats(exact=True)
    return d.emit(Hardmax(d.whole(-x.type.rank, x.type.rank - 1)), x, exact=True)


def gather_by_element(d: Draw) -> Value:
    """A GatherElements whose indices have any shape that exceeds the data's only along the axis."""
    x = anything(d, 1, 4)
    axis = d.whole(0, x.type.rank - 1)
    shape = [s if d.chance(0.6) else d.whole(1, s) for s in x.type.sizes]
    shape[axis] = d.whole(1, 7)
    return d.emit(GatherElements(axis), x, d.array(_indices(d, shape, x.type.sizes[axis]), np.int64), exact=True)


def gather_tuples(d: Draw) -> Value:
    x = anything(d, 1, 5)
    batch = d.whole(0, min(1, x.type.rank - 1))
    depth = d.whole(1, x.type.rank - batch)
    shape = [*x.type.sizes[:batch], *d.pick([(), (1,), (3,), (2, 4)])]
    parts = [_indices(d, shape, size) for size in x.type.sizes[batch : batch + depth]]
    return d.emit(GatherND(batch), x, d.array(np.stack(parts, -1), np.int64), exact=True)


def scatter(d: Draw) -> Value:
    """A scatter of elements or of whole slices. Where updates are combined, an element may be updated several times."""
    reduction = d.pick(("none", "none", "add", "mul", "max", "min"))
    x = d.floats(1, 4, finite=reduction in ("max", "min"))  # ONNX Runtime's may lose a NaN
    if d.chance(0.5):
        axis = d.whole(0, x.type.rank - 1)
        shape = [d.whole(1, s) for s in x.type.sizes]
        indices = _indices(d, shape, x.type.sizes[axis])
        if reduction == "none":
            order = np.array(d.permuted(x.type.sizes[axis]))[: shape[axis]]
            indices = np.broadcast_to(order.reshape([-1 if a == axis else 1 for a in range(len(shape))]), shape)
        updates = d.uniform(shape, 1.0, x.type.dtype)
        return d.emit(ScatterElements(reduction, axis), x, d.array(indices, np.int64), updates)
    depth = d.whole(1, x.type.rank)
    places = math.prod(x.type.sizes[:depth])
    count = d.whole(1, min(places, 6))
    flat = d.rng.sample(range(places), count) if reduction == "none" else [d.whole(0, places - 1) for _ in range(count)]
    indices = np.stack(np.unravel_index(flat, x.type.sizes[:depth]), -1)
    updates = d.uniform((count, *x.type.sizes[depth:]), 1.0, x.type.dtype)
    return d.emit(ScatterND(reduction), x, d.array(indices, np.int64), updates)


def triangle(d: Draw) -> Value:
    x = d.floats(2, 4)
    return d.emit(Trilu(d.chance(0.5), d.whole(-3, 3)), x, exact=True)


def one_hot(d: Draw) -> Value:
    x = d.value(lambda v: v.type.dtype == "i64" and v.type.rank < 4, exact=True)
    values = d.array([d.number(-1, 0), d.number(0, 1)], np.float32)
    return d.emit(OneHot(d.whole(1, 6), d.whole(-x.type.rank - 1, x.type.rank)), x, values, exact=True)


def integers(d: Draw) -> Value:
    """Integer arithmetic on exact values. Divisors are not 0, and few results leave the range."""
    x = d.value(lambda v: v.type.rank < 5, exact=True, finite=True)
    dtype = d.pick(("i32", "i32", "i64"))
    y = x if x.type.dtype == dtype else d.emit(Cast(dtype), x, exact=True)
    shape = tuple(1 if d.chance(0.5) else s for s in y.type.sizes)
    other = d.array(_indices(d, shape, 8) * 2 + 1, y.type.numpy_dtype)
    op = d.pick(
        (Add(), Sub(), Mul(), Div(), Mod(), Mod(True), Max(), Min(), b.BitwiseAnd(), b.BitwiseOr(), b.BitwiseXor())
    )
    return d.emit(op, y, other, exact=True)


def _indices(d: Draw, shape: tuple[int, ...] | list[int], size: int) -> np.ndarray:
    """Random indices into an axis of this size, some of them negative."""
    return np.array([d.whole(-size, size - 1) for _ in range(math.prod(shape))], np.int64).reshape(shape)
