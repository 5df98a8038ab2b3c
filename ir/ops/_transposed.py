"""Sliding windows the other way round: which elements, by which taps, reach an output position."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Axis:
    """Which elements of the data, by which taps, reach an output position along one axis.

    ``s*i + d*k = position + pad`` needs ``k = first (mod s/gcd(s,d))``, and has solutions for every ``gcd(s,d)``-th
    position.
    """

    size: int
    kernel: int
    stride: int
    dilation: int
    pad: int

    @property
    def step(self) -> int:
        """From one tap that meets an element of the data to the next."""
        return self.stride // math.gcd(self.stride, self.dilation)

    @property
    def taps(self) -> int:
        """The most taps that meet one output position."""
        return -(-self.kernel // self.step)

    def meet(self, position: Any, number: Any) -> tuple[Any, Any, list[Any]]:
        """The position in the data and the tap of one meeting, and the conditions under which there is one."""
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
        """Of the output positions ``i * stride + number``: the first tap that can meet them, the element of the data
        that it meets less i, and whether there is any.
        """
        source, tap = self._meeting(number, 0)
        reached = (number + self.pad) % math.gcd(self.stride, self.dilation) == 0
        return tap, source, reached and tap < self.kernel
