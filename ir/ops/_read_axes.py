"""Axes that a small input holds, for nodes whose importers take them from it: they are read when the model runs.

An op works along an axis that is known. So the axis becomes that of a view ``[before, size, after]`` of the tensor,
whose sizes are computed from the axis as any other data, and read (``data_sizes.py``). A view moves nothing. An axis
that does not exist makes a size of -1, which is refused when it is read.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..graph import Value
from ..onnx_io import ImportNode
from ..op import REGISTRY, Op
from ..sizes import Dim, Sizes


def _reshape(shape: Sequence[Dim]) -> Op:
    """A Reshape to these sizes, whose class cannot be imported here because its importer uses this module."""
    return REGISTRY["reshape"](tuple(shape), True)  # type: ignore[call-arg]


def is_read(n: ImportNode, index: int) -> bool:
    """Whether the integers of an input are read when the model runs."""
    value = n.optional(index)
    if value is None or n.builder.constant_of(value) is not None or value.type.is_empty:
        return False
    return n.is_data(value, integers=True)


class Shapes:
    """Arithmetic on a shape as a tensor, int64, and on numbers of axes."""

    def __init__(self, n: ImportNode, x: Value) -> None:
        self.n, self.rank = n, x.type.rank
        self.sizes: Value = n.sizes_as_tensor(x.type.shape)
        self.at = n.constant(np.arange(self.rank), "axes")

    def op(self, name: str, *values: Any, attributes: Sequence[Any] = ()) -> Value:
        """Add an op; numbers among its operands become constants."""
        made: Op = REGISTRY[name](*attributes)
        operands = [v if isinstance(v, Value) else self.n.constant(np.array(v), "number") for v in values]
        result: Value = self.n.emit(made, *operands)
        return result

    def axes(self, index: int, rank: int) -> Value:
        """The axes that an input holds, ``[k]``, counted from the front."""
        given = self.n.input(index)
        flat = self.n.emit(_reshape((given.type.numel,)), self.op("cast", given, attributes=("i64",)))
        return self.op("where", self.op("less", flat, 0), self.op("add", flat, rank), flat)

    def one(self, axes: Value, i: int) -> Value:
        """One of several axes, as ``[1]``."""
        return self.op("slice", axes, attributes=((0,), (i,), (i + 1,))) if axes.type.numel > 1 else axes

    def product_where(self, where: Value, sizes: Value) -> Value:
        """The product of some of the sizes, as ``[1]``."""
        return self.op("reduce_prod", self.op("where", where, sizes, 1), attributes=((0,), True))

    def view(self, axis: Value, sizes: Value) -> Sizes:
        """The sizes of a view ``[before, size, after]`` of a tensor of these sizes, around an axis."""
        exists = self.op("and", self.op("greater_or_equal", axis, 0), self.op("less", axis, self.rank))
        parts = [self.product_where(self.op(name, self.at, axis), sizes) for name in ("less", "equal", "greater")]
        parts[0] = self.op("where", exists, parts[0], -1)
        return self.read(self.op("concat", *parts, attributes=(0,)))

    def read(self, sizes: Value) -> Sizes:
        """The integers in a tensor as sizes."""
        return self.n.builder.read_sizes(sizes)

    def kept(self, gone: Value, sizes: Value, count: int) -> Value:
        """Those ``count`` of the sizes that are not gone, in their order."""
        order = self.op("where", gone, -1, self.op("sub", self.rank - 1, self.at))
        first, _ = self.n.emit(REGISTRY["top_k"](count, 0), order)  # type: ignore[call-arg]
        return self.op("gather", sizes, self.op("sub", self.rank - 1, first), attributes=(0,))


def along_axis(n: ImportNode, index: int, op: Op) -> Value:
    """An op that works along axis 1 of three axes and keeps the shape, along the axis that an input holds instead."""
    x = n.input(0)
    shapes = Shapes(n, x)
    view = shapes.view(shapes.axes(index, shapes.rank), shapes.sizes)
    made: Value = n.emit(_reshape(x.type.shape), n.emit(op, n.emit(_reshape(view), x)))
    return made


def reduced(n: ImportNode, index: int, steps: Callable[[int], Sequence[Op]], keepdims: bool) -> Value:
    """A reduction over the axes that an input holds, one after the other.

    ``steps`` gives for their number the ops that reduce axis 1 of a tensor of three axes and keep it.
    """
    x = y = n.input(0)
    shapes = Shapes(n, x)
    axes = shapes.axes(index, shapes.rank)
    count = axes.type.numel
    sizes, gone = shapes.sizes, shapes.op("less", shapes.at, 0)
    for i, op in enumerate(steps(count)):
        axis = shapes.one(axes, i)
        y = n.emit(op, n.emit(_reshape(shapes.view(axis, sizes)), y))
        here = shapes.op("equal", shapes.at, axis)
        sizes, gone = shapes.op("where", here, 1, sizes), shapes.op("or", gone, here)
    if not keepdims and shapes.rank == count:
        wanted: Sizes = ()
    else:
        wanted = shapes.read(sizes if keepdims else shapes.kept(gone, sizes, shapes.rank - count))
    made: Value = n.emit(_reshape(wanted), y)
    return made


def sliced(n: ImportNode) -> Value:
    """A Slice along axes, or in steps, that inputs hold: elements are gathered, one axis after the other."""
    y = n.input(0)
    shapes = Shapes(n, y)
    count = n.input(1).type.numel

    def flat(index: int) -> Value:
        given = shapes.op("cast", n.input(index), attributes=("i64",))
        made: Value = n.emit(_reshape((count,)), given)
        return made

    axes = shapes.axes(3, shapes.rank) if n.optional(3) is not None else n.constant(np.arange(count), "axes")
    step = flat(4) if n.optional(4) is not None else n.constant(np.ones(count, np.int64), "steps")
    inside = shapes.op("max", shapes.op("min", axes, shapes.rank - 1), 0)
    size = shapes.op("gather", shapes.sizes, inside, attributes=(0,))
    down = shapes.op("less", step, 0)

    def bounded(index: int, low: Any, high: Value) -> Value:
        """The starts or ends, counted from the front, between bounds."""
        given = flat(index)
        counted = shapes.op("where", shapes.op("less", given, 0), shapes.op("add", given, size), given)
        return shapes.op("max", shapes.op("min", counted, high), low)

    high = shapes.op("where", down, shapes.op("sub", size, 1), size)
    first = bounded(1, 0, high)
    last = bounded(2, shapes.op("where", down, -1, 0), high)
    span, by = (shapes.op("cast", v, attributes=("f64",)) for v in (shapes.op("sub", last, first), step))
    whole = shapes.op("max", shapes.op("ceil", shapes.op("div", span, by)), 0.0)
    number = shapes.op("cast", whole, attributes=("i64",))
    number = shapes.op("where", shapes.op("equal", size, 0), 0, number)
    # the same for each axis of the tensor, of which those that are not named keep all
    column, row = n.constant(np.arange(shapes.rank)[:, None], "axes"), n.emit(_reshape((1, count)), axes)
    here = shapes.op("equal", column, row)

    def of_axes(values: Value, otherwise: Any) -> Value:
        chosen = shapes.op("reduce_sum", shapes.op("where", here, values, 0), attributes=((1,), False))
        return shapes.op("where", named, chosen, otherwise)

    named = shapes.op("reduce_max", here, attributes=((1,), False))
    exist = shapes.op("equal", inside, axes)
    exists = shapes.op("reduce_min", exist, attributes=((0,), True))
    starts, by_each = of_axes(first, 0), of_axes(step, 1)
    lengths = shapes.read(shapes.op("where", exists, of_axes(number, shapes.sizes), -1))
    for axis, length in enumerate(lengths):
        places = shapes.op("mul", shapes.one(by_each, axis), numbers(n, length))
        y = shapes.op("gather", y, shapes.op("add", shapes.one(starts, axis), places), attributes=(axis,))
    return y


def pads_of(n: ImportNode, index: int, along: int) -> Sizes:
    """The pads of all axes, as Pad takes them, of an input that holds those of some axes, which another one may hold.

    What is read are the elements before and the padded sizes, from which the elements behind follow: so the shape of
    the result consists of names.
    """
    x = n.input(0)
    shapes = Shapes(n, x)
    axes = None if n.optional(along) is None else shapes.axes(along, shapes.rank)
    count = shapes.rank if axes is None else axes.type.numel
    given = n.emit(_reshape((2, count)), shapes.op("cast", n.input(index), attributes=("i64",)))
    sides = []
    for side in range(2):
        flat = n.emit(_reshape((count,)), shapes.op("slice", given, attributes=((0,), (side,), (side + 1,))))
        pads = flat if axes is None else n.constant(np.zeros(shapes.rank, np.int64), "pads")
        for i in range(0 if axes is None else count):
            here = shapes.op("equal", shapes.at, shapes.one(axes, i))  # type: ignore[arg-type]
            pads = shapes.op("where", here, shapes.one(flat, i), pads)
        sides.append(pads)
    before, padded = sides[0], shapes.op("add", shapes.sizes, shapes.op("add", *sides))
    read = shapes.read(shapes.op("concat", before, padded, attributes=(0,)))
    firsts, wholes = read[: shapes.rank], read[shapes.rank :]
    return (*firsts, *(w - size - b for w, size, b in zip(wholes, x.type.shape, firsts, strict=True)))


def shape_of(n: ImportNode, index: int, copies: bool) -> Sizes:
    """The shape that an input holds for a Reshape: -1 follows from the rest, and with ``copies`` 0 from the operand."""
    x = n.input(0)
    shapes = Shapes(n, x)
    count = n.input(index).type.numel
    given = n.emit(_reshape((count,)), shapes.op("cast", n.input(index), attributes=("i64",)))
    if not count:
        return ()
    if copies:
        there = min(count, shapes.rank)
        parts = [shapes.op("slice", shapes.sizes, attributes=((0,), (0,), (there,)))] if there else []
        parts += [n.constant(np.full(count - there, -2), "none")] if count > there else []
        copied = shapes.op("concat", *parts, attributes=(0,)) if len(parts) > 1 else parts[0]
        given = shapes.op("where", shapes.op("equal", given, 0), copied, given)
    rest = shapes.op("equal", given, -1)
    known = shapes.op("max", shapes.op("reduce_prod", shapes.op("where", rest, 1, given), attributes=((0,), True)), 1)
    whole = shapes.op("reduce_prod", shapes.sizes, attributes=((0,), True)) if shapes.rank else 1
    return shapes.read(shapes.op("where", rest, shapes.op("div", whole, known), given))


def expanded(n: ImportNode, index: int) -> Sizes:
    """The shape to which an Expand makes its operand: where the input holds 1, the operand's size stays."""
    x = n.input(0)
    shapes = Shapes(n, x)
    count = n.input(index).type.numel
    given = n.emit(_reshape((count,)), shapes.op("cast", n.input(index), attributes=("i64",)))
    if not count:
        return ()
    aligned = n.sizes_as_tensor((*[1] * (count - shapes.rank), *x.type.shape)[-count:])
    return shapes.read(shapes.op("where", shapes.op("equal", given, 1), aligned, given))


