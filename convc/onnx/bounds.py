"""Bounds on the size of the results of folding an ONNX node, from its inputs, before anything is computed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import isfinite, prod

import numpy as np

from convc.ir.errors import ConvcError
from convc.ir.onnx_io import ImportNode
from convc.ir.types import broadcast

HUGE = 1 << 62
"""A size that stands for one that is not known to be small."""
_ANY_DTYPE = frozenset(
    ["Cast", "CastLike", "ConstantOfShape", "EyeLike", "MelWeightMatrix", "NonZero", "OneHot", "TopK", "Unique"]
)
"""Operators whose results may have a wider dtype than their first operand."""
_SLOW = frozenset(["GatherND", "MelWeightMatrix", "ScatterElements", "ScatterND"])
_SLOW_WEIGHT = 1 << 8
"""The weight of a byte of the operators that onnx's reference computes element by element."""


def folded_bytes(n: ImportNode) -> int:
    """A bound on the bytes of the results of this node, whose inputs are constant."""
    types = [v.type for v in n.inputs if v is not None]
    data = types[1:] if n.op_type == "Where" else types
    itemsize = 8 if n.op_type in _ANY_DTYPE or not data else data[0].numpy_dtype.itemsize
    try:
        elements = _BOUNDS.get(n.op_type, _broadcast)(n)
    except (ConvcError, LookupError, TypeError, ValueError, ArithmeticError):
        return sum(t.nbytes for t in types)  # malformed: the reference refuses it
    weight = _SLOW_WEIGHT if n.op_type in _SLOW else 1
    return elements * itemsize * weight


def _shape(n: ImportNode, index: int) -> tuple[int, ...]:
    return n.input(index).type.sizes


def _values(n: ImportNode, index: int) -> Sequence[int]:
    return n.ints(index, "sizes") or ()


def _broadcast(n: ImportNode) -> int:
    """The elements of a result of operands that broadcast.

    Where they do not, the result has at most the elements of all of them.
    """
    shapes = [v.type.sizes for v in n.inputs if v is not None]
    try:
        return prod(d for d in broadcast(*shapes) if isinstance(d, int))
    except ConvcError:
        return sum(map(prod, shapes))


def _sum(n: ImportNode) -> int:
    return sum(v.type.numel for v in n.inputs if v is not None)


def _expand(n: ImportNode) -> int:
    return prod(d for d in broadcast(_shape(n, 0), tuple(map(abs, _values(n, 1)))) if isinstance(d, int))


def _gather(n: ImportNode) -> int:
    data, axis = _shape(n, 0), n.attr("axis", 0)
    made: int = prod(_shape(n, 1)) * prod(data) // max(data[axis], 1)
    return made


def _gather_nd(n: ImportNode) -> int:
    data, indices, batch = _shape(n, 0), _shape(n, 1), n.attr("batch_dims", 0)
    return prod(indices[:-1]) * prod(data[batch + indices[-1] :])


def _range(n: ImportNode) -> int:
    start, limit, delta = (np.asarray(n.const(i, "bounds")).reshape(-1)[0].item() for i in range(3))
    steps = abs((limit - start) / delta)
    return int(steps) + 1 if isfinite(steps) else HUGE


_BOUNDS: dict[str, Callable[[ImportNode], int]] = {
    "Concat": _sum,
    "QuantizeLinear": lambda n: n.input(0).type.numel,
    "ConstantOfShape": lambda n: prod(map(abs, _values(n, 0))),
    "Expand": _expand,
    "Gather": _gather,
    "GatherElements": lambda n: prod(_shape(n, 1)),
    "GatherND": _gather_nd,
    "MelWeightMatrix": lambda n: prod(abs(int(_values(n, i)[0])) + 1 for i in (0, 1)),
    "NonZero": lambda n: n.input(0).type.numel * max(n.input(0).type.rank, 1),
    "OneHot": lambda n: prod(_shape(n, 0)) * max([1, *map(abs, _values(n, 1))]),
    "Range": _range,
    "Reshape": _sum,
    "ScatterElements": _sum,
    "ScatterND": _sum,
    "Split": _sum,
    "Tile": lambda n: n.input(0).type.numel * prod(map(abs, _values(n, 1))),
    "TopK": lambda n: 2 * n.input(0).type.numel,
    "Unique": lambda n: 4 * n.input(0).type.numel,
}
