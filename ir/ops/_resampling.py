"""The base class of resizing ops: output sizes, and the position in the input of each output element.

A position is a rational number, ``(step * o + offset) / unit`` for output index ``o`` with integers computed at compile
time, so that rounding and fractions are exact: no float error decides which pixel is the nearest.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from ..dtypes import dtype_names
from ..errors import ShapeError
from ..layout import Layout
from ..lowering import TensorExpressions
from ..onnx_io import ExportNode
from ..op import Op
from ..sizes import Dim, Size, Sizes, bounds, largest, least, typical
from ..types import TensorType
from ._axes import Ints, axes_of, axis_of
from ._ratio import Ratio

POLICIES = ("stretch", "not_larger", "not_smaller")
CROP = "tf_crop_and_resize"


@dataclass(frozen=True)
class Line:
    """Positions along one axis: output index ``o`` of ``out`` lies at ``(step * o + offset) / unit`` in ``size``."""

    axis: int
    size: Dim
    out: Dim
    scale: Fraction | None
    """``None`` where it is the ratio of open sizes."""
    step: Dim
    offset: Dim
    unit: Dim

    def rounded(self, k: TensorExpressions, o: Any, shift: Fraction = Fraction(0), *, up: bool = False) -> Any:
        """The position plus ``shift``, which is above -1, rounded down or ``up``."""
        parts, lifted = shift.denominator, int(shift < 0)
        extra = (shift.numerator + lifted * parts) * self.unit + (self.unit * parts - 1 if up else 0)
        above = self._above(k, o) * parts
        found = k.tirx.truncdiv(above + self._as(k, extra, above), self._as(k, self.unit * parts, above))
        return found - self._as(k, self.lift + lifted, found)

    def fraction(self, k: TensorExpressions, o: Any, dtype: str) -> Any:
        """The distance of the position from its floor, as a float of a TVM dtype."""
        above = self._above(k, o)
        rest = k.tirx.truncmod(above, self._as(k, self.unit, above)).astype(dtype)
        return rest * (1.0 / self.unit) if isinstance(self.unit, int) else rest / k.like(self.unit, rest)

    def clamped(self, k: TensorExpressions, i: Any) -> Any:
        """A position in the input: the nearest there is."""
        return k.tirx.max(k.tirx.min(i, k.like(self.size - 1, i)), k.like(0, i)).astype("int32")

    def outside(self, k: TensorExpressions, o: Any) -> Any:
        """Whether the position lies before the input's first element or behind its last."""
        above, zero = self._above(k, o), self.lift * self.unit
        last = zero + (self.size - 1) * self.unit
        return k.tirx.any(above < self._as(k, zero, above), above > self._as(k, last, above))

    @property
    def lift(self) -> Dim:
        """A whole number that makes every position positive, so that divisions may truncate.

        TVM simplifies floored divisions of a sum wrongly where two axes have one; it does not change truncated
        divisions.
        """
        first = self.offset if self._rises else least(self.offset, self.offset + self.step * (self.out - 1))
        if bounds(first + self.unit)[0] >= 0:
            return 0 if bounds(first)[0] >= 0 else 1
        return largest(0, -(first // self.unit))

    @property
    def growth(self) -> Fraction:
        """The scale, or what it typically is."""
        return Fraction(typical(self.out), max(typical(self.size), 1)) if self.scale is None else self.scale

    def table(self, k: TensorExpressions, position: Callable[[Any], Any]) -> Callable[[Any], Any]:
        """``position``, an integer for each output index, computed once for each where it takes divisions."""
        if self.size == 1:  # all positions are clamped to it, and TVM fails on a table that nothing reads
            return lambda o: k.const(0, "int32")
        if not self.is_open:
            return position
        type = TensorType("i32", (self.out,))
        near = lambda o: k.tirx.max(k.tirx.min(position(o), 1 << 30), -(1 << 30)).astype("int32")  # noqa: E731
        return k.operand(k.compute(type, near, "places", once=True), type)

    @property
    def is_open(self) -> bool:
        """Whether positions follow from open sizes, so that they take 64 bits and divisions by no constant."""
        return not all(isinstance(d, int) for d in (self.size, self.out, self.step, self.offset, self.unit))

    @property
    def _rises(self) -> bool:
        return bounds(self.step)[0] >= 0 and self.out != 0

    def _above(self, k: TensorExpressions, o: Any) -> Any:
        """The position plus ``lift``, times ``unit``."""
        offset, step = self.offset + self.lift * self.unit, self.step
        reach = largest(step, -step) * self.out + largest(offset, -offset) + self.size * self.unit
        o = o.astype("int64") if self.is_open or 4 * reach >= 1 << 31 else o
        return o * self._as(k, step, o) + self._as(k, offset, o)

    @staticmethod
    def _as(k: TensorExpressions, number: Dim, expr: Any) -> Any:
        """A number for use with an expression; an open one in its dtype, since products may be large."""
        return number if isinstance(number, int) else k.like(number, expr)


@dataclass(frozen=True)
class Resampling(Op):
    """The operand resized along ``axes``; ONNX Resize-19.

    Either ``scales`` or ``sizes`` is given, one number per axis. With ``scales`` the output has ``floor(size * scale)``
    elements along an axis. ``policy`` keeps the aspect ratio of ``sizes``. ``coordinates`` is ONNX's
    coordinate_transformation_mode; with ``tf_crop_and_resize``, ``roi`` holds the starts of all axes, then the ends,
    and what lies outside the input becomes ``extrapolation_value``.
    """

    axes: Ints = ()
    scales: tuple[float, ...] = ()
    sizes: Sizes = ()
    coordinates: str = "half_pixel"
    policy: str = "stretch"
    roi: tuple[float, ...] = ()
    extrapolation_value: float = 0.0

    def infer(self, *types: TensorType) -> TensorType:
        (x,) = types
        x.check_computed()
        axes_of(self.axes, x.rank)
        count = len(self.axes)
        if self.coordinates not in _POSITIONS or self.policy not in POLICIES:
            raise ShapeError(f"unknown coordinates {self.coordinates!r} or policy {self.policy!r}")
        if sorted((len(self.scales), len(self.sizes))) != [0, count] or len(self.roi) not in (0, 2 * count):
            raise ShapeError(f"takes either scales or sizes, one for each of {count} axes, and a roi of two for each")
        if (self.coordinates == CROP) != bool(self.roi):
            raise ShapeError(f"a roi belongs to coordinates {CROP}")
        if not all(math.isfinite(s) and s > 0 for s in self.scales) or any(d < 1 for d in self.sizes):
            raise ShapeError("scales and sizes must be positive")
        fill = self.extrapolation_value
        if self.coordinates == CROP and not (x.is_float or (math.isfinite(fill) and x.holds(math.trunc(fill)))):
            low, high = x.bounds
            raise ShapeError(
                f"extrapolation_value {fill:g} is not in the range of {dtype_names(x.dtype)}, {low} to {high}"
            )
        shape: list[Dim] = list(x.shape)
        axes = [axis_of(a, x.rank) for a in self.axes]
        _, outs = self._extents([x.shape[a] for a in axes])
        for axis, out in zip(axes, outs, strict=True):
            if out and not x.shape[axis]:
                raise ShapeError(f"axis {axis} of {x} has nothing to resize")
            shape[axis] = out
        return x.with_shape(shape)

    def lines(self, x: TensorType, out: TensorType) -> list[Line]:
        """The positions along each resized axis, for the types of operand and result."""
        axes = [axis_of(a, x.rank) for a in self.axes]
        sizes, outs = ([t.shape[a] for a in axes] for t in (x, out))
        scales = [rational(s) for s in self.scales] or self._extents(sizes)[0]
        found = []
        for i, (axis, size, made) in enumerate(zip(axes, sizes, outs, strict=True)):
            scale = scales[i] if scales else None
            roi = [rational(r) for r in self.roi[i :: len(axes)]] or [Fraction(0), Fraction(1)]
            along = Along(size, made, Ratio.of(made, size) if scale is None else Ratio.of(scale), *map(Ratio.of, roi))
            step, offset = _POSITIONS[self.coordinates](along)
            found.append(Line(axis, size, made, scale, *_in_units(step, offset)))
        return found

    def _extents(self, sizes: Sequence[Dim]) -> tuple[list[Fraction], list[Dim]]:
        """Scale and output size of each resized axis. The scales are left out where they depend on open sizes."""
        if self.scales:
            return [rational(s) for s in self.scales], [_scaled(d, s) for d, s in zip(sizes, self.scales, strict=True)]
        known = [d for d in sizes if isinstance(d, int)]
        wanted = [d for d in self.sizes if isinstance(d, int)]
        if len(known) + len(wanted) < 2 * len(sizes):
            if self.policy != "stretch":
                raise ShapeError(
                    f"what policy {self.policy} makes of sizes {list(sizes)} is open; fix them with shapes={{...}} "
                    "(--shape)"
                )
            return [], list(self.sizes)
        scales = [Fraction(out, max(size, 1)) for size, out in zip(known, wanted, strict=True)]
        if self.policy == "stretch" or not scales:
            return scales, list(self.sizes)
        common = min(scales) if self.policy == "not_larger" else max(scales)
        return [common] * len(sizes), [math.floor(common * size + Fraction(1, 2)) for size in known]

    def extrapolated(self, k: TensorExpressions, lines: Sequence[Line], index: Sequence[Any], value: Any) -> Any:
        """The value, or ``extrapolation_value`` where the position is outside the input."""
        if self.coordinates != CROP:
            return value
        beyond = k.tirx.any(*(line.outside(k, index[line.axis]) for line in lines))
        fill = self.extrapolation_value if "float" in k.dtype(value) else int(self.extrapolation_value)
        return k.select(beyond, k.like(fill, value), value)

    def layouts(self, inputs: Sequence[TensorType], layout: Layout) -> bool:
        rank = inputs[0].rank
        return rank == layout.rank and all(layout.block(axis_of(a, rank)) == 1 for a in self.axes)


def _scaled(size: Dim, scale: float) -> Dim:
    """The size of an axis times a scale, rounded down; the product in float32, as ONNX's shape inference has it."""
    if isinstance(size, int):
        return int(np.float32(size) * np.float32(scale))
    exact = Fraction(float(np.float32(scale)))
    if size * exact.numerator > EXACT:
        raise ShapeError(
            f"size {size} is open here, and rounding decides what {scale:g} times it is; fix it with shapes={{...}} "
            "(--shape)"
        )
    return size * exact.numerator // exact.denominator


EXACT = 1 << 24
"""Integers up to this one are exact in float32."""


def rational(x: float) -> Fraction:
    """A float32 as the simple fraction that it was most likely rounded from, or as its exact value."""
    simple = Fraction(x).limit_denominator(1 << 12)
    return simple if np.float32(float(simple)) == np.float32(x) else Fraction(float(np.float32(x)))


_HALF = Ratio.of(Fraction(1, 2))
_Position = tuple[Ratio, Ratio]
"""The slope and the intercept of a position as a function of the output index."""


@dataclass(frozen=True)
class Along:
    """What is known of an axis that is resized: its sizes, its scale, and the part of it that is taken."""

    size: Dim
    out: Dim
    scale: Ratio
    start: Ratio
    end: Ratio

    @property
    def many(self) -> Dim:
        """Whether there is more than one output, as 0 or 1."""
        return least(largest(self.out - 1, 0), 1)

    @property
    def intervals(self) -> Dim:
        """The number of intervals between outputs, at least 1."""
        return largest(self.out - 1, 1)


def _half_pixel(a: Along) -> _Position:
    return a.scale.inverse, _HALF * a.scale.inverse - _HALF


def _half_pixel_symmetric(a: Along) -> _Position:
    wanted = a.scale * Ratio.of(a.size)
    centre = _HALF * Ratio.of(a.size) * (Ratio.of(1) - Ratio.of(a.out) * wanted.inverse) if a.size != 0 else Ratio.of(0)
    return a.scale.inverse, centre + _HALF * a.scale.inverse - _HALF


def _pytorch_half_pixel(a: Along) -> _Position:
    step, offset = _half_pixel(a)
    return step * Ratio.of(a.many), offset * Ratio.of(a.many)


def _align_corners(a: Along) -> _Position:
    # the width may be a fraction, as in ONNX's text and tests; ONNX Runtime rounds it first
    width = a.scale * Ratio.of(a.size) - Ratio.of(1)
    if isinstance(a.out, Size):  # with one output the slope does not matter
        width = Ratio.of(largest(width.numerator, 1), width.denominator)
    return (Ratio.of(a.size - 1) * width.inverse if a.out != 1 else Ratio.of(0)), Ratio.of(0)


def _asymmetric(a: Along) -> _Position:
    return a.scale.inverse, Ratio.of(0)


def _crop(a: Along) -> _Position:
    last, many = Ratio.of(a.size - 1), Ratio.of(a.many)
    middle = (a.start + a.end) * _HALF * last
    step = (a.end - a.start) * last * Ratio.of(1, a.intervals)
    return step * many, a.start * last * many + middle * (Ratio.of(1) - many)


def _half_pixel_for_nn(a: Along) -> _Position:
    return a.scale.inverse, _HALF * a.scale.inverse


_POSITIONS = {
    "half_pixel": _half_pixel,
    "half_pixel_symmetric": _half_pixel_symmetric,
    "pytorch_half_pixel": _pytorch_half_pixel,
    "align_corners": _align_corners,
    "asymmetric": _asymmetric,
    CROP: _crop,
    "tf_half_pixel_for_nn": _half_pixel_for_nn,
}


def _in_units(step: Ratio, offset: Ratio) -> tuple[Dim, Dim, Dim]:
    """Step and offset in parts of a common unit, and the number of these parts in 1."""
    unit = step.common(offset)
    return step.numerator * (unit // step.denominator), offset.numerator * (unit // offset.denominator), unit


def export_resampling(op: Resampling, n: ExportNode, **attrs: Any) -> None:
    """Write an ONNX Resize node."""
    crops = op.coordinates == CROP
    roi = n.constant(np.array(op.roi, np.float32), "roi") if crops else ""
    scales = n.constant(np.array(op.scales, np.float32), "scales") if op.scales else ""
    inputs = [n.inputs[0], roi, scales, *([n.ints(op.sizes)] if op.sizes else [])]
    if not op.axes:
        n.node("Identity", n.inputs, n.outputs)
        return
    n.node(
        "Resize",
        inputs,
        n.outputs,
        axes=op.axes,
        coordinate_transformation_mode=op.coordinates,
        extrapolation_value=op.extrapolation_value if crops else None,
        keep_aspect_ratio_policy=op.policy if op.sizes else None,
        **attrs,
    )
