"""Max pooling of regions of an image."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import ShapeError
from ..loops import Memory, block, loop, loop_nest
from ..lowering import Operand, TensorExpressions
from ..onnx_io import ExportNode, ImportNode, exports, imports
from ..op import Case, Op, f32, sample
from ..sizes import Dim, same
from ..types import TensorType
from ._axes import Ints, data_index
from ._math import maximum

FAR = 1e6
"""Corners of regions are clipped to this bound, and NaN is replaced by it, so that they can be converted to integers.
"""


@dataclass(frozen=True)
class MaxRoiPool(Op):
    """``y[r, c, i, j]`` is the maximum in bin (i, j) of region r, NaN where an element is NaN, or 0 for an empty
    bin; ONNX MaxRoiPool-22.

    This is the RoI pooling of Fast R-CNN (Girshick 2015).

    The operands are data ``N C H W`` and regions ``R 5``: the number of the image, then x1, y1, x2, y2, which are
    multiplied by ``scale`` and rounded.
    """

    on_gpu = False
    name = "max_roi_pool"
    pooled: Ints = (1, 1)
    scale: float = 1.0

    def infer(self, *types: TensorType) -> TensorType:
        x, rois = types
        if len(self.pooled) != 2 or min(self.pooled) < 1:
            raise ShapeError(f"the pooled shape {list(self.pooled)} must be two sizes of at least 1")
        if x.rank != 4 or not x.is_float or 0 in x.shape or rois.dtype != x.dtype:
            raise ShapeError(f"takes data of rank 4 and regions of one float dtype, not {x} and {rois}")
        if rois.rank != 2 or not same(rois.shape[1], 5):
            raise ShapeError(f"takes regions [R,5], not {rois}")
        return x.with_shape((rois.shape[0], x.shape[1], *self.pooled))

    def compute(self, k: TensorExpressions, xs: Sequence[Operand], outs: Sequence[TensorType]) -> Any:
        regions, channels = outs[0].shape[:2]
        batch, _, *sizes = xs[0].shape
        edges = TensorType("i32", (regions, 2, 2))

        def body(ins: Sequence[Memory], results: Sequence[Memory]) -> Any:
            x, rois = ins
            y, edge = results

            def one_bin(r: Any, image: Any, i: Any, j: Any) -> Any:
                bounds = [self.bounds(k, rois, r, axis, (i, j)[axis], sizes[axis]) for axis in (0, 1)]
                known = [edge.store(v, r, axis, end) for axis in (0, 1) for end, v in enumerate(bounds[axis])]
                count = [edge(r, axis, 1) - edge(r, axis, 0) for axis in (0, 1)]
                empty = k.tirx.any(count[0] <= 0, count[1] <= 0)

                def channel(c: Any) -> Any:
                    lowest = k.like(-math.inf, y(r, c, i, j))
                    clear = y.store(k.select(empty, k.like(0, lowest), lowest), r, c, i, j)

                    def element(s: Any, t: Any) -> Any:
                        value = x(image, c, edge(r, 0, 0) + s, edge(r, 1, 0) + t)
                        return y.store(maximum(k, y(r, c, i, j), value), r, c, i, j)

                    rows = loop(k, count[0], lambda s: loop(k, count[1], lambda t: element(s, t)))
                    return block(k, clear, rows)

                return block(k, *known, loop(k, channels, channel))

            def region(r: Any) -> Any:
                image = data_index(k, _whole(k, rois(r, 0)), batch)
                return loop(k, self.pooled[0], lambda i: loop(k, self.pooled[1], lambda j: one_bin(r, image, i, j)))

            return loop(k, regions, region, parallel=regions != 1)

        return loop_nest(k, [outs[0], edges], xs, body, self.name)[0].tensor

    def bounds(self, k: TensorExpressions, rois: Memory, r: Any, axis: int, i: Any, size: Dim) -> tuple[Any, Any]:
        """The first element of bin i along an axis, and the one after the last.

        They are computed in floats, as in ONNX Runtime.
        """
        low, high = (_whole(k, rois(r, 2 - axis + end) * k.like(self.scale, rois(r, 0))) for end in (0, 2))
        extent = k.tirx.max(high - low + 1, 1).astype("float32") / k.const(self.pooled[axis], "float32")
        first = k.tirx.floor(i.astype("float32") * extent).astype("int32") + low
        after = k.tirx.ceil((i + 1).astype("float32") * extent).astype("int32") + low
        return k.tirx.max(k.tirx.min(first, size), 0), k.tirx.max(k.tirx.min(after, size), 0)

    def flops(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> int:
        return outputs[0].numel * 4

    @classmethod
    def cases(cls) -> Iterator[Case]:
        rois = np.array([[0, 1, 1, 14, 18], [1, 0.5, 2.25, 6, 5], [1, -9, -2, 40, 9], [0, 7, 7, 7, 7]], np.float32)
        lone = {"oracle": "onnxruntime", "note": "the reference has no MaxRoiPool"}
        yield sample(cls((3, 4), 0.5), f32[2, 3, 9, 8], rois, **lone)
        yield sample(cls((2, 2)), f32[2, 1, 20, 16], rois, **lone)


@imports("MaxRoiPool")
def _import_max_roi_pool(n: ImportNode) -> Any:
    return n.emit(MaxRoiPool(n.attr("pooled_shape", ()), n.attr("spatial_scale", 1.0)), n.input(0), n.input(1))


@exports(MaxRoiPool)
def _export_max_roi_pool(op: MaxRoiPool, n: ExportNode) -> None:
    n.node("MaxRoiPool", n.inputs, n.outputs, pooled_shape=op.pooled, spatial_scale=op.scale)


def _whole(k: TensorExpressions, x: Any) -> Any:
    """The nearest integer, halves away from zero, as int32."""
    x = x.astype("float32")
    far = k.like(FAR, x)
    x = k.select(x > -far, k.tirx.min(x, far), -far)
    half = k.like(0.5, x)
    return k.select(x < k.like(0, x), k.tirx.ceil(x - half), k.tirx.floor(x + half)).astype("int32")
