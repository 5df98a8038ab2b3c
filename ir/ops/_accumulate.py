"""Helpers of ops that reduce: the type of accumulators, powers for norms, mean and variance."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ..lowering import Operand, TensorExpressions
from ..sizes import Dim, product
from ..types import TensorType
from ._reducers import WIDER

Read = Callable[[Sequence[Any], Sequence[Any]], Any]
"""Reads an element, given the index of the statistic that it belongs to and its position among the reduced elements."""


def accumulator(t: TensorType) -> TensorType:
    """The type that a reduction to ``t`` is computed in: float16 and bfloat16 are kept in float32."""
    return t.with_dtype(WIDER.get(t.dtype, t.dtype))


def rounded(k: TensorExpressions, wide: Operand, out: TensorType) -> Any:
    """A tensor of the accumulator's type rounded to type ``out``; the tensor itself where the two types are equal."""
    if wide.type == out:
        return wide.tensor
    return k.compute(out, lambda *i: wide(*i).astype(out.tvm_dtype), "rounded")


def power(k: TensorExpressions, x: Any, p: int) -> Any:
    """``|x|**p`` for a whole p of at least 1."""
    base = k.tirx.abs(x) if p % 2 else x
    y = None
    while p:
        if p % 2:
            y = base if y is None else y * base
        base, p = base * base, p // 2
    return y


def root(k: TensorExpressions, x: Any, p: int) -> Any:
    """``x**(1/p)`` for x of at least 0."""
    if p == 1:
        return x
    return k.tirx.sqrt(x) if p == 2 else k.tirx.pow(x, k.like(1 / p, x))


def mean(k: TensorExpressions, stat: TensorType, extents: Sequence[Dim], read: Read, name: str = "mean") -> Operand:
    """The mean of ``read`` over ``extents`` for each element of the statistic, whose type is ``stat``.

    It is NaN over nothing.
    """
    if 0 in extents:
        return k.operand(k.compute(stat, lambda *_: k.const(math.nan, stat.tvm_dtype), name), stat)
    axes = [k.reduce_axis(extent) for extent in extents]
    total = k.operand(k.compute(stat, lambda *i: k.te.sum(read(i, axes), axis=axes), f"{name}_sum"), stat)
    count = k.const(product(extents), stat.tvm_dtype)
    return k.operand(k.compute(stat, lambda *i: total(*i) / count, name), stat)


@dataclass(frozen=True)
class Moments:
    """Mean and population variance of data, for each element of a statistic.

    ``mean`` is rounded, and ``rest`` is what it lacks: data far from zero must be centred by both.
    """

    mean: Operand
    rest: Operand
    variance: Operand

    def centred(self, x: Any, at: Sequence[Any]) -> Any:
        """``x`` less the mean at an index of the statistic."""
        return (x - self.mean(*at)) - self.rest(*at)


def moments(k: TensorExpressions, stat: TensorType, extents: Sequence[Dim], read: Read) -> Moments:
    """Mean and variance in three passes, so that nothing cancels.

    Differences from the rounded mean are exact where data lies far from zero (P. Sterbenz, Floating-Point Computation,
    1974). Their mean corrects it, and their squares give the variance (T. Chan, G. Golub and R. LeVeque, Algorithms for
    Computing the Sample Variance, 1983).
    """
    center = mean(k, stat, extents, read)
    rest = mean(k, stat, extents, lambda i, r: read(i, r) - center(*i), "rest")
    return Moments(
        center, rest, mean(k, stat, extents, lambda i, r: power(k, read(i, r) - center(*i) - rest(*i), 2), "variance")
    )
