"""Transposed sliding windows: the elements of the data, and the taps, that contribute to an output position."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from ..sizes import Dim


@dataclass(frozen=True)
class Axis:
    """The elements of the data, and the taps, that contribute to an output position along one axis.

    ``s*i + d*k = position + pad`` needs ``k = first (mod s/gcd(s,d))``, and has solutions for every ``gcd(s,d)``-th
    position.
    """

    size: Dim
    kernel: int
    stride: int
    dilation: int
    pad: int

    @property
    def step(self) -> int:
        """The distance between two taps that contribute to one output position."""
        return self.stride // math.gcd(self.stride, self.dilation)

    @property
    def taps(self) -> int:
        """The most taps that contribute to one output position."""
        return -(-self.kernel // self.step)

    def meet(self, position: Any, number: Any) -> tuple[Any, Any, list[Any]]:
        """The position in the data and the tap of one contribution, and the conditions under which it exists."""
        common = math.gcd(self.stride, self.dilation)
        source, tap = self._meeting(position, number)
        tests = [source >= 0, source < self.size]
        if self.kernel % self.step:
            tests.append(tap < self.kernel)
        if common > 1:
            tests.append((position + self.pad) % common == 0)
        return source, tap, tests

    def _meeting(self, position: Any, number: Any) -> tuple[Any, Any]:
        common = math.gcd(self.stride, self.dilation)
        reached = position + self.pad
        first = (reached // common * pow(self.dilation // common, -1, self.step)) % self.step
        source = (reached - self.dilation * first) // self.stride - self.dilation // common * number
        return source, first + self.step * number

    def phase(self, number: int) -> tuple[int, int, bool]:
        """For the output positions ``i * stride + number``: the first tap that contributes, the position in the data
        that it multiplies, minus i, and whether any tap contributes.
        """
        source, tap = self._meeting(number, 0)
        reached = (number + self.pad) % math.gcd(self.stride, self.dilation) == 0
        return tap, source, reached and tap < self.kernel
