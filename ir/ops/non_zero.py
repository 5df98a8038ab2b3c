"""The indices of elements that are not zero."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ..dtypes import COMPUTED
from ..errors import ShapeError
from ..loops import Memory, block, loop, loop_nest, when
from ..lowering import Operand, TensorExpressions
from ..onnx_io import ExportNode, exports, onnx_op
from ..op import Case, Op, boolean, f32, i64, sample
from ..sizes import product
from ..types import TensorType
from .cast import Cast


@onnx_op("NonZero", folds=True)
class NonZero(Op):
    """The index of each element that is not zero, one per column, in row-major order; ONNX NonZero-13.

    The results are int64 of shape ``rank n``, for n elements in all, and the number of its columns in use. The other
    columns are 0.
    """

    on_gpu = False
    name = "non_zero"
    counted = 1

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        (x,) = types
        if not x.rank or x.dtype not in COMPUTED:
            raise ShapeError(f"takes an operand of rank 1 or more of {', '.join(COMPUTED)}, not {x}")
        return TensorType("i64", (x.rank, product(x.shape))), TensorType("i64", (1,))

    def compute(self, k: TensorExpressions, xs: Sequence[Operand], outs: Sequence[TensorType]) -> Any:
        shape = xs[0].shape
        count = product(shape)
        if count == 0:
            return [k.compute(t, lambda *_: k.const(0, "int64")) for t in outs]

        def body(ins: Sequence[Memory], results: Sequence[Memory]) -> Any:
            (x,), (y, found) = ins, results

            def element(at: Any) -> Any:
                index = [at // product(shape[a + 1 :]) % d for a, d in enumerate(shape)]
                kept = [y.store(j.astype("int64"), a, found(0).astype("int32")) for a, j in enumerate(index)]
                keep = block(k, *kept, found.store(found(0) + k.like(1, found(0)), 0))
                return when(k, Cast("bool").scalar(k, x(*index)), keep)

            zero = k.const(0, "int64")
            clear = loop(k, count, lambda j: block(k, *(y.store(zero, a, j) for a in range(len(shape)))))
            return block(k, found.store(zero, 0), clear, loop(k, count, element))

        return [r.tensor for r in loop_nest(k, outs, xs, body, self.name)]

    @classmethod
    def cases(cls) -> Iterator[Case]:
        yield sample(cls(), np.array([[0, 1.5, 0], [-2, 0, np.nan]], np.float32))
        yield sample(cls(), i64[2, 3, 4], low=0, high=1)
        yield sample(cls(), boolean[7])
        yield sample(cls(), np.zeros((3, 2), np.int32))
        yield sample(cls(), f32[2, 0, 3])


@exports(NonZero)
def _export_non_zero(op: NonZero, n: ExportNode) -> None:
    n.node("NonZero", n.inputs, n.outputs[:1])
    n.node("Shape", n.outputs[:1], n.outputs[1:], start=1, end=2)
