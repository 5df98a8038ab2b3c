"""Sampling of data at the positions of a grid."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from ..dtypes import FLOATS, dtype_names
from ..errors import ShapeError
from ..lowering import Operand, TensorExpressions
from ..onnx_io import ExportNode, ImportNode, exports, imports
from ..op import Case, Op, f32, f64, sample
from ..sizes import Dim, bounds, same_shape
from ..types import TensorType

MODES = {"nearest": "nearest", "linear": "linear", "cubic": "cubic", "bilinear": "linear", "bicubic": "cubic"}
"""The modes of interpolation, by their names in opset 20 and in opset 16."""
PADDINGS = ("zeros", "border", "reflection")
_FAR = 1e9
"""Positions are clipped to this bound, and NaN is replaced by it, so that they can be converted to integers."""
_CUBIC = -0.75
"""The parameter of Keys' cubic kernel, as in PyTorch's ``grid_sample``."""


@dataclass(frozen=True)
class GridSample(Op):
    """``y[n, c, o] = x[n, c]`` at position ``grid[n, o]``; ONNX GridSample-22, PyTorch ``grid_sample``.

    Data is ``N C spatial``, the grid ``N out... r`` with ``r`` coordinates in [-1, 1] per point, that of the last axis
    first. With ``align_corners`` -1 and 1 are the centres of the border elements, else their outer edges. ``padding``
    gives the values outside: zeros, the border element, or the reflection.
    """

    name = "grid_sample"
    needs_range = True
    mode: str = "linear"
    padding: str = "zeros"
    align_corners: bool = False

    def infer(self, *types: TensorType) -> TensorType:
        x, grid = types
        if self.mode not in MODES.values() or self.padding not in PADDINGS:
            raise ShapeError(f"unknown mode {self.mode!r} or padding {self.padding!r}")
        if x.dtype not in FLOATS or grid.dtype not in FLOATS:
            raise ShapeError(f"takes floats, not {dtype_names(x.dtype)} and {dtype_names(grid.dtype)}")
        if x.rank < 3 or grid.rank != x.rank or not same_shape(grid.shape[:: grid.rank - 1], (x.shape[0], x.rank - 2)):
            raise ShapeError(
                "the grid must have the data's rank and batch size, and as many coordinates as spatial axes"
            )
        if 0 in x.shape[2:]:
            raise ShapeError("there is nothing to sample: the data has a spatial size of 0")
        return TensorType(x.dtype, (*x.shape[:2], *grid.shape[1:-1]))

    def compute(self, k: TensorExpressions, xs: Sequence[Operand], outs: Sequence[TensorType]) -> Any:
        x, grid = xs
        real = "f64" if "f64" in (x.type.dtype, grid.type.dtype) else "f32"
        count = {"nearest": 1, "linear": 2, "cubic": 4}[self.mode]
        points = TensorType(real, (grid.shape[0], *grid.shape[1:-1]))
        tapped = points.with_shape((*points.shape, count))
        # positions and weights are computed once for all channels
        indices, weights = [], []
        for axis, size in enumerate(x.shape[2:]):
            place = self._tensor(k, points, lambda *o, d=points.rank - 2 - axis, s=size: self.place(k, grid(*o, d), s))
            at = lambda *o, p=place, s=size: self.index(k, p(*o[:-1]), o[-1], s)  # noqa: E731
            indices.append(self._tensor(k, tapped.with_dtype("i32"), at))
            weights.append(self._tensor(k, tapped, lambda *o, p=place: self.weight(k, p(*o[:-1]), o[-1])))
        taps = [k.reduce_axis(count, "tap") for _ in indices]

        def element(n: Any, c: Any, *o: Any) -> Any:
            at = [index(n, *o, tap) for index, tap in zip(indices, taps, strict=True)]
            value = x(n, c, *(k.tirx.max(i, 0) for i in at)).astype(points.tvm_dtype)
            if self.padding == "zeros":
                value = k.guarded(k.tirx.all(*(i >= 0 for i in at)), value, k.like(0, value))
            for weight, tap in zip(weights, taps, strict=True):
                value = value * weight(n, *o, tap)
            return k.te.sum(value, axis=taps)

        y = k.compute(outs[0].with_dtype(real), element, self.name)
        if outs[0].dtype == real:
            return y
        return k.compute(outs[0], lambda *i: y(*i).astype(outs[0].tvm_dtype))

    @staticmethod
    def _tensor(k: TensorExpressions, type: TensorType, element: Callable[..., Any]) -> Operand:
        return k.operand(k.compute(type, lambda *i: element(*i).astype(type.tvm_dtype)), type)

    def place(self, k: TensorExpressions, g: Any, size: Dim) -> Any:
        """The position along an axis, in elements, of a coordinate of the grid, brought into range by the rule of the
        padding.
        """
        g = g if k.dtype(g) == "float64" else g.astype("float32")
        c = partial(k.const, dtype=k.dtype(g))
        p = (g + c(1)) / c(2) * c(size - 1) if self.align_corners else ((g + c(1)) * c(size) - c(1)) / c(2)
        p = k.select(p > c(-_FAR), k.tirx.min(p, c(_FAR)), c(-_FAR))
        if self.mode == "nearest":
            p = k.tirx.nearbyint(p)
        if self.padding == "border" and self.mode != "cubic":  # there, as in PyTorch, each tap is brought in by itself
            return k.tirx.min(k.tirx.max(p, c(0)), c(size - 1))
        return self.reflect(k, p, size) if self.padding == "reflection" else p

    def reflect(self, k: TensorExpressions, p: Any, size: Dim) -> Any:
        """A position reflected at the borders until it lies between them."""
        c = partial(k.const, dtype=k.dtype(p))
        span = size - 1 if self.align_corners else size
        if span == 0:
            return c(0)
        low = c(0.0 if self.align_corners else -0.5)
        far = k.tirx.abs(p - low)
        times = k.tirx.floor(far / c(span))
        rest = far - times * c(span)
        odd = times - c(2) * k.tirx.floor(times / c(2)) > c(0.5)
        turned = k.select(odd, c(span) + low - rest, low + rest)
        return turned if bounds(span)[0] > 0 else k.select(c(span) > c(0), turned, c(0))

    def index(self, k: TensorExpressions, p: Any, tap: Any, size: Dim) -> Any:
        """The index of the element that a tap reads; -1 for one outside that counts as zero."""
        before = 1 if self.mode == "cubic" else 0
        i = k.tirx.floor(p).astype("int32") + tap - before
        if self.padding == "zeros":
            return k.select(k.tirx.all(i >= 0, i < size), i, -1)
        if self.padding == "reflection":
            i = self.reflect(k, i.astype("float32"), size).astype("int32")
        return k.tirx.min(k.tirx.max(i, 0), size - 1)

    def weight(self, k: TensorExpressions, p: Any, tap: Any) -> Any:
        """The weight of a tap."""
        c = partial(k.const, dtype=k.dtype(p))
        if self.mode == "nearest":
            return c(1)
        t = p - k.tirx.floor(p)
        if self.mode == "linear":
            return k.select(tap == 0, c(1) - t, t)
        a = _CUBIC
        distance = k.tirx.abs(t + c(1) - tap.astype(k.dtype(p)))
        near = ((c(a + 2) * distance - c(a + 3)) * distance) * distance + c(1)
        far = ((c(a) * distance - c(5 * a)) * distance + c(8 * a)) * distance - c(4 * a)
        return k.select(distance <= c(1), near, far)

    @classmethod
    def cases(cls) -> Iterator[Case]:
        for mode, padding, align in itertools.product(("nearest", "linear", "cubic"), PADDINGS, (False, True)):
            clamped = mode == "cubic" and padding == "border"
            oracle = "onnxruntime" if clamped else "both"
            note = "the reference clamps the place, PyTorch and ONNX Runtime the taps" if clamped else ""
            yield sample(cls(mode, padding, align), f32[2, 3, 5, 7], f32[2, 4, 3, 2], oracle=oracle, note=note)
        yield sample(cls("linear", "reflection"), f32[1, 2, 3, 4, 5], f32[1, 2, 3, 2, 3])
        yield sample(cls("nearest"), f64[1, 1, 4, 4], f64[1, 2, 2, 2])
        far = np.array([[[[np.inf, 0], [-3e9, 0.5], [17.25, -9.5]]]], np.float32)
        note = "ONNX Runtime overflows on places this far"
        yield sample(cls("linear", "border"), f32[1, 2, 4, 4], far, oracle="reference", note=note)


@imports("GridSample")
def _import_grid_sample(n: ImportNode) -> Any:
    mode = n.attr("mode", "linear")
    if mode not in MODES:
        raise n.error(f"unknown mode {mode!r}")
    op = GridSample(MODES[mode], n.attr("padding_mode", "zeros"), bool(n.attr("align_corners", 0)))
    return n.emit(op, *n.present_inputs())


@exports(GridSample)
def _export_grid_sample(op: GridSample, n: ExportNode) -> None:
    n.node(
        "GridSample", n.inputs, n.outputs,
        mode=op.mode, padding_mode=op.padding, align_corners=int(op.align_corners),
    )  # fmt: skip
