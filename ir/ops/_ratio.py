"""Quotients of sizes, which need not be whole."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

from ..sizes import Dim, Size


@dataclass(frozen=True)
class Ratio:
    """``numerator / denominator``, in lowest terms where both are known. The denominator is positive."""

    numerator: Dim
    denominator: Dim

    @staticmethod
    def of(numerator: Dim | Fraction, denominator: Dim = 1) -> Ratio:
        """The quotient, without the factors that are common to all coefficients."""
        if isinstance(numerator, Fraction):
            numerator, denominator = numerator.numerator, numerator.denominator * denominator
        common = math.gcd(*_coefficients(numerator), *_coefficients(denominator))
        return Ratio(numerator // common, denominator // common) if common > 1 else Ratio(numerator, denominator)

    @property
    def inverse(self) -> Ratio:
        """``1 / self``; 1 for 0, which is the scale of an axis without elements."""
        return Ratio(self.denominator, self.numerator) if self.numerator != 0 else Ratio(1, 1)

    def __add__(self, other: Ratio) -> Ratio:
        unit = self.common(other)
        parts = (r.numerator * (unit // r.denominator) for r in (self, other))
        return Ratio.of(sum(parts), unit)

    def __sub__(self, other: Ratio) -> Ratio:
        return self + Ratio(-other.numerator, other.denominator)

    def __mul__(self, other: Ratio) -> Ratio:
        return Ratio.of(self.numerator * other.numerator, self.denominator * other.denominator)

    def common(self, other: Ratio) -> Dim:
        """A multiple of both denominators, the least where both are known."""
        a, b = self.denominator, other.denominator
        if isinstance(a, int) and isinstance(b, int):
            return math.lcm(a, b)
        if a % b == 0:
            return a
        return b if b % a == 0 else a * b


def _coefficients(size: Dim) -> tuple[int, ...]:
    return tuple(c for _, c in size.terms) if isinstance(size, Size) else (size,)
