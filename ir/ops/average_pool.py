"""Average pooling."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ..lowering import Operand, TensorExpressions
from ..onnx_io import ExportNode, ImportNode, exports, imports
from ..op import Case, f16, f32, f64, sample
from ..sizes import bounds
from ..types import TensorType
from ._accumulate import accumulator
from ._pool import Pool, export_pool, pool_geometry


@dataclass(frozen=True)
class AveragePool(Pool):
    """``y[n,c,i] = mean over k of x[n, c, s*i + d*k - pad]``; ONNX AveragePool-22.

    The mean is over the elements inside the data, or with ``count_include_pad`` over those inside data and pads, which
    are zero. Positions of a window beyond the end of the pads, as ``ceil_mode`` causes, are never counted.
    """

    name = "average_pool"

    count_include_pad: bool = False

    def needs_elements(self) -> bool:
        return not self.count_include_pad

    def compute(self, k: TensorExpressions, xs: Sequence[Operand], outs: Sequence[TensorType]) -> Any:
        (x,) = xs
        acc = accumulator(outs[0])
        read, taps = self.windows(k, x, acc), self.taps(k)
        total = k.operand(
            k.compute(acc, lambda *i: k.te.sum(read(i, taps).astype(acc.tvm_dtype), axis=taps), "pool_sum"), acc
        )

        def average(*i: Any) -> Any:
            certain, counts = self._counts(k, x, outs[0], i)
            mean = total(*i) * k.const(1 / certain, acc.tvm_dtype)
            if counts:
                mean = mean / math.prod(counts[1:], start=counts[0]).astype(acc.tvm_dtype)
            return mean.astype(outs[0].tvm_dtype)

        return k.compute(outs[0], average, "average_pool")

    def _counts(self, k: TensorExpressions, x: Operand, out: TensorType, index: Sequence[Any]) -> tuple[int, list[Any]]:
        """The number of elements that are counted at an index: a constant for axes on which all windows agree, times a
        factor for each other axis.
        """
        certain, counts = 1, []
        for j, size, number, i, s, (begin, end), d in zip(
            self.kernel, x.shape[2:], out.shape[2:], index[2:], *self.geometry(), strict=True
        ):
            low, high = (-begin, size + end) if self.count_include_pad else (0, size)
            if -begin >= low and bounds(high - ((number - 1) * s - begin + d * (j - 1)))[0] > 0:
                certain *= j
                continue
            start = s * i - begin
            first = 0 if -begin >= low else (k.tirx.max(low - start, 0) + d - 1) // d
            counts.append(k.tirx.min(j, (high - start + d - 1) // d) - first)
        return certain, counts

    @classmethod
    def cases(cls) -> Iterator[Case]:
        for include in (False, True):
            yield sample(cls((3, 2), (2, 1), ((1, 0), (0, 1)), count_include_pad=include), f32[1, 3, 7, 9])
            yield sample(
                cls((3, 2), (2, 3), ((1, 1), (1, 0)), (2, 1), ceil_mode=True, count_include_pad=include),
                f32[1, 3, 9, 8],
            )
            for op, x in (
                (cls((5,), (5,), ceil_mode=True, count_include_pad=include), f32[1, 2, 8]),
                (cls((3,), (2,), ceil_mode=True, count_include_pad=include), f32[1, 2, 2]),
                (cls((4,), (3,), ((1, 2),), (2,), True, include), f32[2, 2, 11]),
            ):
                yield sample(
                    op,
                    x,
                    oracle="onnxruntime",
                    note="the reference spreads what hangs over to both ends and so moves the windows",
                )
        yield sample(cls((2, 2, 3), (1, 2, 2), ((1, 0), (1, 0), (1, 1))), f32[1, 2, 4, 5, 6])
        long = {"oracle": "onnxruntime", "note": "the reference loops over the elements of a window"}
        yield sample(cls((48000,), (48000,)), f32[1, 2, 48000], **long)
        yield sample(cls((20001,), (900,), ((10000, 10000),)), f32[1, 1, 20000], **long)
        yield sample(cls((3, 3)), f16[1, 2, 6, 6])
        yield sample(
            cls((2, 2), pads=((1, 1), (0, 0))),
            f64[1, 2, 4, 4],
            oracle="reference",
            note="ONNX Runtime has no float64 AveragePool",
        )


@imports("AveragePool")
def _import_average_pool(n: ImportNode) -> Any:
    include = bool(n.attr("count_include_pad", 0))
    return n.emit(AveragePool(**pool_geometry(n), count_include_pad=include), n.input(0))


@exports(AveragePool)
def _export_average_pool(op: AveragePool, n: ExportNode) -> None:
    export_pool(op, n, "AveragePool", count_include_pad=op.count_include_pad)
