"""Pooling over all spatial axes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import ShapeError
from ..layout import Layout
from ..lowering import Operand, TensorExpressions
from ..onnx_io import ExportNode, ImportNode, exports, imports, onnx_op
from ..op import Case, Op, f16, f32, f64, sample
from ..sizes import product
from ..types import TensorType
from ._accumulate import accumulator, mean, power, root, rounded
from ._reducers import maximum
from .lp_pool import check_order, onnx_order


class GlobalPool(Op):
    """A pooling of each channel of each sample to one element: ``N C spatial`` to ``N C 1...1``, in any layout."""

    def infer(self, *types: TensorType) -> TensorType:
        (x,) = types
        if x.rank < 3 or not x.is_float:
            raise ShapeError("takes float data of rank 3 or more")
        return x.with_shape((*x.shape[:2], *(1,) * (x.rank - 2)))

    def flops(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> int:
        return inputs[0].numel

    def layouts(self, inputs: Sequence[TensorType], layout: Layout) -> bool:
        return layout.rank == inputs[0].rank

    @classmethod
    def cases(cls) -> Iterator[Case]:
        yield sample(cls(), f32[2, 3, 5, 7])
        yield sample(cls(), f16[1, 3, 4, 4])
        yield sample(cls(), f64[1, 3, 4, 4], oracle="reference", note="ONNX Runtime has no float64 global pooling")


@onnx_op("GlobalAveragePool")
class GlobalAveragePool(GlobalPool):
    """``y[n,c] = mean of x[n,c]``; ONNX GlobalAveragePool-22."""

    name = "global_average_pool"

    def compute(self, k: TensorExpressions, xs: Sequence[Operand], outs: Sequence[TensorType]) -> Any:
        (x,) = xs
        acc = accumulator(outs[0])
        if len(x.shape) == 3 or x.type.is_empty:
            return rounded(k, mean(k, acc, x.shape[2:], lambda i, r: x(*i[:2], *r).astype(acc.tvm_dtype)), outs[0])
        # first each row is summed, then the sums of rows, so that rounding errors grow with the lengths and not their
        # product
        r = k.reduce_axis(x.shape[-1], "r")
        rows = acc.with_shape((*x.shape[:-1], 1))

        def row(*i: Any) -> Any:
            return k.te.sum(x(*i[:-1], r).astype(acc.tvm_dtype), axis=r)

        sums = k.operand(k.compute(rows, row, "row_sum"), rows)
        axes = [k.reduce_axis(extent) for extent in x.shape[2:-1]]

        def total(n: Any, c: Any, *_: Any) -> Any:
            return k.te.sum(sums(n, c, *axes, 0), axis=axes)

        summed = k.operand(k.compute(acc, total, "mean_sum"), acc)
        count = k.const(product(x.shape[2:]), acc.tvm_dtype)
        means = k.operand(k.compute(acc, lambda *i: summed(*i) / count, "mean"), acc)
        return rounded(k, means, outs[0])

    @classmethod
    def cases(cls) -> Iterator[Case]:
        yield from super().cases()
        yield sample(cls(), f32[2, 3, 7])
        yield sample(cls(), f32[2, 3, 2, 3, 4])


@onnx_op("GlobalMaxPool")
class GlobalMaxPool(GlobalPool):
    """``y[n,c] = max of x[n,c]``, NaN where any element is NaN; ONNX GlobalMaxPool-22."""

    name = "global_max_pool"
    rounds = False

    def compute(self, k: TensorExpressions, xs: Sequence[Operand], outs: Sequence[TensorType]) -> Any:
        (x,) = xs
        acc = accumulator(outs[0])
        axes = [k.reduce_axis(size) for size in x.shape[2:]]

        def largest(n: Any, c: Any, *_: Any) -> Any:
            return maximum(k, x(n, c, *axes).astype(acc.tvm_dtype), axes)

        return rounded(k, k.operand(k.compute(acc, largest, "global_max_pool"), acc), outs[0])

    @classmethod
    def cases(cls) -> Iterator[Case]:
        yield from super().cases()
        for x in (f32[2, 3, 7], f32[2, 3, 2, 3, 4]):
            yield sample(cls(), x, oracle="onnxruntime", note="the reference reduces the right axes only for rank 4")


@dataclass(frozen=True)
class GlobalLpPool(GlobalPool):
    """``y[n,c] = (sum of |x[n,c]|**p) ** (1/p)``, p whole; ONNX GlobalLpPool-22."""

    name = "global_lp_pool"

    p: int = 2

    def infer(self, *types: TensorType) -> TensorType:
        check_order(self.p)
        return super().infer(*types)

    def compute(self, k: TensorExpressions, xs: Sequence[Operand], outs: Sequence[TensorType]) -> Any:
        (x,) = xs
        acc = accumulator(outs[0])
        axes = [k.reduce_axis(size) for size in x.shape[2:]]

        def total(n: Any, c: Any, *_: Any) -> Any:
            return k.te.sum(power(k, x(n, c, *axes).astype(acc.tvm_dtype), self.p), axis=axes)

        summed = k.operand(k.compute(acc, total, "power_sum"), acc)
        return k.compute(outs[0], lambda *i: root(k, summed(*i), self.p).astype(outs[0].tvm_dtype), "global_lp_pool")

    def flops(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> int:
        return 2 * inputs[0].numel

    @classmethod
    def cases(cls) -> Iterator[Case]:
        yield sample(cls(), f32[2, 3, 5, 7])
        yield sample(cls(p=1), f32[2, 3, 7])
        yield sample(cls(p=3), f32[2, 3, 2, 3, 4])
        yield sample(cls(p=3), f32[2, 3, 2, 0])
        yield sample(cls(), f16[1, 3, 4, 4])


@imports("GlobalLpPool")
def _import_global_lp_pool(n: ImportNode) -> Any:
    return n.emit(GlobalLpPool(onnx_order(n)), n.input(0))


@exports(GlobalLpPool)
def _export_global_lp_pool(op: GlobalLpPool, n: ExportNode) -> None:
    spatial = n.input_types[0].sizes[2:]
    if 0 in spatial:  # a norm of nothing is 0, whatever its p
        n.node("ReduceL2", [n.inputs[0], n.ints(range(2, 2 + len(spatial)))], n.outputs)
        return
    # neither ONNX Runtime nor the reference has GlobalLpPool of this opset
    n.node("LpPool", n.inputs, n.outputs, kernel_shape=spatial, p=op.p)
