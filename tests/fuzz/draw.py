"""Random choices for the generator, and a graph under construction.

A value is *exact* when every right implementation gives the same bits: it is an input, or is made from exact values by
moving, selecting and comparing alone. Ops that are not continuous, such as Round and ArgMax, get only exact values, so
that no rounding error can flip a result.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np

from convc.ir.builder import Builder, infer_types
from convc.ir.errors import ShapeError
from convc.ir.graph import Constant, Graph, Initializer, Value
from convc.ir.op import Op
from convc.ir.types import TensorType

T = TypeVar("T")

SIZES = (1, 2, 3, 4, 5, 7, 8, 9, 13, 14, 16, 17, 31)
CHANNELS = (1, 2, 3, 4, 5, 7, 8, 12, 16, 17, 24, 31, 32, 40, 48, 58, 64)
LARGEST = 60_000
"""The greatest number of elements of a value."""
MOST_FLOPS = 40_000_000
"""The greatest number of operations of one node."""


class Draw:
    """A graph under construction, and the random choices that make it."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.b = Builder(f"seed{seed}")
        self.values: list[Value] = []
        self.exact: set[str] = set()

    # -- choices ------------------------------------------------------------------------------------------------------

    def pick(self, options: Sequence[T]) -> T:
        return self.rng.choice(options)

    def chance(self, probability: float) -> bool:
        return self.rng.random() < probability

    def number(self, low: float, high: float) -> float:
        """A random float that float16 can represent."""
        return round(self.rng.uniform(low, high) * 64) / 64

    def whole(self, low: int, high: int) -> int:
        return self.rng.randint(low, high)

    def permuted(self, n: int) -> tuple[int, ...]:
        return tuple(self.rng.sample(range(n), n))

    def divisors(self, n: int) -> list[int]:
        return [d for d in range(1, n + 1) if n % d == 0]

    # -- values -------------------------------------------------------------------------------------------------------

    def input(self, type: TensorType) -> Value:
        """Add a graph input, which is exact."""
        v = self.b.input(f"x{len(self.b.inputs)}", type)
        self.values.append(v)
        self.exact.add(v.name)
        return v

    def uniform(self, shape: Sequence[int], bound: float, dtype: str = "f32") -> Value:
        """Add a constant with random values between ``-bound`` and ``bound``."""
        how = Initializer("uniform", round(bound, 4), self.whole(0, 1 << 30))
        return self.b.constant(Constant(TensorType(dtype, tuple(shape)), how), "c")

    def filled(self, shape: Sequence[int], value: float, dtype: str = "f32") -> Value:
        return self.b.constant(Constant(TensorType(dtype, tuple(shape)), Initializer("fill", value)), "c")

    def array(self, values: Any, dtype: Any) -> Value:
        """Add a constant with these values, which is exact."""
        v = self.b.constant(np.asarray(values, dtype), "c")
        self.exact.add(v.name)
        return v

    def emit(self, op: Op, *inputs: Value, exact: bool = False) -> Value:
        """Add a node, and return its first result.

        With ``exact``, the results are exact if the operands are. Raises ``ShapeError``.
        """
        types = infer_types(op, inputs)
        if max(t.numel for t in types) > LARGEST or min(t.numel for t in types) < 1:
            raise ShapeError("too large, or empty")
        if op.flops([v.type for v in inputs], types) > MOST_FLOPS:
            raise ShapeError("too slow")
        made = self.b.emit(op, *inputs, names=[f"v{len(self.b.nodes)}"] * len(types))
        outputs: tuple[Value, ...] = made if isinstance(made, tuple) else (made,)
        self.values += outputs
        if exact and all(v.name in self.exact for v in inputs):
            self.exact.update(v.name for v in outputs)
        return outputs[0]

    def value(self, suits: Callable[[Value], bool]) -> Value:
        """A random value that suits, more likely a recent one. Raises ``ShapeError`` when there is none."""
        found = [v for v in self.values if suits(v)]
        if not found:
            raise ShapeError("nothing suits")
        return found[math.floor(len(found) * math.sqrt(self.rng.random()))]

    def floats(self, low: int = 1, high: int = 6) -> Value:
        """A random float value whose rank is within these bounds."""
        return self.value(lambda v: v.type.is_float and low <= v.type.rank <= high)

    def image(self, low: int = 3, high: int = 5) -> Value:
        """A random float value with a batch axis, channels and spatial axes."""
        return self.floats(low, high)

    def alike(self, v: Value) -> Value:
        """Another value of the same type."""
        return self.value(lambda other: other.type == v.type and other.name != v.name)

    def exactly(self, suits: Callable[[Value], bool] = lambda v: True) -> Value:
        """A random exact value that suits."""
        return self.value(lambda v: v.name in self.exact and suits(v))

    def finish(self) -> Graph:
        """The finished graph. It returns the values that nothing reads, and now and then another one."""
        read = {v.name for n in self.b.nodes for v in n.inputs}
        made = [v for n in self.b.nodes for v in n.outputs]
        outputs = [v for v in made if v.name not in read]
        names = [v.name for v in outputs]
        if self.chance(0.2):
            outputs.append(self.pick(made))
        if self.chance(0.03):
            outputs.append(self.pick(self.b.inputs))
        names += [v.name if v.name not in names else f"again{i}" for i, v in enumerate(outputs[len(names) :])]
        return self.b.finish(outputs, names)