def numbers(n: ImportNode, count: Dim, axis: int = 0, rank: int = 1) -> Value:
    """The integers from 0 on, int64, along an axis of a tensor that has size 1 along the others."""
    if isinstance(count, int):
        made: Value = n.constant(np.arange(count), "numbers")
    else:
        made = n.emit(REGISTRY["range"](count))  # type: ignore[call-arg]
    shape = [1] * axis + [count] + [1] * (rank - axis - 1)
    return made if rank == 1 else n.emit(_reshape(shape), made)


def squeezed(n: ImportNode, index: int) -> Value:
    """The first input without the axes that an input holds."""
    x = n.input(0)
    shapes = Shapes(n, x)
    axes = shapes.axes(index, shapes.rank)
    gone = shapes.op("less", shapes.at, 0)
    for i in range(axes.type.numel):
        gone = shapes.op("or", gone, shapes.op("equal", shapes.at, shapes.one(axes, i)))
    left = shapes.rank - axes.type.numel
    made: Value = n.emit(_reshape(shapes.read(shapes.kept(gone, shapes.sizes, left)) if left > 0 else ()), x)
    return made


def unsqueezed(n: ImportNode, index: int) -> Value:
    """The first input with axes of size 1 where an input says.

    The new sizes are 1 where an axis is new, and else the size of the axis that stands behind as many old ones.
    """
    x = n.input(0)
    rank = x.type.rank + n.input(index).type.numel
    shapes = Shapes(n, x)
    axes, at = shapes.axes(index, rank), n.constant(np.arange(rank), "axes")
    new, before = shapes.op("less", at, 0), n.constant(np.zeros(rank, np.int64), "before")
    exists = n.constant(np.array([True]), "true")
    for i in range(axes.type.numel):
        axis = shapes.one(axes, i)
        new = shapes.op("or", new, shapes.op("equal", at, axis))
        before = shapes.op("add", before, shapes.op("cast", shapes.op("less", axis, at), attributes=("i64",)))
        inside = shapes.op("and", shapes.op("greater_or_equal", axis, 0), shapes.op("less", axis, rank))
        exists = shapes.op("and", exists, inside)
    old = shapes.op("max", shapes.op("min", shapes.op("sub", at, before), max(shapes.rank - 1, 0)), 0)
    sizes = shapes.sizes if shapes.rank else n.constant(np.ones(1, np.int64), "one")
    wanted = shapes.op("where", new, 1, shapes.op("gather", sizes, old, attributes=(0,)))
    made: Value = n.emit(_reshape(shapes.read(shapes.op("where", exists, wanted, -1))), x)
    return made
