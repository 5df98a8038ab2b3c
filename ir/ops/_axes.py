"""Helpers of ops with axes: negative axes, dynamic sizes, and indices that are data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ..dtypes import dtype_names
from ..errors import ShapeError
from ..lowering import TensorExpressions
from ..sizes import MOST, Dim, bounds, largest, no_less, product
from ..types import TensorType

Ints = tuple[int, ...]


def axis_of(axis: int, rank: int) -> int:
    """An axis counted from the front. Raises ``ShapeError`` when there is no such axis."""
    if not -rank <= axis < rank:
        raise ShapeError(f"axis {axis} does not exist: the rank is {rank}")
    return axis % rank


def axes_of(axes: Sequence[int], rank: int) -> Ints:
    """Axes counted from the front, in ascending order. Raises ``ShapeError`` when one does not exist or comes twice."""
    found = sorted(axis_of(a, rank) for a in axes)
    if len(set(found)) < len(found):
        raise ShapeError(f"axes {list(axes)} name an axis twice")
    return tuple(found)


def size_of(type: TensorType, axis: int) -> int:
    """The size of one axis. Raises ``ShapeError`` when it is open."""
    return replace(type, shape=(type.shape[axis],), layout=None).sizes[0]


def check_index(type: TensorType) -> None:
    """Raises ``ShapeError`` unless a tensor may hold indices."""
    if type.dtype not in ("i32", "i64"):
        raise ShapeError(f"indices must be int32 or int64, not {dtype_names(type.dtype)}")


def check_asked(x: TensorType, axis: int, indices: TensorType) -> None:
    """Raises ``ShapeError`` when there are indices into an axis that has no elements."""
    size, asked = x.shape[axis], product(indices.shape)
    if bounds(size)[0] < 1 and not no_less(size * MOST, asked):  # none are asked for where there are none
        raise ShapeError(
            f"axis {axis} of {x} has no elements for the indices {indices} to choose from: give data that has some, or "
            "no indices"
        )


def data_index(k: TensorExpressions, index: Any, size: Dim) -> Any:
    """An index that was read from a tensor, made safe to read at. A negative index counts from the end.

    ONNX leaves an index out of range undefined; here it reads the nearest element instead of foreign memory. The axis
    must have elements, or the result none (``check_asked``).
    """
    wrapped = k.select(index < 0, index + k.like(size, index), index)
    return data_number(k, wrapped, 0, largest(size - 1, 0))


def data_number(k: TensorExpressions, value: Any, low: Dim, high: Dim) -> Any:
    """An integer that was read from a tensor, clamped to bounds, in the narrower of its dtype and int32.

    It is clamped in its own dtype first, since a conversion would cut off its high bits.
    """
    clamped = k.tirx.max(k.tirx.min(value, k.like(high, value)), k.like(low, value))
    fits = max(-bounds(low)[0], bounds(high)[1]) <= MOST
    return clamped.astype("int32") if fits else clamped
