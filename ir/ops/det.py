"""Determinants."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ..errors import ShapeError
from ..loops import Memory, block, loop, loop_nest, when
from ..lowering import Operand, TensorExpressions
from ..onnx_io import onnx_op
from ..op import Case, Op, f32, f64, sample
from ..sizes import Dim, product, same
from ..types import TensorType


@onnx_op("Det")
class Det(Op):
    """The determinants of stacks of square matrices ``... M M``; ONNX Det-22.

    They are computed by Gaussian elimination with row pivots, in float64.
    """

    name = "det"

    def infer(self, *types: TensorType) -> TensorType:
        (x,) = types
        if not x.is_float or x.rank < 2 or not same(x.shape[-1], x.shape[-2]):
            raise ShapeError(f"takes square matrices of floats, not {x}")
        return x.with_shape(x.shape[:-2])

    def compute(self, k: TensorExpressions, xs: Sequence[Operand], outs: Sequence[TensorType]) -> Any:
        x, out = xs[0], outs[0]
        size, count = x.shape[-1], product(x.shape[:-2])
        flat = TensorType("f64", (count, size, size))

        def given(b: Any, i: Any, j: Any) -> Any:
            batch = [b // product(x.shape[a + 1 : -2]) % x.shape[a] for a in range(x.type.rank - 2)]
            return x(*batch, i, j).astype("float64")

        matrices = k.operand(k.compute(flat, given), flat)
        results = flat.with_shape((count,))

        def body(ins: Sequence[Memory], made: Sequence[Memory]) -> Any:
            return loop(k, count, lambda b: _eliminate(k, b, size, ins[0], *made), parallel=count != 1)

        kept = [results, flat, TensorType("i32", (count,)), results]
        y = loop_nest(k, kept, [matrices], body, self.name)[0]

        def result(*i: Any) -> Any:
            b = 0
            for j, d in zip(i, out.shape, strict=True):
                b = b * d + j
            return y(b).astype(out.tvm_dtype)

        return k.compute(out, result)

    def flops(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> int:
        return inputs[0].numel * inputs[0].sizes[-1]

    @classmethod
    def cases(cls) -> Iterator[Case]:
        yield sample(cls(), f32[4, 4])
        yield sample(cls(), f64[2, 3, 5, 5], oracle="reference", note="ONNX Runtime has no float64 Det")
        yield sample(cls(), f32[3, 1, 1])
        singular = np.array([[[0, 2], [3, 4]], [[1, 2], [2, 4]], [[0, 0], [0, 0]]], np.float32)
        yield sample(cls(), singular)


def _eliminate(
    k: TensorExpressions, b: Any, size: Dim, x: Memory, det: Memory, a: Memory, pivot: Memory, kept: Memory
) -> Any:
    """The statement that computes ``det[b]`` of matrix b, with ``a`` as its working memory."""

    def column(c: Any) -> Any:
        def find(i: Any) -> Any:
            larger = k.tirx.abs(a(b, c + i, c)) > k.tirx.abs(a(b, pivot(b), c))
            return when(k, larger, pivot.store(c + i, b))

        def swap(j: Any) -> Any:
            return block(
                k, kept.store(a(b, c, j), b), a.store(a(b, pivot(b), j), b, c, j), a.store(kept(b), b, pivot(b), j)
            )

        def below(i: Any) -> Any:
            row = c + 1 + i
            factor = kept.store(a(b, row, c) / a(b, c, c), b)
            rest = loop(
                k,
                size - 1 - c,
                lambda j: a.store(a(b, row, c + 1 + j) - kept(b) * a(b, c, c + 1 + j), b, row, c + 1 + j),
            )
            return block(k, factor, rest)

        zero = k.const(0, "float64")
        return block(
            k,
            pivot.store(c, b),
            loop(k, size - c, find),
            when(k, pivot(b) > c, block(k, det.store(-det(b), b), loop(k, size, swap))),
            det.store(det(b) * a(b, c, c), b),
            when(k, k.tirx.NE(a(b, c, c), zero), loop(k, size - 1 - c, below)),
        )

    copy = loop(k, size, lambda i: loop(k, size, lambda j: a.store(x(b, i, j), b, i, j)))
    return block(k, copy, det.store(k.const(1, "float64"), b), loop(k, size, column))
