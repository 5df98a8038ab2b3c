"""Reductions over axes: sums, products, and extrema, which keep NaN."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ..lowering import Operand, TensorExpressions
from ..sizes import Dim
from ..types import TensorType
from ._elementwise import infinity

Reducer = Callable[[TensorExpressions, Any, Sequence[Any]], Any]
"""``reducer(k, value, axes)``: the reduction of a scalar expression over reduction axes."""

WIDER = {"f16": "f32", "bf16": "f32", "bool": "u8"}
"""The dtype that accumulates, where it is not the operands' own."""


def total(k: TensorExpressions, value: Any, axes: Sequence[Any]) -> Any:
    """The sum of the values."""
    return k.te.sum(value, axis=list(axes))


def product(k: TensorExpressions, value: Any, axes: Sequence[Any]) -> Any:
    """The product of the values."""
    reducer = k.te.comm_reducer(lambda a, b: a * b, lambda dtype: k.const(1, dtype), name="product")
    return reducer(value, axis=list(axes))


def maximum(k: TensorExpressions, value: Any, axes: Sequence[Any]) -> Any:
    """The maximum of the values, which is NaN if one of them is, as in numpy."""
    return _extreme(k, value, axes, largest=True)


def minimum(k: TensorExpressions, value: Any, axes: Sequence[Any]) -> Any:
    """The minimum of the values, which is NaN if one of them is, as in numpy."""
    return _extreme(k, value, axes, largest=False)


def _extreme(k: TensorExpressions, value: Any, axes: Sequence[Any], largest: bool) -> Any:
    def winner(a: Any, b: Any) -> Any:
        better = k.select(a > b if largest else a < b, a, b)  # b where one is NaN: one instruction of x86
        if not k.dtype(a).startswith(("float", "bfloat")):
            return better
        return k.select(k.tirx.isnan(a), a, better)

    reducer = k.te.comm_reducer(winner, lambda dtype: infinity(k, str(dtype), -1 if largest else 1), name="extreme")
    return reducer(value, axis=list(axes))


def reduce_over(
    k: TensorExpressions,
    shape: Sequence[Dim],
    axes: Sequence[int],
    out: TensorType,
    reducer: Reducer,
    element: Callable[..., Any],
) -> Operand:
    """The reduction over ``axes`` of ``element(*index)``, with indices into ``shape``.

    ``out`` has the axes with size 1, or lacks them.

    The padding of a layout is not masked, since TVM needs the reduction outermost. It is zero where ``element`` gives
    zeros.
    """
    keeps = out.rank == len(shape)

    def body(*i: Any) -> Any:
        inner = {a: k.reduce_axis(shape[a]) for a in axes}
        outer = iter(i)
        at = [inner[a] if a in inner else i[a] if keeps else next(outer) for a in range(len(shape))]
        return reducer(k, element(*at), list(inner.values())) if inner else element(*at)

    return k.operand(k.compute(out, body, "reduce"), out)
