"""Selection of slices by tuples of indices."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import ShapeError, plural
from ..lowering import Operand, TensorExpressions
from ..onnx_io import onnx_op
from ..op import Case, Op, boolean, f32, i64, sample
from ..sizes import same
from ..types import TensorType
from ._axes import check_asked, check_index, data_index, size_of


@onnx_op("GatherND", folds=True)
@dataclass(frozen=True)
class GatherND(Op):
    """``y[b, i] = x[b, *indices[b, i]]``, where ``b`` are the first ``batch_dims`` axes; ONNX GatherND-13.

    The last axis of the indices holds tuples of positions on the axes after ``b``; axes beyond the length of the tuple
    are kept whole. Indices are int64; negative ones count from the end.
    """

    name = "gather_nd"
    rounds = False
    injective = True
    batch_dims: int = 0

    def infer(self, *types: TensorType) -> TensorType:
        x, indices = types
        batch = self.batch_dims
        check_index(indices)
        if not 0 <= batch < min(indices.rank, x.rank):
            raise ShapeError(f"batch_dims {batch} must be less than both ranks, {x.rank} and {indices.rank}")
        depth = size_of(indices, indices.rank - 1)
        if not 1 <= depth <= x.rank - batch:
            raise ShapeError(
                f"index tuples of {depth} do not fit the {plural(x.rank - batch, 'axis', 'axes')} of {x} after the "
                "batch"
            )
        if not all(same(a, b) for a, b in zip(x.shape[:batch], indices.shape[:batch], strict=True)):
            raise ShapeError(f"data {x} and indices {indices} differ in their batch axes")
        for axis in range(batch, batch + depth):
            check_asked(x, axis, indices)
        return TensorType(x.dtype, (*indices.shape[:-1], *x.shape[batch + depth :]))

    def compute(self, k: TensorExpressions, xs: Sequence[Operand], outs: Sequence[TensorType]) -> Any:
        x, indices = xs
        batch, tuples = self.batch_dims, indices.type.rank - 1

        def element(*i: Any) -> Any:
            at = [data_index(k, indices(*i[:tuples], j), x.shape[batch + j]) for j in range(indices.shape[-1])]
            return x(*i[:batch], *at, *i[tuples:])

        return k.compute(outs[0], element, "gather_nd")

    @classmethod
    def cases(cls) -> Iterator[Case]:
        yield sample(cls(), f32[2, 3], np.array([[0, 0], [-1, 2]]))
        yield sample(cls(), i64[2, 3, 2], np.array([[[1]], [[0]]]))
        yield sample(cls(1), f32[2, 3, 2], np.array([[-1], [0]]))
        yield sample(cls(1), boolean[2, 2, 3], np.array([[[1, 2], [0, -1]], [[0, 0], [1, 1]]]))
