"""Joining tensors along an axis."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from ..errors import ShapeError
from ..layout import Layout
from ..lowering import Operand, TensorExpressions
from ..onnx_io import ImportNode, imports, onnx_op
from ..op import Case, Op, boolean, f32, i64, sample
from ..sizes import Dim, same
from ..types import TensorType, simplest
from ._axes import axis_of


@onnx_op("Concat")
@dataclass(frozen=True)
class Concat(Op):
    """The operands joined along ``axis``; ONNX Concat-13.

    All operands have one dtype, rank and layout, and the same size on every other axis.
    """

    name = "concat"
    rounds = False
    injective = True
    axis: int = 1

    def infer(self, *types: TensorType) -> TensorType:
        if not types:
            raise ShapeError("takes at least one operand")
        axis = axis_of(self.axis, types[0].rank)
        if len({(t.dtype, t.rank, t.layout) for t in types}) > 1:
            raise ShapeError("operands differ in dtype, rank or layout")
        shape = [_common([t.shape[a] for t in types], a) if a != axis else 0 for a in range(types[0].rank)]
        shape[axis] = types[0].shape[axis] if len(types) == 1 else sum(t.shape[axis] for t in types)
        return types[0].with_shape(shape)

    def compute(self, k: TensorExpressions, xs: Sequence[Operand], outs: Sequence[TensorType]) -> Any:
        axis = axis_of(self.axis, outs[0].rank)
        xs = [x for x in xs if x.shape[axis]]
        starts = [0, *accumulate(x.shape[axis] for x in xs)]

        def element(*i: Any) -> Any:
            def pick(low: int, high: int) -> Any:
                """The element, which lies in one of the operands ``low`` to ``high - 1``, found by binary search."""
                if high - low == 1:
                    return xs[low](*i[:axis], i[axis] - starts[low], *i[axis + 1 :])
                middle = (low + high) // 2
                return k.guarded(i[axis] < starts[middle], pick(low, middle), pick(middle, high))

            return pick(0, len(xs))

        block = outs[0].layout.block(axis) if outs[0].layout else 1
        between = all(start % block == 0 for start in starts[:-1])  # the boundaries fall between blocks
        return k.compute(outs[0], element, "concat", guard=not between)

    def layouts(self, inputs: Sequence[TensorType], layout: Layout) -> bool:
        return all(t.rank == layout.rank for t in inputs)

    @classmethod
    def cases(cls) -> Iterator[Case]:
        yield sample(cls(), f32[1, 3, 4, 5], f32[1, 2, 4, 5], f32[1, 7, 4, 5])
        yield sample(cls(-1), i64[2, 3], i64[2, 1])
        yield sample(cls(0), boolean[2], boolean[3])
        yield sample(cls(0), f32[1], f32[1], f32[1], f32[1], f32[1])
        yield sample(cls(1), f32[2, 0, 3], f32[2, 2, 3])


@imports("Concat", folds=True)
def _import_concat(n: ImportNode) -> Any:
    axis = n.attr("axis", 1 if n.opset < 4 else None)
    if axis is None:
        raise n.error("attribute 'axis' is missing")
    inputs = n.present_inputs()
    return inputs[0] if len(inputs) == 1 else n.emit(Concat(axis), *inputs)


def _common(sizes: Sequence[Dim], axis: int) -> Dim:
    """The size that all operands have in common."""
    if all(s == sizes[0] for s in sizes):
        return sizes[0]
    known = simplest(sizes)
    if not all(same(known, s) for s in sizes):
        raise ShapeError(f"operands differ in size on axis {axis}: {', '.join(map(str, sizes))}")
    return known
