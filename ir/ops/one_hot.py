"""Indices as indicator vectors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import ShapeError
from ..lowering import Operand, TensorExpressions
from ..onnx_io import ExportNode, ImportNode, exports, imports
from ..op import Case, Op, f32, sample
from ..sizes import Dim, same_shape
from ..types import TensorType
from ._axes import axis_of
from ._math import truncated
from .cast import Cast


@dataclass(frozen=True)
class OneHot(Op):
    """A new axis of size ``depth`` that holds ``values[1]`` at the index and ``values[0]`` elsewhere; ONNX OneHot-11.

    Operands are the indices, of any numeric dtype, and the two values. Negative indices count from the end; those out
    of range give ``values[0]`` everywhere.
    """

    name = "one_hot"
    rounds = False
    injective = True
    depth: Dim = 1
    axis: int = -1

    def infer(self, *types: TensorType) -> TensorType:
        indices, values = types
        if not same_shape(values.shape, (2,)) or self.depth < 0 or indices.dtype == "bool":
            raise ShapeError(f"takes numeric indices and two values, and a depth of at least 0, not {self.depth}")
        axis = axis_of(self.axis, indices.rank + 1)
        return TensorType(values.dtype, (*indices.shape[:axis], self.depth, *indices.shape[axis:]))

    def compute(self, k: TensorExpressions, xs: Sequence[Operand], outs: Sequence[TensorType]) -> Any:
        indices, values = xs
        axis = axis_of(self.axis, outs[0].rank)

        def element(*i: Any) -> Any:
            given = indices(*i[:axis], *i[axis + 1 :])
            hot = truncated(k, given, "int64") if indices.type.is_float else given.astype("int64")
            here = i[axis].astype("int64")
            return k.select(k.tirx.any(hot == here, hot == here - k.const(self.depth, "int64")), values(1), values(0))

        return k.compute(outs[0], element, "one_hot")

    @classmethod
    def cases(cls) -> Iterator[Case]:
        yield sample(cls(4), np.array([0, 3, -1, 1]), f32[2])
        yield sample(cls(3, 0), np.array([[2, -3], [0, 1]]), np.array([2, 5]))
        floats = np.array([[2.0, -3.0], [0.0, 1.0]], np.float32)
        yield sample(
            cls(3, 1), floats, f32[2], oracle="reference", note="ONNX Runtime wants the depth in the same dtype"
        )
        yield sample(cls(3), np.array([3, 5, -4, 0]), f32[2])


@imports("OneHot", folds=True)
def _import_one_hot(n: ImportNode) -> Any:
    given = n.input(1)
    if given.type.is_float and n.builder.constant_of(given) is None and n.is_data(given):
        n.inputs[1] = n.emit(Cast("i64"), given)
    depth = n.sizes(1, "depth")
    if depth is None or len(depth) != 1:
        raise n.error("its depth must be one number")
    return n.emit(OneHot(depth[0], n.attr("axis", -1)), n.input(0), n.input(2))


@exports(OneHot)
def _export_one_hot(op: OneHot, n: ExportNode) -> None:
    depth = n.constant(np.array(op.depth, np.int64), "depth")
    n.node("OneHot", [n.inputs[0], depth, n.inputs[1]], n.outputs, axis=op.axis)
