"""Initial values of parameters. They are lazy: only a kind and a bound are kept until the values are read."""

from __future__ import annotations

import math
from collections.abc import Sequence

from convc.ir.graph import Initializer


def glorot(shape: Sequence[int]) -> Initializer:
    """Uniform within ``sqrt(6 / (fan_in + fan_out))`` for a weight ``(out, in, *kernel)``; Glorot and Bengio 2010."""
    fans = (shape[0] + shape[1]) * math.prod(shape[2:])
    return Initializer("uniform", math.sqrt(6 / max(fans, 1)))


def fill(value: float) -> Initializer:
    """The same value for every element."""
    return Initializer("fill", float(value))
