"""Unary functions without attributes that need no transcendental mathematics."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..dtypes import FLOATS, INTEGERS, SIGNED
from ..lowering import TensorExpressions
from ..onnx_io import ImportNode, imports, onnx_op
from ..op import Case, f16, f32, f64, i8, i32, i64, sample, u8
from ._elementwise import Elementwise
from ._math import bounded, divided, wide, widened

SPECIAL = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 1e-40, -1e-40, 0.5, -0.5, 1.5, -2.5, 1e30, -1e30], np.float32)
"""What a function of floats must get right besides ordinary numbers."""


class Unary(Elementwise):
    """A unary op ``y = f(x)``."""

    @classmethod
    def cases(cls) -> Iterator[Case]:
        yield sample(cls(), f32[2, 3, 5])
        yield sample(cls(), SPECIAL)
        yield sample(cls(), f64[7])
        yield sample(cls(), f16[9], oracle="reference", note="ONNX Runtime does not take float16 in all of these ops")


@onnx_op("Relu", folds=True)
class Relu(Unary):
    """``max(x, 0)``; NaN stays NaN; ONNX Relu-14."""

    name = "relu"
    rounds = False
    dtypes = FLOATS + SIGNED

    def scalar(self, k: TensorExpressions, *xs: Any) -> Any:
        return bounded(k, xs[0], low=0)

    @classmethod
    def cases(cls) -> Iterator[Case]:
        yield from super().cases()
        yield sample(cls(), i32[7])


@onnx_op("Abs", folds=True)
class Abs(Unary):
    """The absolute value; ONNX Abs-13."""

    name = "abs"
    rounds = False
    dtypes = FLOATS + INTEGERS

    def scalar(self, k: TensorExpressions, *xs: Any) -> Any:
        return xs[0] if k.dtype(xs[0]).startswith("uint") else k.tirx.abs(xs[0])

    @classmethod
    def cases(cls) -> Iterator[Case]:
        yield from super().cases()
        yield sample(cls(), i8[7])
        yield sample(cls(), i64[7])
        yield sample(cls(), u8[7])


@onnx_op("Neg", folds=True)
class Neg(Unary):
    """``-x``; ONNX Neg-13."""

    name = "neg"
    rounds = False
    dtypes = FLOATS + SIGNED

    def scalar(self, k: TensorExpressions, *xs: Any) -> Any:
        return -xs[0]

    @classmethod
    def cases(cls) -> Iterator[Case]:
        yield from super().cases()
        yield sample(cls(), i8[7])
        yield sample(cls(), i64[7])


@onnx_op("Sign", folds=True)
class Sign(Unary):
    """The sign of x as -1, 0 or 1; NaN stays NaN; ONNX Sign-13."""

    name = "sign"
    rounds = False
    dtypes = FLOATS + INTEGERS
    cost = 2

    def scalar(self, k: TensorExpressions, *xs: Any) -> Any:
        (x,) = xs
        zero, one = k.like(0, x), k.like(1, x)
        if k.dtype(x).startswith("uint"):
            return k.select(x > zero, one, zero)
        return k.select(x > zero, one, k.select(x < zero, -one, x))

    @classmethod
    def cases(cls) -> Iterator[Case]:
        yield from super().cases()
        yield sample(cls(), i32[9])
        yield sample(cls(), u8[9])


@onnx_op("Ceil", folds=True)
class Ceil(Unary):
    """The next integer up; ONNX Ceil-13."""

    name = "ceil"
    rounds = False

    def scalar(self, k: TensorExpressions, *xs: Any) -> Any:
        return widened(k, xs[0], k.tirx.ceil)


@onnx_op("Floor", folds=True)
class Floor(Unary):
    """The next integer down; ONNX Floor-13."""

    name = "floor"
    rounds = False

    def scalar(self, k: TensorExpressions, *xs: Any) -> Any:
        return widened(k, xs[0], k.tirx.floor)


@onnx_op("Round", folds=True)
class Round(Unary):
    """The nearest integer, halves to the even one; ONNX Round-22."""

    name = "round"
    rounds = False

    def scalar(self, k: TensorExpressions, *xs: Any) -> Any:
        return widened(k, xs[0], k.tirx.nearbyint)


@onnx_op("Sqrt", folds=True)
class Sqrt(Unary):
    """The square root; NaN below zero; ONNX Sqrt-13."""

    name = "sqrt"
    cost = 4

    def scalar(self, k: TensorExpressions, *xs: Any) -> Any:
        return widened(k, xs[0], k.tirx.sqrt)


@onnx_op("Reciprocal", folds=True)
class Reciprocal(Unary):
    """``1 / x``; ONNX Reciprocal-13."""

    name = "reciprocal"
    needs_range = True
    cost = 4

    def scalar(self, k: TensorExpressions, *xs: Any) -> Any:
        return widened(k, xs[0], lambda v: divided(k, k.like(1, v), v))


@onnx_op("IsNaN")
class IsNaN(Unary):
    """Whether x is not a number; ONNX IsNaN-20."""

    name = "is_nan"
    result = "bool"

    def scalar(self, k: TensorExpressions, *xs: Any) -> Any:
        return k.tirx.isnan(wide(xs[0]))


@onnx_op("IsInf")
@dataclass(frozen=True)
class IsInf(Unary):
    """Whether x is infinite, of either sign or of the one that the attributes select; ONNX IsInf-20."""

    name = "is_inf"
    result = "bool"
    detect_negative: bool = True
    detect_positive: bool = True

    def scalar(self, k: TensorExpressions, *xs: Any) -> Any:
        x = wide(xs[0])
        infinity = k.like(float("inf"), x)
        found = [x == infinity] * self.detect_positive + [x == -infinity] * self.detect_negative
        return k.tirx.any(*found) if found else k.const(False, "bool")

    @classmethod
    def cases(cls) -> Iterator[Case]:
        yield from super().cases()
        yield sample(cls(detect_negative=False), SPECIAL)
        yield sample(cls(detect_positive=False), SPECIAL)
        yield sample(cls(False, False), SPECIAL)


@imports("IsInf")
def _import_is_inf(n: ImportNode) -> Any:
    return n.emit(IsInf(bool(n.attr("detect_negative", 1)), bool(n.attr("detect_positive", 1))), n.input(0))
