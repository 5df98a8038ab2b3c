"""Selection of single elements along an axis."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import ShapeError
from ..lowering import Operand, TensorExpressions
from ..onnx_io import onnx_op
from ..op import Case, Op, f16, f32, i64, sample
from ..types import TensorType
from ._axes import axis_of, check_asked, check_index, data_index


@onnx_op("GatherElements", folds=True)
@dataclass(frozen=True)
class GatherElements(Op):
    """``y[i] = x[i]`` with ``i[axis]`` replaced by ``indices[i]``; ONNX GatherElements-13.

    Indices are int32 or int64; negative ones count from the end. They have the rank of x, and no larger sizes on other
    axes.
    """

    name = "gather_elements"
    rounds = False
    injective = True
    axis: int = 0

    def infer(self, *types: TensorType) -> TensorType:
        x, indices = types
        axis = axis_of(self.axis, x.rank)
        check_index(indices)
        check_asked(x, axis, indices)
        sizes = zip(indices.shape, x.shape, strict=True)
        if any(a != axis and i > d for a, (i, d) in enumerate(sizes)):
            raise ShapeError(f"indices {indices} reach beyond the data {x}")
        return TensorType(x.dtype, indices.shape)

    def compute(self, k: TensorExpressions, xs: Sequence[Operand], outs: Sequence[TensorType]) -> Any:
        x, indices = xs
        axis = axis_of(self.axis, x.type.rank)

        def element(*i: Any) -> Any:
            return x(*i[:axis], data_index(k, indices(*i), x.shape[axis]), *i[axis + 1 :])

        return k.compute(outs[0], element, "gather_elements")

    @classmethod
    def cases(cls) -> Iterator[Case]:
        yield sample(cls(), f32[3, 3], np.array([[1, -2, 0], [2, 0, 0]]))
        yield sample(cls(1), f16[2, 4], np.array([[0, -1, 3, 3, 2], [1, 1, -4, 0, 0]], np.int32))
        yield sample(cls(-2), i64[2, 3, 2], np.array([[[2, 0]], [[1, -1]]]))
