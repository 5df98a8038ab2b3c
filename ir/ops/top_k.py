"""The largest or smallest elements."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..dtypes import dtype_names
from ..errors import ShapeError
from ..lowering import Operand, TensorExpressions
from ..onnx_io import ExportNode, ImportNode, exports, imports
from ..op import Case, Op, f16, f32, f64, i64, sample, u8
from ..types import TensorType

SORTED_AS = {"bf16": "f32", "i16": "i32", "u16": "i32", "u32": "i64", "u64": "i64"}
"""The dtypes that TVM's sort does not take, and the dtype as which each is sorted, which holds every value; 2**63 is
subtracted from uint64.
"""
DTYPES = ("f16", "f32", "f64", "i8", "i32", "i64", "u8", *SORTED_AS)


@dataclass(frozen=True)
class TopK(Op):
    """The ``count`` largest (or smallest) elements along an axis, in order, and their indices as int64; ONNX TopK-11.

    Of equal elements the one with the lower index comes first.
    """

    name = "top_k"
    rounds = False
    count: int
    axis: int = -1
    largest: bool = True

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        (x,) = types
        if x.dtype not in DTYPES:
            raise ShapeError(f"does not take {dtype_names(x.dtype)}; it takes {dtype_names(*DTYPES)}")
        if not -x.rank <= self.axis < x.rank:
            raise ShapeError(f"axis {self.axis} is out of range for rank {x.rank}")
        axis = self.axis % x.rank
        if not 0 <= self.count <= x.sizes[axis]:
            raise ShapeError(f"cannot take {self.count} of the {x.sizes[axis]} elements along axis {axis}")
        shape = (*x.shape[:axis], self.count, *x.shape[axis + 1 :])
        return TensorType(x.dtype, shape), TensorType("i64", shape)

    def compute(self, k: TensorExpressions, xs: Sequence[Operand], outs: Sequence[TensorType]) -> Any:
        x, out = xs[0], outs[0]
        if x.type.numel == 0 or out.numel == 0:
            return [k.compute(t, lambda *_, t=t: k.const(0, t.tvm_dtype)) for t in outs]
        wide = x.type.with_dtype(SORTED_AS.get(out.dtype, out.dtype))
        to, back = _casts(k, x.dtype, wide.tvm_dtype)
        data = x.tensor if wide == x.type else k.compute(wide, lambda *i: to(x(*i)))
        values, indices = k.topi.topk(data, self.count, self.axis, "both", not self.largest, "int64")
        if wide != x.type:
            values = k.compute(out, lambda *i, v=values: back(v(*i)))
        return values, indices

    @classmethod
    def cases(cls) -> Iterator[Case]:
        yield sample(cls(3), f32[2, 3, 7])
        yield sample(cls(4, 1, largest=False), f32[2, 9, 3])
        yield sample(cls(5, 0), i64[9], low=0, high=3)
        yield sample(cls(2), f64[3, 4])
        yield sample(cls(0), f32[3, 4])
        note = "ONNX Runtime has no TopK of this dtype"
        yield sample(cls(4), f16[2, 8], oracle="reference", note=note)
        yield sample(cls(3, largest=False), u8[2, 8], low=0, high=255, oracle="reference", note=note)
        for dtype in (np.uint16, np.uint32, np.uint64, np.int16):
            values = np.array([[3, np.iinfo(dtype).max, 0, 7], [1, 1, 5, np.iinfo(dtype).min]], dtype)
            yield sample(cls(3), values, oracle="reference", note=note)


@imports("TopK", folds=True)
def _import_top_k(n: ImportNode) -> Any:
    count = (n.attr("k"),) if n.opset < 10 else n.ints(1, "k")
    if not count or count[0] is None:
        raise n.error("k is missing")
    return n.emit(TopK(int(count[0]), n.attr("axis", -1), bool(n.attr("largest", 1))), n.input(0))


@exports(TopK)
def _export_top_k(op: TopK, n: ExportNode) -> None:
    count = n.ints([op.count], "k")
    n.node("TopK", [n.inputs[0], count], n.outputs, axis=op.axis, largest=int(op.largest), sorted=1)


def _casts(k: TensorExpressions, narrow: str, wide: str) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
    """Conversions from a dtype to one that TVM sorts, and back, which keep the order."""
    if narrow != "uint64":
        return lambda v: v.astype(wide), lambda v: v.astype(narrow)
    half = k.const(1, wide) << 63
    return lambda v: k.tirx.reinterpret(wide, v) ^ half, lambda v: k.tirx.reinterpret(narrow, v ^ half)
