"""Lp pooling."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import ShapeError
from ..lowering import Operand, TensorExpressions
from ..onnx_io import ExportNode, ImportNode, exports, imports
from ..op import Case, f16, f32, sample
from ..types import TensorType
from ._accumulate import accumulator, power, root
from ._pool import Pool, export_pool, pool_geometry


@dataclass(frozen=True)
class LpPool(Pool):
    """``y[n,c,i] = (sum over k of |x[n, c, s*i + d*k - pad]|**p) ** (1/p)``, p whole; ONNX LpPool-22."""

    name = "lp_pool"

    p: int = 2

    def infer(self, *types: TensorType) -> Any:
        check_order(self.p)
        return super().infer(*types)

    def compute(self, k: TensorExpressions, xs: Sequence[Operand], outs: Sequence[TensorType]) -> Any:
        acc = accumulator(outs[0])
        read, taps = self.windows(k, xs[0], acc), self.taps(k)

        def total(*i: Any) -> Any:
            return k.te.sum(power(k, read(i, taps).astype(acc.tvm_dtype), self.p), axis=taps)

        summed = k.operand(k.compute(acc, total, "power_sum"), acc)
        return k.compute(outs[0], lambda *i: root(k, summed(*i), self.p).astype(outs[0].tvm_dtype), "lp_pool")

    def flops(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> int:
        return 2 * super().flops(inputs, outputs)

    @classmethod
    def cases(cls) -> Iterator[Case]:
        yield sample(cls((3,), (2,), p=1), f32[2, 3, 9])
        yield sample(cls((3, 2), (2, 1), ((1, 0), (0, 1))), f32[1, 3, 7, 9])
        yield sample(cls((2, 3), (2, 2), dilations=(1, 2), p=3), f32[1, 3, 7, 9])
        yield sample(
            cls((3, 3), (2, 2), ((1, 0), (0, 0)), ceil_mode=True),
            f32[1, 2, 7, 8],
            oracle="onnxruntime",
            note="the reference scales a window that hangs over the end as if it were whole",
        )
        long = {"oracle": "onnxruntime", "note": "the reference loops over the elements of a window"}
        yield sample(cls((20001,), (900,), ((10000, 10000),)), f32[1, 1, 20000], **long)
        yield sample(cls((2, 2, 2), (1, 2, 2)), f32[1, 2, 4, 5, 6])
        yield sample(cls((2, 2)), f16[1, 2, 4, 4])


@imports("LpPool")
def _import_lp_pool(n: ImportNode) -> Any:
    return n.emit(LpPool(**pool_geometry(n), p=onnx_order(n)), n.input(0))


@exports(LpPool)
def _export_lp_pool(op: LpPool, n: ExportNode) -> None:
    export_pool(op, n, "LpPool", p=op.p)


def check_order(p: int) -> None:
    """Raises ``ShapeError`` unless p is at least 1."""
    if p < 1:
        raise ShapeError(f"p must be at least 1, not {p}")


def onnx_order(n: ImportNode) -> int:
    """Attribute p of a node, which is a float in opset 1."""
    p = n.attr("p", 2)
    if int(p) != p:
        raise n.unsupported(f"p={p} is not whole")
    return int(p)
