"""Direct convolution of 8-bit data, in int32 elements that each hold the bytes of four channels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from operator import or_
from typing import Any

from tvm import te

from convc.ir.lowering import Operand, TensorExpressions
from convc.ir.ops.conv_bytes import ConvBytes

from .pad import padded

Read = Callable[..., Any]
"""A function that returns the data at a position ``n, [ic,] h, w [, lane]``."""


def sum_of_products(k: TensorExpressions, data: Any, weight: Any, axis: Sequence[Any]) -> Any:
    """The sum over ``axis`` of products of int32 elements that hold four bytes each: unsigned data, signed weights."""
    add = te.comm_reducer(
        lambda a, b: k.intrinsic("plus", a, b, dtype="int32"), lambda _: k.const(0, "int32"), "sum_of_products"
    )
    return add(k.intrinsic("dot4", data, weight, dtype="int32"), axis=axis)


def bytes_of(k: TensorExpressions, x: Operand, pads: Sequence[tuple[int, int]], op: ConvBytes) -> Read:
    """A function that reads the data four channels at a time, as int32, with the op's zero point around it.

    Row-major data of up to four channels is first packed into int32 elements.
    """
    if x.type.layout is None:
        return _together(k, x, pads, op)
    source = padded(k, x, pads, op.zero)

    def read(*at: Any) -> Any:
        *place, lane = at
        return k.intrinsic("quad", *(source(*place, lane * 4 + j) for j in range(4)), dtype="int32")

    return read


def _together(k: TensorExpressions, x: Operand, pads: Sequence[tuple[int, int]], op: ConvBytes) -> Read:
    """Row-major data of at most four channels, packed into int32 elements and padded with the zero point."""
    (top, bottom), (left, right) = pads
    count, channels, h, w = x.shape
    outside = int.from_bytes(bytes([op.zero] * 4), "little", signed=True)

    def element(n: Any, _: Any, i: Any, j: Any) -> Any:
        parts = [x.tensor(n, c, i - top, j - left).astype("int32") << (8 * c) for c in range(channels)]
        inside = k.tirx.all(i >= top, i < h + top, j >= left, j < w + left)
        return k.guarded(inside, reduce(or_, parts), k.const(outside, "int32"))

    together: Read = te.compute([count, 1, h + top + bottom, w + left + right], element, name="pad")
    return together
