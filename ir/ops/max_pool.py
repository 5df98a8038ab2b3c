"""Max pooling."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..dtypes import FLOATS
from ..layout import Layout
from ..lowering import Operand, TensorExpressions
from ..onnx_io import ExportNode, ImportNode, exports, imports
from ..op import Case, f16, f32, f64, i8, sample, u8
from ..types import TensorType
from ._accumulate import accumulator, rounded
from ._elementwise import infinity
from ._math import maximum
from ._pool import Pool, export_pool, pool_geometry


@dataclass(frozen=True)
class MaxPool(Pool):
    """``y[n,c,i] = max over k of x[n, c, s*i + d*k - pad]``, where padding does not count, and NaN where an element
    of the window is NaN; ONNX MaxPool-22.

    ``indices`` adds a second output, int64 and row-major: the position of each maximum in x flattened, the first of
    equal ones, or of NaN. With ``column_major`` that flat position counts the spatial axes in reverse order (ONNX
    ``storage_order=1``).
    """

    name = "max_pool"
    moves_elements = True
    rounds = False
    dtypes = (*FLOATS, "i8", "u8")

    indices: bool = False
    column_major: bool = False

    def needs_elements(self) -> bool:
        return True

    def infer(self, *types: TensorType) -> TensorType | tuple[TensorType, ...]:
        y: TensorType = super().infer(*types)
        return (y, TensorType("i64", y.shape)) if self.indices else y

    def held_as(self, dtype: str) -> bool:
        return dtype in self.dtypes

    def compute(self, k: TensorExpressions, xs: Sequence[Operand], outs: Sequence[TensorType]) -> Any:
        (x,) = xs
        fill = -math.inf if x.type.is_float else float(np.iinfo(x.type.numpy_dtype).min)
        read, taps = self.windows(k, x, outs[0], fill), self.taps(k)
        # an intrinsic reads each element once; windows that are unrolled would make an expression of many copies
        largest = k.te.comm_reducer(lambda a, b: maximum(k, a, b), lambda t: infinity(k, str(t), -1), "largest")
        acc = accumulator(outs[0])
        wide = k.compute(acc, lambda *i: largest(read(i, taps).astype(acc.tvm_dtype), axis=taps), "max_pool")
        y = rounded(k, k.operand(wide, acc), outs[0])
        return (y, self._indices(k, x, k.operand(y, outs[0]), outs[1])) if self.indices else y

    def _indices(self, k: TensorExpressions, x: Operand, y: Operand, out: TensorType) -> Any:
        """The positions of the maxima: the number of the first tap that has the maximum, then its flat position."""
        strides, pads, dilations = self.geometry()
        wide = accumulator(x.type).tvm_dtype
        weights = [math.prod(self.kernel[j + 1 :]) for j in range(len(self.kernel))]
        taps = self.taps(k)

        def position(index: Sequence[Any], tap: Sequence[Any]) -> list[Any]:
            return [s * i + d * r - p[0] for s, i, d, r, p in zip(strides, index, dilations, tap, pads, strict=True)]

        def first(n: Any, c: Any, *i: Any) -> Any:
            at = position(i, taps)
            inside = k.tirx.all(*(test for j, size in zip(at, x.shape[2:], strict=True) for test in (j >= 0, j < size)))
            value = x(n, c, *at).astype(wide)
            largest = y(n, c, *i).astype(wide)
            found = value == largest
            if x.type.is_float:  # NaN is the maximum of a window that holds it
                found = k.tirx.any(found, k.tirx.isnan(value))
            found = k.guarded(inside, found, k.const(False, "bool"))
            number = sum(w * r for w, r in zip(weights, taps, strict=True))
            return k.te.min(k.select(found, number, k.const(math.prod(self.kernel), "int32")), axis=taps)

        which = out.with_dtype("i32")
        number = k.operand(k.compute(which, first, "first_tap"), which)

        def flat(n: Any, c: Any, *i: Any) -> Any:
            tap = [number(n, c, *i) // w % size for w, size in zip(weights, self.kernel, strict=True)]
            sizes = x.shape[2:]
            place = (n * x.shape[1] + c).astype("int64") * math.prod(sizes)
            for j, at in enumerate(position(i, tap)):
                step = math.prod(sizes[:j]) if self.column_major else math.prod(sizes[j + 1 :])
                place = place + at.astype("int64") * step
            return place

        return k.compute(out, flat, "indices")

    def layouts(self, inputs: Sequence[TensorType], layout: Layout) -> bool:
        return not self.indices and super().layouts(inputs, layout)

    @classmethod
    def cases(cls) -> Iterator[Case]:
        kernel, strides, pads = (3, 2), (2, 3), ((1, 0), (0, 1))
        yield sample(cls((3,), (2,)), f32[2, 3, 10])
        yield sample(cls((3,), (2,), ceil_mode=True), f32[1, 2, 2])
        yield sample(cls(kernel, strides, pads, ceil_mode=True), f32[1, 3, 8, 9])
        yield sample(cls(kernel, strides, pads, dilations=(2, 1)), f32[1, 3, 9, 7])
        yield sample(cls((2, 2, 3), (1, 2, 1), ((0, 0), (1, 0), (1, 1))), f32[1, 2, 4, 5, 6])
        yield sample(
            cls((3, 3), (2, 2), ((1, 1), (1, 1))),
            np.full((1, 1, 5, 5), -np.inf, np.float32),
            oracle="reference",
            note="ONNX Runtime gives the lowest finite number at borders",
        )
        for x in (i8[1, 2, 5, 6], u8[1, 2, 5, 6]):
            yield sample(cls((2, 3), (2, 2), ((0, 1), (1, 1))), x, low=-99, high=99)
        for x in (f16[1, 2, 5, 6], f64[1, 2, 5, 6]):
            yield sample(cls((2, 2), (2, 1)), x)
        for column_major in (False, True):
            yield sample(cls(kernel, strides, pads, indices=True, column_major=column_major), f32[2, 3, 8, 9])
        yield sample(cls((2, 2, 2), (2, 1, 2), indices=True, column_major=True), f32[2, 2, 4, 5, 6])
        long = {"oracle": "onnxruntime", "note": "the reference loops over the elements of a window"}
        yield sample(cls((20001,), (900,), ((10000, 10000),), indices=True), f32[1, 1, 20000], **long)
        yield sample(cls((3,), (1,), ((1, 1),), (2,), indices=True), i8[1, 2, 12], low=-2, high=2)


@imports("MaxPool")
def _import_max_pool(n: ImportNode) -> Any:
    indices = any(n.proto.output[1:])
    column_major = indices and bool(n.attr("storage_order", 0))
    return n.emit(MaxPool(**pool_geometry(n), indices=indices, column_major=column_major), n.input(0))


@exports(MaxPool)
def _export_max_pool(op: MaxPool, n: ExportNode) -> None:
    export_pool(op, n, "MaxPool", storage_order=op.column_major)
