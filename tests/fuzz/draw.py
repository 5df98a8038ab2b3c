"""Random choices for the generator, and a graph under construction.

A value is *exact* when every right implementation gives the same bits: it is an input, or is made from exact values by
moving, selecting and comparing alone. Ops that are not continuous, such as Round and ArgMax, get only exact values, so
that no rounding error can flip a result.

A value is *wild* when it may hold NaN or infinities: it is such an input, or a float that is computed from wild values.
Ops whose results at these are not defined, such as casts to integers, get only values that are not. ``Draw.value`` says
which values a layer may take.
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
WILD = "wild"
"""The names of inputs that hold NaN and infinities begin so."""
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
        self.wild: set[str] = set()
        self.empties = False
        """Whether an input has no elements. Only then may the results of nodes have none."""

    # -- choices ------------------------------------------------------------------------------------------------------

    def pick(self, options: Sequence[T]) -> T:
        """One of the options. Raises ``ShapeError`` when there is none."""
        if not options:
            raise ShapeError("nothing to pick from")
        return self.rng.choice(options)

    def chance(self, probability: float) -> bool:
        return self.rng.random() < probability

    def number(self, low: float, high: float) -> float:
        """A random float that float16 can represent."""
        return round(self.rng.uniform(low, high) * 64) / 64

    def whole(self, low: int, high: int) -> int:
        """An integer within these bounds. Raises ``ShapeError`` when there is none."""
        if high < low:
            raise ShapeError("nothing to pick from")
        return self.rng.randint(low, high)

    def permuted(self, n: int) -> tuple[int, ...]:
        return tuple(self.rng.sample(range(n), n))

    def divisors(self, n: int) -> list[int]:
        return [d for d in range(1, max(n, 1) + 1) if n % d == 0]

    def bound(self, terms: int) -> float:
        """The bound of uniform weights for sums of so many terms that stay near 1."""
        return math.sqrt(3 / max(terms, 1))

    # -- values -------------------------------------------------------------------------------------------------------

    def input(self, type: TensorType, wild: bool = False) -> Value:
        """Add a graph input, which is exact. The name of one that is wild says so (see ``compare.feeds_for``)."""
        v = self.b.input(f"{WILD if wild else 'x'}{len(self.b.inputs)}", type)
        self.values.append(v)
        self.exact.add(v.name)
        if wild and type.is_float:
            self.wild.add(v.name)
        self.empties |= type.numel == 0
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
        if max(t.numel for t in types) > LARGEST or (min(t.numel for t in types) < 1 and not self.empties):
            raise ShapeError("too large, or empty")
        if op.flops([v.type for v in inputs], types) > MOST_FLOPS:
            raise ShapeError("too slow")
        made = self.b.emit(op, *inputs, names=[f"v{len(self.b.nodes)}"] * len(types))
        outputs: tuple[Value, ...] = made if isinstance(made, tuple) else (made,)
        self.values += outputs
        if exact and all(v.name in self.exact for v in inputs):
            self.exact.update(v.name for v in outputs)
        if any(v.name in self.wild for v in inputs):
            self.wild.update(v.name for v in outputs if v.type.is_float)
        return outputs[0]

    def value(
        self, suits: Callable[[Value], bool] = lambda v: True, *, exact: bool = False, finite: bool = False
    ) -> Value:
        """A random value that suits, more likely a recent one.

        With ``exact``, it is exact; with ``finite``, it is not wild. Raises ``ShapeError`` when there is none.
        """
        found = [
            v
            for v in self.values
            if (not exact or v.name in self.exact) and not (finite and v.name in self.wild) and suits(v)
        ]
        if not found:
            raise ShapeError("nothing suits")
        return found[math.floor(len(found) * math.sqrt(self.rng.random()))]

    def floats(self, low: int = 1, high: int = 6, *, exact: bool = False, finite: bool = False) -> Value:
        """A random float value whose rank is within these bounds."""
        return self.value(lambda v: v.type.is_float and low <= v.type.rank <= high, exact=exact, finite=finite)

    def image(self, low: int = 3, high: int = 5, *, exact: bool = False, finite: bool = False) -> Value:
        """A random float value with a batch axis, channels and spatial axes."""
        return self.floats(low, high, exact=exact, finite=finite)

    def alike(self, v: Value) -> Value:
        """Another value of the same type."""
        return self.value(lambda other: other.type == v.type and other.name != v.name)

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
