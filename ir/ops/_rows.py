"""The rows along an axis of a tensor, which are numbered over all other axes.

Programs of loops work on ``[rows, length]``: TVM reckons exactly which part of such a tensor they need.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..sizes import Dim


def place(sizes: Sequence[Dim], axis: int, row: Any, i: Any) -> list[Any]:
    """The index of element ``i`` of a row."""
    index = []
    for size in reversed([*sizes[:axis], *sizes[axis + 1 :]]):
        index.append(row % size)
        row = row // size
    index.reverse()
    return [*index[:axis], i, *index[axis:]]


def row_of(sizes: Sequence[Dim], axis: int, index: Sequence[Any]) -> tuple[Any, Any]:
    """The row in which an index lies, and its position there."""
    row: Any = 0
    for a, i in enumerate(index):
        if a != axis:
            row = row * sizes[a] + i
    return row, index[axis]
