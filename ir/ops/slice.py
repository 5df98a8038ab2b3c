"""Strided slices. A split becomes several slices, so that each part can be read where it is used."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np

from ..errors import ShapeError, plural
from ..graph import Value
from ..layout import Layout
from ..lowering import Operand, TensorExpressions
from ..onnx_io import ExportNode, ImportNode, exports, imports
from ..op import Case, Op, boolean, f16, f32, i64, sample
from ..sizes import Dim, Sizes, bounds, largest, least, same
from ..types import TensorType
from ._axes import Ints, axes_of, axis_of, size_of
from ._read_axes import is_read, sliced
from .binary import Add, Max, Min
from .cast import Cast
from .compare import Less
from .where import Where

END = (1 << 63) - 1
"""An end that is greater than every size."""


@dataclass(frozen=True)
class Slice(Op):
    """``x[starts:ends:steps]`` along ``axes``; ONNX Slice-13.

    Negative starts and ends count from the end, as in Python, except that with a negative step a start before the first
    element means the first. An empty ``steps`` means steps of 1. ONNX Split becomes one slice per part.
    """

    name = "slice"
    moves_elements = True
    rounds = False
    injective = True
    axes: Ints = ()
    starts: Sizes = ()
    ends: Sizes = ()
    steps: Ints = ()

    def infer(self, *types: TensorType) -> TensorType:
        (x,) = types
        shape = list(x.shape)
        for axis, start, end, step in self._cuts(x.rank):
            shape[axis] = _kept(shape[axis], start, end, step)
        return x.with_shape(shape)

    def places(self, x: TensorType, axis: int) -> range | None:
        """The positions that are kept of an axis, counted from the front; ``None`` keeps all.

        Raises ``ShapeError`` when they depend on sizes that are open.
        """
        if self.keeps(x, axis):
            return None
        begin, stop, step = self._cut(x.rank, axis)
        size, start, end = size_of(x, axis), int(begin), int(stop)
        return range(size)[slice(max(start, -size) if step < 0 else start, end, step)]

    def knows(self, x: TensorType, axis: int) -> bool:
        """Whether the positions that are kept of an axis are known: ``places`` gives them."""
        begin, end, _ = self._cut(x.rank, axis)
        return self.keeps(x, axis) or all(isinstance(d, int) for d in (x.shape[axis], begin, end))

    def _kept_of(self, x: TensorType, axis: int) -> tuple[Dim, int] | None:
        """The first position that is kept of an axis, and the step to the next one; ``None`` where all are kept."""
        begin, end, step = self._cut(x.rank, axis)
        if self.keeps(x, axis):
            return None
        if all(isinstance(d, int) for d in (x.shape[axis], begin, end)) and (places := self.places(x, axis)):
            return places.start, places.step
        return _position(x.shape[axis], begin, step), step

    def keeps(self, x: TensorType, axis: int) -> bool:
        """Whether all positions of an axis are kept, whatever an open size will be."""
        return _keeps_all(x.shape[axis], *self._cut(x.rank, axis))

    def _cut(self, rank: int, axis: int) -> tuple[Dim, Dim, int]:
        """Start, end and step of an axis."""
        cuts = {a: (start, end, step) for a, start, end, step in self._cuts(rank)}
        return cuts.get(axis, (0, END, 1))

    def _cuts(self, rank: int) -> list[tuple[int, Dim, Dim, int]]:
        """Axis, start, end and step of each axis that is cut."""
        steps = self.steps or (1,) * len(self.axes)
        if not len(self.axes) == len(self.starts) == len(self.ends) == len(steps):
            raise ShapeError("axes, starts, ends and steps must be equally many")
        if 0 in steps:
            raise ShapeError("steps must not be zero")
        axes_of(self.axes, rank)
        axes = [axis_of(a, rank) for a in self.axes]
        return list(zip(axes, self.starts, self.ends, steps, strict=True))

    def compute(self, k: TensorExpressions, xs: Sequence[Operand], outs: Sequence[TensorType]) -> Any:
        (x,) = xs
        kept = [self._kept_of(x.type, axis) for axis in range(x.type.rank)]

        def element(*i: Any) -> Any:
            return x(*(j if r is None else j * r[1] + r[0] for j, r in zip(i, kept, strict=True)))

        return k.compute(outs[0], element, "slice", mask=True)

    def layouts(self, inputs: Sequence[TensorType], layout: Layout) -> bool:
        return inputs[0].rank == layout.rank and all(
            self.knows(inputs[0], a)
            and (
                (places := self.places(inputs[0], a)) is None
                or (places.step == 1 and places.start % layout.block(a) == 0)
            )
            for a in range(layout.rank)
            if layout.block(a) > 1
        )

    @classmethod
    def cases(cls) -> Iterator[Case]:
        yield sample(cls((2, 3), (1, -3), (4, END)), f32[1, 2, 5, 7])
        yield sample(cls((0, -1), (-1, 6), (-END, 0), (-1, -2)), f16[3, 7])
        yield sample(cls((1,), (1,), (100,), (3,)), i64[2, 9, 2])
        yield sample(cls((0, 1), (0, -100), (2, -1)), boolean[4, 4])
        yield sample(cls((0,), (3,), (2,)), f32[4, 2])


@imports("Slice", "Split", folds=True)
def _import_slice(n: ImportNode) -> Any:
    if n.op_type == "Split":
        return _split(n)
    x = n.input(0)
    if n.opset >= 10 and (is_read(n, 3) or is_read(n, 4)):
        return sliced(n)
    axes, steps = n.ints_from("axes", 3), n.ints(4, "steps")
    if steps is None or min(steps, default=1) > 0:
        _count_from_front(n, 1, axes)
        _count_from_front(n, 2, axes)
    starts, ends = n.sizes_from("starts", 1), n.sizes_from("ends", 2)
    if starts is None or ends is None:
        raise n.error("its starts or ends are missing")
    axes = tuple(range(len(starts))) if axes is None else axes
    steps = (1,) * len(axes) if steps is None else steps
    if not len(starts) == len(ends) == len(axes) == len(steps):
        raise n.error("starts, ends, axes and steps differ in length")
    shape = x.type.shape
    kept = [
        (axis, start, end, step)
        for axis, start, end, step in zip(axes, starts, ends, steps, strict=True)
        if not (-len(shape) <= axis < len(shape) and _keeps_all(shape[axis], start, end, step))
    ]
    if not kept:
        return x
    axes, starts, ends, steps = zip(*kept, strict=True)
    return n.emit(Slice(axes, starts, ends, () if set(steps) == {1} else steps), x)


def _count_from_front(n: ImportNode, index: int, axes: Sequence[int] | None) -> None:
    """Take for starts or ends that data decides the positions that they mean, counted from the front."""
    given, shape = n.optional(index), n.input(0).type.shape
    if given is None or n.builder.known_sizes(given) is not None or not n.is_data(given, integers=True):
        return
    wide = given if given.type.dtype == "i64" else n.emit(Cast("i64"), given)
    sizes = shape[: given.type.numel] if axes is None else [shape[axis_of(a, len(shape))] for a in axes]
    whole, zero = n.sizes_as_tensor(sizes), n.constant(np.array(0))
    before = n.emit(Where(), n.emit(Less(), wide, zero), n.emit(Add(), wide, whole), wide)
    at = n.emit(Max(), n.emit(Min(), before, whole), zero)
    n.builder.read_sizes(at, largest(*sizes))
    n.inputs[index] = at


@exports(Slice)
def _export_slice(op: Slice, n: ExportNode) -> None:
    lists = [op.starts, op.ends, op.axes, *([op.steps] if op.steps else [])]
    n.node("Slice", [n.inputs[0], *map(n.ints, lists)], n.outputs)


def _keeps_all(size: Dim, start: Dim, end: Dim, step: int) -> bool:
    """Whether a slice keeps an axis whole, whatever an open size will be."""
    begins = start == 0 or bounds(-size - start)[0] >= 0
    return step == 1 and begins and bounds(end - size)[0] >= 0


def _kept(size: Dim, start: Dim, end: Dim, step: int) -> Dim:
    """How many elements a slice keeps of an axis; ONNX Slice-13."""
    if _keeps_all(size, start, end, step):
        return size
    if isinstance(size, int) and isinstance(start, int) and isinstance(end, int):
        return len(range(size)[slice(max(start, -size) if step < 0 else start, end, step)])
    first, last = (_position(size, at, step) for at in (start, end))
    distance = last - first if step > 0 else first - last
    return largest(0, -(-distance // abs(step)))


def _position(size: Dim, at: Dim, step: int) -> Dim:
    """A start or end counted from the front, within the axis."""
    low, high = (0, size) if step > 0 else (-1, size - 1)
    return largest(low, least(at + size if at < 0 else at, high))


def _split(n: ImportNode) -> list[Value]:
    """Import Split-18 and older, with sizes by attribute, by input, or as equal as ``num_outputs`` allows."""
    x, count = n.input(0), len(n.proto.output)
    axis = axis_of(n.attr("axis", 0), x.type.rank)
    sizes = n.sizes_from("split", 1)
    total = x.type.shape[axis]
    if sizes is None:
        if n.attr("num_outputs", count) != count:
            raise n.error(f"num_outputs is {n.attr('num_outputs')}, but it has {plural(count, 'output')}")
        part = -(-total // count)
        sizes = (part,) * (count - 1) + (total - part * (count - 1),)
    if len(sizes) != count or not same(sum(sizes), total) or any(d < 0 for d in sizes):
        raise n.error(f"size {total} on axis {axis} cannot be split into {list(sizes)} for {plural(count, 'output')}")
    if count == 1:
        return [x]
    ends = list(accumulate(sizes))
    return [n.emit(Slice((axis,), (end - size,), (end,)), x) for size, end in zip(sizes, ends, strict=True)]
