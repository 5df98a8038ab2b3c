"""Selection along an axis by indices."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..lowering import Operand, TensorExpressions
from ..onnx_io import ImportNode, imports, onnx_op
from ..op import Case, Op, boolean, f16, f32, i64, sample
from ..types import TensorType
from ._axes import axis_of, check_asked, check_index, data_index
from .non_zero import NonZero
from .reshape import Reshape


@onnx_op("Gather", folds=True)
@dataclass(frozen=True)
class Gather(Op):
    """``x[..., indices, ...]``: the elements of ``axis`` at the indices, in the shape of the indices; ONNX Gather-13.

    Indices are int32 or int64; negative ones count from the end. ONNX Compress becomes this op.
    """

    name = "gather"
    rounds = False
    injective = True
    axis: int = 0

    def infer(self, *types: TensorType) -> TensorType:
        x, indices = types
        axis = axis_of(self.axis, x.rank)
        check_index(indices)
        check_asked(x, axis, indices)
        return TensorType(x.dtype, (*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :]))

    def compute(self, k: TensorExpressions, xs: Sequence[Operand], outs: Sequence[TensorType]) -> Any:
        x, indices = xs
        axis = axis_of(self.axis, x.type.rank)
        end = axis + indices.type.rank

        def element(*i: Any) -> Any:
            return x(*i[:axis], data_index(k, indices(*i[axis:end]), x.shape[axis]), *i[end:])

        return k.compute(outs[0], element, "gather")

    @classmethod
    def cases(cls) -> Iterator[Case]:
        yield sample(cls(), f32[5, 3], np.array([0, -1, 4, 2, -5]))
        yield sample(cls(1), f16[2, 5, 3], np.array([[0, 4], [-2, 1]], np.int32))
        yield sample(cls(-1), i64[4, 3], np.array(1))
        yield sample(cls(2), boolean[1, 2, 4], np.array([[3]]))
        yield sample(cls(), f32[3], np.zeros((2, 0), np.int64))


@imports("Compress", folds=True)
def _import_compress(n: ImportNode) -> Any:
    """Import Compress as a gather at the indices where its condition holds."""
    x, axis, condition = n.input(0), n.attr("axis"), n.input(1)
    if axis is None:
        x, axis = n.emit(Reshape((-1,)), x), 0
    known = n.builder.constant_of(condition)
    if known is not None:
        return n.emit(Gather(axis), x, n.constant(np.flatnonzero(known), "indices"))
    return n.emit(Gather(axis), x, n.emit(Reshape((-1,)), n.emit(NonZero(), condition)))
