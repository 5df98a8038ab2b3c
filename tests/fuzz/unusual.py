"""Random nodes at the edges of what is usual.

They are attributes of the other sign, norms of data far from zero, and one value as several operands of a node.
"""

from __future__ import annotations

import math

from convc.ir.graph import Value
from convc.ir.ops import activations as a
from convc.ir.ops.binary import Add, Max, Min, Mul, Sub
from convc.ir.ops.clip import Clip
from convc.ir.ops.concat import Concat
from convc.ir.ops.conv import Conv
from convc.ir.ops.group_norm import GroupNorm
from convc.ir.ops.instance_norm import InstanceNorm
from convc.ir.ops.layer_norm import LayerNorm
from convc.ir.ops.matmul import MatMul
from convc.ir.ops.mean_variance_norm import MeanVarianceNorm

from .draw import Draw
from .layers import enough


def attribute(d: Draw) -> Value:
    """An activation whose attribute is negative, zero or large. Those that jump get exact operands."""
    if d.chance(0.4):
        x = d.floats(0, exact=True)
        return d.emit(d.pick((a.Shrink(-d.number(0, 1), d.number(-1, 1)), a.ThresholdedRelu(d.number(-2, 0)))), x)
    x, alpha = d.floats(), d.pick((-1.5, -0.25, 0.0, 2.5))
    op = d.pick(
        (
            a.LeakyRelu(alpha), a.Elu(alpha), a.Celu(alpha or 0.5), a.Selu(alpha, 1.25), a.Selu(1.5, alpha),
            a.HardSigmoid(alpha, 0.5), a.HardSigmoid(0.25, alpha), a.Silu(alpha), Clip(1.0, alpha),
        )
    )  # fmt: skip
    return d.emit(op, x)


def far_norm(d: Draw) -> Value:
    """A normalization of data that lies far from zero, where a difference of squares loses its digits."""
    x = d.value(lambda v: v.type.dtype == "f32" and 3 <= v.type.rank <= 5, exact=True)
    _, c, *space = x.type.sizes
    enough(math.prod(space))
    moved = d.emit(Add(), x, d.filled((), d.pick((8.0, -64.0, 512.0))))
    scale, shift = d.uniform((c,), 1.5), d.uniform((c,), 0.5)
    kind = d.pick(("instance", "group", "layer", "mvn"))
    if kind == "instance":
        return d.emit(InstanceNorm(), moved, scale, shift)
    if kind == "group":
        return d.emit(GroupNorm(d.pick(d.divisors(c))), moved, scale, shift)
    if kind == "layer":
        return d.emit(LayerNorm(2), moved, d.uniform(tuple(space), 1.5), d.uniform(tuple(space), 0.5))
    return d.emit(MeanVarianceNorm(tuple(range(2, x.type.rank))), moved)


def repeated(d: Draw) -> Value:
    """A node that takes one value two or three times. A convolution takes it as data and as weight."""
    kind = d.pick(("elementwise", "elementwise", "concat", "matmul", "conv"))
    if kind == "elementwise":
        op = d.pick((Add(), Sub(), Mul(), Max(), Min()))
        x = d.floats(0)
        return d.emit(op, x, x, exact=isinstance(op, Max | Min))
    if kind == "concat":
        x = d.floats()
        return d.emit(Concat(d.whole(0, x.type.rank - 1)), *[x] * d.whole(2, 3), exact=True)
    if kind == "matmul":
        x = d.value(lambda v: v.type.is_float and v.type.rank > 1 and v.type.sizes[-1] == v.type.sizes[-2])
        return d.emit(MatMul(), *[_scaled(d, x, x.type.sizes[-1])] * 2)
    x = d.image()
    return d.emit(Conv(), *[_scaled(d, x, math.prod(x.type.sizes[1:]))] * 2)


def _scaled(d: Draw, x: Value, terms: int) -> Value:
    """The value divided by the fourth root of the number of terms, so that its product with itself stays near 1."""
    return d.emit(Mul(), x, d.filled((), max(terms, 1) ** -0.25, x.type.dtype))
