"""Matrix products of stacks of matrices."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from ..dtypes import FLOATS, dtype_names
from ..errors import ShapeError
from ..lowering import Operand, TensorExpressions
from ..onnx_io import onnx_op
from ..op import Case, Op, f16, f32, f64, i32, i64, sample
from ..sizes import same
from ..types import TensorType, broadcast
from ._accumulate import accumulator, rounded

DTYPES = (*FLOATS, "i32", "i64", "u32", "u64")
"""The dtypes that ONNX MatMul and Gemm take."""


@onnx_op("MatMul")
class MatMul(Op):
    """The product ``numpy.matmul(a, b)``; ONNX MatMul-13.

    The last two axes hold matrices, the axes before them broadcast, and a 1-D operand is a vector.
    """

    name = "matmul"
    contraction = True

    def infer(self, *types: TensorType) -> TensorType:
        a, b = types
        if a.dtype != b.dtype or a.dtype not in DTYPES:
            raise ShapeError(
                f"takes operands of one dtype out of {dtype_names(*DTYPES)}, not {dtype_names(a.dtype)} and "
                f"{dtype_names(b.dtype)}"
            )
        if not a.rank or not b.rank:
            raise ShapeError("takes no scalars")
        inner = b.shape[-2 if b.rank > 1 else 0]
        if not same(a.shape[-1], inner):
            raise ShapeError(f"the inner sizes {a.shape[-1]} and {inner} differ")
        batch = broadcast(a.shape[:-2], b.shape[:-2])
        rows = a.shape[-2:-1]
        columns = b.shape[-1:] if b.rank > 1 else ()
        return TensorType(a.dtype, (*batch, *rows, *columns))

    def compute(self, k: TensorExpressions, xs: Sequence[Operand], outs: Sequence[TensorType]) -> Any:
        a, b = xs
        acc = accumulator(outs[0])
        rk = k.reduce_axis(a.shape[-1], "rk")
        matrix_axes = (a.type.rank > 1) + (b.type.rank > 1)

        def stacked(x: Operand, batch: Sequence[Any]) -> list[Any]:
            """The index of the batch axes of ``x``, given that of the result; axes of size 1 are broadcast."""
            sizes = x.shape[:-2]
            return [0 if size == 1 else i for size, i in zip(sizes, batch[len(batch) - len(sizes) :], strict=True)]

        def element(*index: Any) -> Any:
            batch = index[: len(index) - matrix_axes]
            row = index[len(batch) : len(batch) + (a.type.rank > 1)]
            column = index[len(index) - (b.type.rank > 1) :]
            left = a(*stacked(a, batch), *row, rk)
            right = b(*stacked(b, batch), rk, *column)
            return k.te.sum(left.astype(acc.tvm_dtype) * right.astype(acc.tvm_dtype), axis=rk)

        return rounded(k, k.operand(k.compute(acc, element, "matmul"), acc), outs[0])

    def flops(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> int:
        return 2 * outputs[0].numel * inputs[0].sizes[-1]

    @classmethod
    def cases(cls) -> Iterator[Case]:
        yield sample(cls(), f32[3, 5], f32[5, 7])
        yield sample(cls(), f32[2, 1, 3, 5], f32[4, 5, 2])
        yield sample(cls(), f32[5], f32[5])
        yield sample(cls(), f32[5], f32[2, 5, 3])
        yield sample(cls(), f32[2, 3, 5], f32[5])
        yield sample(cls(), f16[2, 3, 40], f16[2, 40, 5])
        yield sample(cls(), f64[3, 5], f64[5, 1])
        for x in (i32, i64):
            yield sample(cls(), x[2, 3, 5], x[5, 4], low=-99, high=99)
