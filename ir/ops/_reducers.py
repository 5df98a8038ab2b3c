"""Reductions over axes: sums, products, and maxima that let NaN through."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ..lowering import Operand, TensorExpressions
from ..types import TensorType
from ._elementwise import infinity

Reducer = Callable[[TensorExpressions, Any, Sequence[Any]], Any]
"""``reducer(k, value, axes)``: the reduction of a scalar expression over reduction axes."""

WIDER = {"f16": "f32", "bf16": "f32", "bool": "u8"}
"""The dtype that accumulates, where it is not the operands' own."""


def total(k: TensorExpressions, value: Any, axes: Sequence[Any]) -> Any:
    """The sum."""
    return k.te.sum(value, axis=list(axes))


def product(k: TensorExpressions, value: Any, axes: Sequence[Any]) -> Any:
    """The product."""
    reducer = k.te.comm_reducer(lambda a, b: a * b, lambda dtype: k.const(1, dtype), name="product")
    return reducer(value, axis=list(axes))


def maximum(k: TensorExpressions, value: Any, axes: Sequence[Any]) -> Any:
    """The maximum; NaN where any value is NaN, as numpy has it."""
    return _extreme(k, value, axes, largest=True)


def minimum(k: TensorExpressions, value: Any, axes: Sequence[Any]) -> Any:
    """The minimum; NaN where any value is NaN, as numpy has it."""
    return _extreme(k, value, axes, largest=False)


def _extreme(k: TensorExpressions, value: Any, axes: Sequence[Any], largest: bool) -> Any:
    def better(a: Any, b: Any) -> Any:
        first = a > b if largest else a < b
        if k.dtype(a).startswith(("float", "bfloat")):
            first = k.tirx.any(first, k.tirx.isnan(a))
        return k.select(first, a, b)

    reducer = k.te.comm_reducer(better, lambda dtype: infinity(k, str(dtype), -1 if largest else 1), name="extreme")
    return reducer(value, axis=list(axes))


def reduce_over(
    k: TensorExpressions,
    shape: Sequence[int],
    axes: Sequence[int],
    out: TensorType,
    reducer: Reducer,
    element: Callable[..., Any],
) -> Operand:
    """``element(*index)``, over indices into ``shape``, reduced over ``axes``; ``out`` keeps them as ones or lacks
    them.

    Layout padding is not masked, for TVM wants the reduction outermost: it is zero where ``element`` gives zeros.
    """
    keeps = out.rank == len(shape)

    def body(*i: Any) -> Any:
        inner = {a: k.reduce_axis(shape[a]) for a in axes}
        outer = iter(i)
        at = [inner[a] if a in inner else i[a] if keeps else next(outer) for a in range(len(shape))]
        return reducer(k, element(*at), list(inner.values())) if inner else element(*at)

    return k.operand(k.compute(out, body, "reduce"), out)
