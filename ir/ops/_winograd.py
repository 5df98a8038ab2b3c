"""Winograd's minimal filtering F(m, r): the transform matrices, made exactly from interpolation points (Cook-Toom).

``Y = AT [(G g) * (BT d)]`` computes m outputs of an r-tap correlation from m + r - 1 inputs with as many products.
Winograd, "Arithmetic Complexity of Computations" (1980); Lavin and Gray, "Fast Algorithms for Convolutional Neural
Networks" (2016); the choice of points: Barabasz et al., "Error Analysis and Improving the Accuracy of Winograd
Convolution for Deep Neural Networks" (2020).
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from functools import cache
from typing import Any

import numpy as np

from ..lowering import TensorExpressions

Matrix = tuple[tuple[Fraction, ...], ...]

POINTS = {
    0: "",
    1: "0",
    2: "0 1",
    3: "0 1 -1",
    4: "0 4/3 -4/3 1/2",
    5: "0 2/3 -2/3 3/2 -3/2",
    6: "0 1 -1 2 -2 2/5",
    7: "0 1 -1 2/3 -2/3 2 -2",
    8: "0 4/3 -4/3 5/2 -5/2 3/5 -3/5 1/3",
    9: "0 1 -1 2 -2 1/3 -1/3 4/3 -4/3",
}
"""Interpolation points by their number, m + r - 2; the point at infinity is always added, and a point stands before its
negative.

Of the sets of pairs +-p with p among fifteen small fractions these give the least error on random data in float32. Root
mean square error as a multiple of the direct form's (96 to 128 channels, summed in order): F(4x4, 3x3) 2.1, with 1 and
2 as its points twice that; F(5x5, 3x3) 6 to 8; F(2x2, 5x5) 0.9; in one dimension F(4, 3) 1.4, F(4, 5) 1.8, F(3, 7) 2.7,
F(4, 7) 3.6.
"""


@cache
def matrices(m: int, r: int = 3) -> tuple[Matrix, Matrix, Matrix]:
    """``(AT, G, BT)`` of F(m, r): m x a, a x r and a x a with a = m + r - 1. F(1, 1) is the identity."""
    points = [Fraction(p) for p in POINTS[m + r - 2].split()]
    a = m + r - 1
    scale = [_product(p - q for q in points if q != p) for p in points]
    at = tuple((*(p**i for p in points), Fraction(int(i == m - 1))) for i in range(m))
    g = (
        *(tuple(p**j / f for j in range(r)) for p, f in zip(points, scale, strict=True)),
        tuple(Fraction(int(j == r - 1)) for j in range(r)),
    )
    bt = [_poly([q for q in points if q != p], a) for p in points]
    bt.append(_poly(points, a))
    return at, g, tuple(bt)


def _product(factors: Any) -> Fraction:
    out = Fraction(1)
    for f in factors:
        out *= f
    return out


def _poly(roots: Sequence[Fraction], size: int) -> tuple[Fraction, ...]:
    """Coefficients, lowest first, of the monic polynomial with these roots."""
    c = [Fraction(1)]
    for root in roots:
        c = [(c[i - 1] if i else Fraction(0)) - root * (c[i] if i < len(c) else Fraction(0)) for i in range(len(c) + 1)]
    return tuple(c + [Fraction(0)] * (size - len(c)))


def as_array(matrix: Matrix) -> np.ndarray:
    """A matrix in float64."""
    return np.array([[float(v) for v in row] for row in matrix])


def combine(k: TensorExpressions, row: Sequence[Fraction], values: Sequence[Any], dtype: str) -> Any:
    """``sum of row[i] * values[i]``, zeros left out and ones not multiplied."""
    total: Any = None
    for c, v in zip(row, values, strict=True):
        if c == 0:
            continue
        term = v if abs(c) == 1 else v * k.const(float(abs(c)), dtype)
        if total is None:
            total = term if c > 0 else k.const(0, dtype) - term
        else:
            total = total + term if c > 0 else total - term
    return k.const(0, dtype) if total is None else total


def combine_powers(k: TensorExpressions, row: Sequence[Fraction], values: Sequence[Any], dtype: str) -> Any:
    """As ``combine``, for a row of BT: even and odd powers summed apart, the odd sum with a positive last coefficient.

    The rows of p and -p differ in the sign of the odd powers alone: written so, the compiler computes both sums once.
    """
    even = [c if i % 2 == 0 else Fraction(0) for i, c in enumerate(row)]
    odd = [c if i % 2 else Fraction(0) for i, c in enumerate(row)]
    last = next((c for c in reversed(odd) if c), None)
    if last is None or not any(even):
        return combine(k, row, values, dtype)
    first = combine(k, even, values, dtype)
    second = combine(k, [c if last > 0 else -c for c in odd], values, dtype)
    return first + second if last > 0 else first - second


def combine_points(k: TensorExpressions, row: Sequence[Fraction], values: Sequence[Any], dtype: str) -> Any:
    """As ``combine``, for a row of AT: the values of p and -p, neighbours with equal or opposite factors, are added or
    subtracted first, which rows of the same parity share.
    """
    factors: list[Fraction] = []
    terms: list[Any] = []
    i = 0
    while i < len(row):
        paired = 0 < i < len(row) - 2 and row[i] and abs(row[i]) == abs(row[i + 1])
        terms.append(
            (values[i] + values[i + 1] if row[i] == row[i + 1] else values[i] - values[i + 1]) if paired else values[i]
        )
        factors.append(row[i])
        i += 2 if paired else 1
    return combine(k, factors, terms, dtype)


def choose(k: TensorExpressions, index: Any, rows: Sequence[Any]) -> Any:
    """``rows[index]``: a chain of selects that folds away where the loop over ``index`` is unrolled."""
    out = rows[-1]
    for i in range(len(rows) - 2, -1, -1):
        out = k.select(index == i, rows[i], out)
    return out
