"""Reversal of sequences of different lengths."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import ShapeError
from ..lowering import Operand, TensorExpressions
from ..onnx_io import onnx_op
from ..op import Case, Op, f32, i64, sample
from ..sizes import same
from ..types import TensorType
from ._axes import check_index, data_number


@onnx_op("ReverseSequence")
@dataclass(frozen=True)
class ReverseSequence(Op):
    """Each sequence with its first ``lengths[b]`` elements reversed; ONNX ReverseSequence-10.

    Operands: data, and lengths for its ``batch_axis``, of which those out of range count as the nearest in range. The
    sequences lie along ``time_axis``; these axes are 0 and 1.
    """

    name = "reverse_sequence"
    injective = True
    batch_axis: int = 1
    time_axis: int = 0

    def infer(self, *types: TensorType) -> TensorType:
        x, lengths = types
        check_index(lengths)
        if sorted((self.batch_axis, self.time_axis)) != [0, 1] or x.rank < 2:
            raise ShapeError(f"axes {self.batch_axis} and {self.time_axis} must be 0 and 1, of data of rank 2 or more")
        if lengths.rank != 1 or not same(lengths.shape[0], x.shape[self.batch_axis]):
            raise ShapeError(f"lengths {lengths} must be one for each of the {x.shape[self.batch_axis]} sequences")
        return x

    def compute(self, k: TensorExpressions, xs: Sequence[Operand], outs: Sequence[TensorType]) -> Any:
        x, lengths = xs
        steps = x.shape[self.time_axis]

        def element(*i: Any) -> Any:
            t, length = i[self.time_axis], data_number(k, lengths(i[self.batch_axis]), 0, steps)
            at = list(i)
            at[self.time_axis] = k.select(t < length, length - 1 - t, t)
            return x(*at)

        return k.compute(outs[0], element, self.name)

    @classmethod
    def cases(cls) -> Iterator[Case]:
        yield sample(cls(), f32[4, 3, 2], np.array([2, 4, 1]))
        yield sample(cls(0, 1), f32[2, 5], np.array([0, 3]))
        yield sample(cls(), i64[3, 2], np.array([3, 2]), oracle="both")
