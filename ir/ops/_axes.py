"""Shared by ops that name axes: negative axes, dynamic sizes, and indices that are themselves data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..dtypes import dtype_names
from ..errors import ShapeError
from ..lowering import TensorExpressions
from ..sizes import Dim
from ..types import TensorType

Ints = tuple[int, ...]


def axis_of(axis: int, rank: int) -> int:
    """An axis counted from the front; raises ``ShapeError`` when the rank has no such axis."""
    if not -rank <= axis < rank:
        raise ShapeError(f"axis {axis} does not exist: the rank is {rank}")
    return axis % rank


def axes_of(axes: Sequence[int], rank: int) -> Ints:
    """Axes counted from the front, in ascending order; raises ``ShapeError`` when one does not exist or comes twice."""
    found = sorted(axis_of(a, rank) for a in axes)
    if len(set(found)) < len(found):
        raise ShapeError(f"axes {list(axes)} name an axis twice")
    return tuple(found)


def size_of(type: TensorType, axis: int) -> int:
    """The size of one axis; raises ``ShapeError`` when it is dynamic."""
    size = type.shape[axis]
    return size if isinstance(size, int) else type.sizes[axis]


def same_size(a: Dim, b: Dim) -> bool:
    """Whether two sizes may be equal; a dynamic one may be anything."""
    return a == b or isinstance(a, str) or isinstance(b, str)


def check_index(type: TensorType) -> None:
    """Raises ``ShapeError`` unless a tensor may hold indices."""
    if type.dtype not in ("i32", "i64"):
        raise ShapeError(f"indices must be int32 or int64, not {dtype_names(type.dtype)}")


def data_index(k: TensorExpressions, index: Any, size: int) -> Any:
    """An index that was read from a tensor, negative ones counted from the end, as one that is safe to read at.

    ONNX leaves an index out of range undefined; here it reads the nearest element instead of foreign memory.
    """
    wrapped = k.select(index < 0, index + k.like(size, index), index)
    clamped = k.tirx.max(k.tirx.min(wrapped, k.like(size - 1, index)), k.like(0, index))
    return clamped.astype("int32") if size <= 0x7FFFFFFF else clamped
