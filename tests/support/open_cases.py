"""Operands of the cases of ops with their sizes opened, and values of these sizes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from convc.ir.assumptions import Assumptions, check_assumptions
from convc.ir.errors import ShapeError
from convc.ir.graph import Value
from convc.ir.op import Case
from convc.ir.sizes import Dim, at, named
from convc.ir.types import TensorType, type_of

Known = Callable[[Any, int, int, int], bool]
"""Whether an op must know the size of operand ``i`` along an axis; the last argument is the operand's rank."""


def nothing(op: Any, i: int, axis: int, rank: int) -> bool:
    return False


def _window(op: Any, i: int, axis: int, rank: int) -> bool:
    """Strides and pads are for a window of one size."""
    return i == 1 and axis > 1


def _tuples(op: Any, i: int, axis: int, rank: int) -> bool:
    """The length of the tuples of positions decides ranks."""
    return i == 1 and axis == rank - 1


def _body(op: Any, i: int, axis: int, rank: int) -> bool:
    """The body states its sizes, which are those of the graph around it."""
    return True


def _rounded(op: Any, i: int, axis: int, rank: int) -> bool:
    """ONNX computes the size in float32, and another policy than ``stretch`` follows from the ratio of sizes."""
    return op.policy != "stretch" or any(s * 256 % 1 for s in op.scales)


KNOWN: dict[str, Known] = {
    **dict.fromkeys(("conv", "conv_integer", "conv_transpose", "deform_conv"), _window),
    **dict.fromkeys(("gather_nd", "scatter_nd"), _tuples),
    **dict.fromkeys(("resize", "resize_nearest"), _rounded),
    "loop": _body,
}
"""The sizes that ops must know."""
NAMES: dict[str, Callable[[int, int, int], str]] = {
    "equal sizes have one name": lambda i, axis, size: f"s{size}",
    "each axis has its name": lambda i, axis, size: f"s{i}_{axis}",
}


def opened(case: Case, naming: str, known: Known) -> tuple[list[Value], dict[str, int]]:
    """Operands with a named size for each size above 1, whose typical value it is, and these values by name."""
    values: dict[str, int] = {}
    made = []
    for i, x in enumerate(case.inputs):
        type = type_of(x) if isinstance(x, np.ndarray) else x
        shape: list[Dim] = list(type.shape)
        for axis, size in enumerate(type.sizes):
            if size > 1 and not known(case.op, i, axis, type.rank):
                name = NAMES[naming](i, axis, size)
                values[name] = size
                shape[axis] = named(name, typical=size)
        made.append(Value(f"x{i}", type.with_shape(shape)))
    return made, values


def types_at(types: Sequence[TensorType], values: Mapping[str, int]) -> tuple[TensorType, ...]:
    return tuple(t.with_shape([at(d, values) for d in t.shape]) for t in types)


def other_values(values: Mapping[str, int]) -> list[dict[str, int]]:
    """Other values of the sizes: all larger by one, all doubled, all one, and each in turn."""
    found = [{k: v + 1 for k, v in values.items()}, {k: 2 * v for k, v in values.items()}, dict.fromkeys(values, 1)]
    return [*found, *({**values, k: v + more} for k, v in values.items() for more in (1, v, -1))]


def holds(assumed: Assumptions, values: Mapping[str, int]) -> bool:
    try:
        check_assumptions(assumed.made, values)
    except ShapeError:
        return False
    return True
