"""Selection of the largest or smallest elements."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..dtypes import FLOATS, INTEGERS, dtype_names
from ..errors import ShapeError
from ..loops import Memory, block, loop, loop_nest, when
from ..lowering import Operand, TensorExpressions
from ..onnx_io import ExportNode, ImportNode, exports, imports
from ..op import Case, Op, f16, f32, f64, i64, sample, u8
from ..sizes import Dim, bounds, no_less, product, typical
from ..types import TensorType
from ._heap import COUNT, SLOTS, TAKEN, Heap
from ._rows import place, row_of

DTYPES = (*FLOATS, *INTEGERS)


@dataclass(frozen=True)
class TopK(Op):
    """The ``count`` largest (or smallest) elements along an axis, in order, and their indices as int64; ONNX TopK-11.

    Of equal elements the one with the lower index comes first. NaN counts as larger than any number.
    """

    name = "top_k"
    rounds = False
    count: Dim
    axis: int = -1
    largest: bool = True

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        (x,) = types
        if x.dtype not in DTYPES:
            raise ShapeError(f"does not take {dtype_names(x.dtype)}; it takes {dtype_names(*DTYPES)}")
        if not -x.rank <= self.axis < x.rank:
            raise ShapeError(f"axis {self.axis} is out of range for rank {x.rank}")
        axis = self.axis % x.rank
        if bounds(self.count)[1] < 0 or not no_less(x.shape[axis], self.count):
            raise ShapeError(f"cannot take {self.count} of the {x.shape[axis]} elements along axis {axis}")
        shape = (*x.shape[:axis], self.count, *x.shape[axis + 1 :])
        return TensorType(x.dtype, shape), TensorType("i64", shape)

    def compute(self, k: TensorExpressions, xs: Sequence[Operand], outs: Sequence[TensorType]) -> Any:
        x, out = xs[0], outs[0]
        if x.type.is_empty or out.is_empty:
            return [k.compute(t, lambda *_, t=t: k.const(0, t.tvm_dtype)) for t in outs]
        axis = self.axis % x.type.rank
        sizes = x.shape
        outer, length, inner = product(sizes[:axis]), sizes[axis], product(sizes[axis + 1 :])
        rows = outer * inner
        work = [TensorType("i32", (rows, size)) for size in (self.count, SLOTS)]

        def body(ins: Sequence[Memory], results: Sequence[Memory]) -> Any:
            return loop(k, rows, lambda row: self._row(k, ins[0], results, row, length), parallel=rows != 1)

        flat = k.operand(
            k.compute(TensorType(out.dtype, (rows, length)), lambda r, i: x(*place(sizes, axis, r, i))),
            TensorType(out.dtype, (rows, length)),
        )
        found = [TensorType(t.dtype, (rows, self.count)) for t in outs]
        made = loop_nest(k, [*found, *work], [flat], body, self.name)[:2]
        return [k.compute(t, lambda *i, m=m: m(*row_of(sizes, axis, i))) for t, m in zip(outs, made, strict=True)]

    def _row(self, k: TensorExpressions, data: Memory, results: Sequence[Memory], row: Any, length: Dim) -> Any:
        """The statement for one row. A heap holds the best elements so far, with the worst of them on top."""
        values, indices, items, state = results
        count = self.count
        zero = k.const(0, "int32")

        def before(a: Any, b: Any) -> Any:
            x, y = _comparable(k, data(row, a)), _comparable(k, data(row, b))
            x_nan, y_nan = _is_nan(k, x), _is_nan(k, y)
            better = (x > y) if self.largest else (x < y)
            equal = x == y
            if x_nan is not None:
                low, high = (y_nan, x_nan) if self.largest else (x_nan, y_nan)
                better = k.tirx.any(better, k.tirx.all(high, k.tirx.Not(low)))
                equal = k.tirx.any(equal, k.tirx.all(x_nan, y_nan))
            return k.tirx.any(better, k.tirx.all(equal, a < b))

        heap = Heap(k, items, state, row, lambda a, b: before(b, a), count)

        def trial(i: Any) -> Any:
            return when(k, before(i + count, items(row, 0)), heap.replace(i + count))

        def last(i: Any) -> Any:
            taken, place = state(row, TAKEN), count - 1 - i
            keep = [values.store(data(row, taken), row, place), indices.store(taken.astype("int64"), row, place)]
            return block(k, heap.pop(), *keep)

        return block(
            k,
            state.store(zero + count, row, COUNT),
            loop(k, count, lambda i: items.store(i, row, i)),
            heap.build(),
            *([] if length == count else [loop(k, length - count, trial)]),
            loop(k, count, last),
        )

    def flops(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> int:
        return inputs[0].numel * max(1, typical(self.count)).bit_length()

    @classmethod
    def cases(cls) -> Iterator[Case]:
        yield sample(cls(3), f32[2, 3, 7])
        yield sample(cls(4, 1, largest=False), f32[2, 9, 3])
        yield sample(cls(5, 0), i64[9], low=0, high=3)
        yield sample(cls(2), f64[3, 4])
        yield sample(cls(0), f32[3, 4])
        many = np.random.default_rng(3).integers(0, 50, (3, 300)).astype(np.float32)  # with many equal ones
        yield sample(cls(60), many)
        yield sample(cls(300, largest=False), many)
        note = "ONNX Runtime has no TopK of this dtype"
        yield sample(cls(4), f16[2, 8], oracle="reference", note=note)
        yield sample(cls(3, largest=False), u8[2, 8], low=0, high=255, oracle="reference", note=note)
        for dtype in (np.uint16, np.uint32, np.uint64, np.int16):
            values = np.array([[3, np.iinfo(dtype).max, 0, 7], [1, 1, 5, np.iinfo(dtype).min]], dtype)
            yield sample(cls(3), values, oracle="reference", note=note)


@imports("TopK", folds=True)
def _import_top_k(n: ImportNode) -> Any:
    count = (n.attr("k"),) if n.opset < 10 else n.sizes(1, "k")
    if not count or count[0] is None:
        raise n.error("k is missing")
    return n.emit(TopK(count[0], n.attr("axis", -1), bool(n.attr("largest", 1))), n.input(0))


@exports(TopK)
def _export_top_k(op: TopK, n: ExportNode) -> None:
    count = n.ints([op.count], "k")
    n.node("TopK", [n.inputs[0], count], n.outputs, axis=op.axis, largest=int(op.largest), sorted=1)


def _comparable(k: TensorExpressions, x: Any) -> Any:
    """The value in a dtype that processors can compare."""
    return x.astype("float32") if k.dtype(x) in ("float16", "bfloat16") else x


def _is_nan(k: TensorExpressions, x: Any) -> Any:
    """Whether a value is NaN; ``None`` for integers."""
    return k.tirx.isnan(x) if k.dtype(x).startswith("float") else None  # TVM takes x != x for false
