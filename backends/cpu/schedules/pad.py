"""Padding of data around its planes, as tensor expressions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tvm import te

from convc.ir.lowering import Operand, TensorExpressions
from convc.ir.sizes import Dim


def widened(pads: Sequence[tuple[int, int]], width: Dim, wanted: Dim) -> Sequence[tuple[int, int]]:
    """The pads with the right one grown until the padded input is at least ``wanted`` wide.

    An open width is not grown: what is computed of it is as wide as the result.
    """
    (left, right) = pads[1]
    if not isinstance(width, int) or not isinstance(wanted, int):
        return pads
    return pads[0], (left, max(right, wanted - left - width))


def padded(k: TensorExpressions, x: Operand, pads: Sequence[tuple[int, int]], fill: int = 0) -> Any:
    """The input with ``fill`` around its planes, in memory order; the input itself when there is nothing to pad."""
    (top, bottom), (left, right) = pads
    if not (top or bottom or left or right):
        return x.tensor
    h, w = x.shape[2:]
    shape = list(x.type.extents)
    shape[2:4] = [h + top + bottom, w + left + right]

    def element(n: Any, c: Any, i: Any, j: Any, *lane: Any) -> Any:
        inside = k.tirx.all(i >= top, i < h + top, j >= left, j < w + left)
        return k.guarded(inside, x.tensor(n, c, i - top, j - left, *lane), k.const(fill, x.dtype))

    return te.compute(shape, element, name="pad")
