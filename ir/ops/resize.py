"""Resizing, by interpolation or by choice of the nearest element."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from typing import Any

import numpy as np

from ..dtypes import dtype_names
from ..errors import ShapeError, plural
from ..lowering import Operand, TensorExpressions
from ..onnx_io import ExportNode, ImportNode, exports, imports
from ..op import Case, f16, f32, f64, i32, sample, u8
from ..types import TensorType
from ._axes import axis_of
from ._reducers import reduce_over, total
from ._resampling import CROP, Line, Resampling, export_resampling


@dataclass(frozen=True)
class ResizeNearest(Resampling):
    """Each output is the input element nearest to its position; ONNX Resize-19 of mode nearest, any dtype.

    ``nearest_mode`` rounds the position: ``floor``, ``ceil``, or to the nearest, with ties by ``round_prefer_floor`` or
    ``round_prefer_ceil``.
    """

    name = "resize_nearest"
    rounds = False
    injective = True
    nearest_mode: str = "round_prefer_floor"

    def infer(self, *types: TensorType) -> TensorType:
        if self.nearest_mode not in _NEAREST:
            raise ShapeError(f"unknown nearest_mode {self.nearest_mode!r}; known: {', '.join(_NEAREST)}")
        return super().infer(*types)

    def compute(self, k: TensorExpressions, xs: Sequence[Operand], outs: Sequence[TensorType]) -> Any:
        (x,) = xs
        lines = self.lines(x.type, outs[0])
        shift, up = _NEAREST[self.nearest_mode]
        places = [line.table(k, partial(line.rounded, k, shift=shift, up=up)) for line in lines]

        def element(*i: Any) -> Any:
            at = list(i)
            for line, place in zip(lines, places, strict=True):
                at[line.axis] = line.clamped(k, place(i[line.axis]))
            return self.extrapolated(k, lines, i, x(*at))

        return k.compute(outs[0], element, "resize_nearest", mask=True)

    @classmethod
    def cases(cls) -> Iterator[Case]:
        yield sample(cls((2, 3), scales=(2.0, 2.0)), f32[1, 2, 3, 4])
        yield sample(cls((2, 3), sizes=(7, 3)), u8[1, 2, 4, 5], high=200)
        for mode in _NEAREST:
            yield sample(cls((3,), sizes=(4,), nearest_mode=mode), f32[1, 1, 2, 8])
        note = "the reference takes the scale for 0.6000000238, and 3 / 0.6 for less than 5"
        op = cls((0,), scales=(0.6000000238418579,), coordinates="asymmetric", nearest_mode="floor")
        yield sample(op, f32[10], oracle="onnxruntime", note=note)
        yield sample(cls((1, 2), sizes=(5, 9), policy="not_smaller"), f32[2, 3, 4])
        yield sample(
            cls((0, 1), sizes=(5, 4), coordinates=CROP, roi=(0.22, 0.0, 1.22, 0.7), extrapolation_value=-3.0), f32[6, 7]
        )
        note = "the reference lacks tf_half_pixel_for_nn"
        yield sample(
            cls((2,), sizes=(6,), coordinates="tf_half_pixel_for_nn"), f32[1, 2, 4], oracle="onnxruntime", note=note
        )


@exports(ResizeNearest)
def _export_resize_nearest(op: ResizeNearest, n: ExportNode) -> None:
    export_resampling(op, n, mode="nearest", nearest_mode=op.nearest_mode)


@dataclass(frozen=True)
class Resize(Resampling):
    """Each output is a weighted sum of the input elements around its position, axis by axis; ONNX Resize-19.

    ``mode`` linear weighs the two nearest elements along an axis, cubic the four nearest by Keys' kernel with
    ``cubic_coeff_a`` (R. Keys, Cubic Convolution Interpolation for Digital Image Processing, 1981). ``antialias``
    stretches the kernel where the axis shrinks. Elements outside the input repeat those at the border, or have weight 0
    with ``exclude_outside``. Results are computed in float32 or wider; integers are rounded to nearest, ties to even,
    and saturate.
    """

    name = "resize"
    mode: str = "linear"
    cubic_coeff_a: float = -0.75
    antialias: bool = False
    exclude_outside: bool = False

    def infer(self, *types: TensorType) -> TensorType:
        if self.mode not in ("linear", "cubic") or types[0].dtype == "bool":
            raise ShapeError(
                f"takes numbers and mode linear or cubic, not {dtype_names(types[0].dtype)} and {self.mode!r}"
            )
        return super().infer(*types)

    def compute(self, k: TensorExpressions, xs: Sequence[Operand], outs: Sequence[TensorType]) -> Any:
        (x,), (out,) = xs, outs
        lines = self.lines(x.type, out)
        wide = _wide(out)
        y = x
        for line in sorted(lines, key=lambda line: (line.growth, -line.axis)):  # axes that shrink the data come first
            y = self.along(k, y, line, wide)
        if y.type == out and not self.roi:
            return y.tensor

        def element(*i: Any) -> Any:
            return self.extrapolated(k, lines, i, _rounded(k, y(*i), out))

        return k.compute(out, element, "resize", mask=True)

    def along(self, k: TensorExpressions, x: Operand, line: Line, wide: str) -> Operand:
        """The operand resized along one axis."""
        taps = 2 * math.ceil(self.support * self.stretch(line))
        weights = self.weights(k, line, taps, wide)
        shape = [line.out if a == line.axis else size for a, size in enumerate(x.shape)]
        type = x.type.with_shape(shape).with_dtype(wide)
        place = line.table(k, lambda o: line.rounded(k, o))

        def element(*i: Any) -> Any:
            r, o = k.reduce_axis(taps, "tap"), i[line.axis]
            source = line.clamped(k, place(o) + (r - (taps // 2 - 1)))
            value = x(*i[: line.axis], source, *i[line.axis + 1 :])
            return total(k, weights(o, r) * value.astype(weights.dtype), [r])

        return k.operand(k.compute(type, element, "interpolated"), type)

    def weights(self, k: TensorExpressions, line: Line, taps: int, wide: str) -> Operand:
        """A table ``[output, tap]`` of the weights of the elements around each position."""
        type = TensorType(wide, (line.out, taps))
        before = taps // 2 - 1

        def raw(o: Any, t: Any) -> Any:
            distance = k.tirx.abs((t - before).astype(type.tvm_dtype) - line.fraction(k, o, type.tvm_dtype))
            weight = self.kernel(k, distance * k.like(float(1 / self.stretch(line)), distance))
            if not self.exclude_outside:
                return weight
            source = line.rounded(k, o) + (t - before)
            inside = k.tirx.all(source >= 0, source < k.like(line.size, source))
            return k.select(inside, weight, k.like(0, weight))

        table = k.operand(k.compute(type, raw, "weights"), type)
        if not (self.antialias or self.exclude_outside):
            return table
        sums = reduce_over(k, type.shape, [1], type.with_shape([line.out]), total, table)
        return k.operand(k.compute(type, lambda o, t: table(o, t) / sums(o), "normalised"), type)

    def kernel(self, k: TensorExpressions, d: Any) -> Any:
        """The weight of an element at a distance from the position, which is not negative."""
        if self.mode == "linear":
            return k.tirx.max(k.like(1, d) - d, k.like(0, d))
        a = self.cubic_coeff_a
        near = (k.like(a + 2, d) * d - k.like(a + 3, d)) * d * d + k.like(1, d)
        far = ((k.like(a, d) * d - k.like(5 * a, d)) * d + k.like(8 * a, d)) * d - k.like(4 * a, d)
        return k.select(d <= k.like(1, d), near, k.select(d < k.like(2, d), far, k.like(0, d)))

    @property
    def support(self) -> int:
        """The distance at which the kernel ends."""
        return 1 if self.mode == "linear" else 2

    def stretch(self, line: Line) -> Fraction:
        """The factor by which the kernel is stretched."""
        if not self.antialias:
            return Fraction(1)
        if line.scale is None:
            raise ShapeError(f"the number of elements of size {line.size} that make one of {line.out} is open here")
        return max(Fraction(1), 1 / line.scale)

    def flops(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> int:
        return (
            2
            * outputs[0].numel
            * sum(math.ceil(2 * self.support * self.stretch(i)) for i in self.lines(inputs[0], outputs[0]))
        )

    @classmethod
    def cases(cls) -> Iterator[Case]:
        yield sample(cls((2, 3), scales=(2.0, 2.0)), f32[1, 2, 3, 4])
        yield sample(cls((2, 3), sizes=(5, 3), coordinates="align_corners"), f32[1, 2, 3, 7])
        note = "ONNX Runtime rounds the width before it places the corners"
        yield sample(
            cls((2, 3), scales=(0.7, 1.3), coordinates="align_corners"), f32[1, 2, 5, 4], oracle="reference", note=note
        )
        yield sample(cls((2, 3), sizes=(3, 1), coordinates="pytorch_half_pixel"), f32[1, 1, 6, 5])
        yield sample(cls((2, 3), scales=(1.7, 0.6), coordinates="half_pixel_symmetric"), f32[1, 2, 5, 7])
        yield sample(cls((2, 3), sizes=(4, 9), policy="not_larger"), f32[1, 1, 7, 8])
        yield sample(
            cls((0, 1), sizes=(5, 4), coordinates=CROP, roi=(-0.1, 0.0, 1.2, 0.7), extrapolation_value=9.0), f32[6, 7]
        )
        yield sample(cls((2, 3, 4), scales=(2.0, 1.5, 0.5), coordinates="asymmetric"), f32[1, 2, 2, 4, 6])
        yield sample(cls((2, 3), scales=(0.4, 0.7), antialias=True), f32[1, 2, 9, 8])
        yield sample(cls((2, 3), scales=(1.5, 2.0), mode="cubic"), f32[1, 2, 4, 5])
        yield sample(cls((2, 3), sizes=(9, 3), mode="cubic", cubic_coeff_a=-0.5, exclude_outside=True), f32[1, 1, 4, 5])
        yield sample(cls((2, 3), sizes=(2, 9), mode="cubic", antialias=True, exclude_outside=True), f32[1, 1, 7, 5])
        note = "the reference places the only element along an axis at -0.5, and the specification at 0"
        for antialias in (False, True):
            op = cls((2, 3), sizes=(1, 2), coordinates="pytorch_half_pixel", mode="cubic", antialias=antialias)
            yield sample(op, f32[1, 1, 4, 4], oracle="onnxruntime", note=note)
        yield sample(cls((1,), sizes=(7,)), f16[1, 4])
        yield sample(cls((1,), sizes=(7,)), f64[2, 5], oracle="reference", note="ONNX Runtime has no float64")
        yield sample(cls((1,), sizes=(7,)), i32[1, 6], oracle="reference", note="ONNX Runtime truncates")
        note = "ONNX Runtime has no cubic of integers"
        yield sample(cls((1,), sizes=(7,), mode="cubic"), u8[2, 5], high=255, oracle="reference", note=note)


@imports("Resize", "Upsample")
def _import_resize(n: ImportNode) -> Any:
    return _import_old(n) if n.op_type == "Upsample" or n.opset < 11 else _import(n)


@exports(Resize)
def _export_resize(op: Resize, n: ExportNode) -> None:
    export_resampling(
        op,
        n,
        mode=op.mode,
        cubic_coeff_a=op.cubic_coeff_a if op.mode == "cubic" else None,
        antialias=op.antialias or None,
        exclude_outside=op.exclude_outside or None,
    )


_HALF = Fraction(1, 2)
_NEAREST: dict[str, tuple[Fraction, bool]] = {
    "round_prefer_floor": (-_HALF, True),
    "round_prefer_ceil": (_HALF, False),
    "floor": (Fraction(0), False),
    "ceil": (Fraction(0), True),
}
"""For each nearest_mode, the number that is added to the position, and whether the sum is rounded up."""


def _wide(type: TensorType) -> str:
    """The dtype of the interpolation: float64 where float32 would lose digits of the data, else float32."""
    return "f64" if type.dtype in ("f64", "i32", "i64", "u32", "u64") else "f32"


def _rounded(k: TensorExpressions, value: Any, out: TensorType) -> Any:
    """A float as the output's dtype; integers are rounded and saturate."""
    if out.is_float:
        return value.astype(out.tvm_dtype)
    info = np.iinfo(out.numpy_dtype)
    whole = k.tirx.nearbyint(value)
    low, high = k.like(float(info.min), value), k.like(float(info.max), value)
    # float(info.max) may be one above the maximum, so saturation is decided before the cast
    inside = k.tirx.max(k.tirx.min(whole, high), low).astype(out.tvm_dtype)
    return k.select(whole >= high, k.const(int(info.max), out.tvm_dtype), inside)


def _import(n: ImportNode) -> Any:
    """Import Resize-11 and newer."""
    x = n.input(0)
    axes = [axis_of(a, x.type.rank) for a in n.attr("axes") or range(x.type.rank)]
    given, sizes = n.const(2, "scales"), n.sizes(3, "sizes") or ()
    scales = () if given is None else tuple(float(s) for s in given.reshape(-1))
    coordinates = n.attr("coordinate_transformation_mode", "half_pixel")
    region = n.const(1, "roi") if coordinates == CROP else None
    roi = () if region is None else tuple(float(r) for r in region.reshape(-1))
    policy = n.attr("keep_aspect_ratio_policy", "stretch")
    if sorted((len(scales), len(sizes))) != [0, len(axes)]:
        raise n.error(f"it must have either scales or sizes, one for each of {len(axes)} axes")
    if coordinates != CROP and policy == "stretch":
        wanted = scales or sizes
        same = (1.0,) * len(axes) if scales else tuple(x.type.shape[a] for a in axes)
        kept = [i for i in range(len(axes)) if wanted[i] != same[i]]
        axes = [axes[i] for i in kept]
        scales, sizes = tuple(scales[i] for i in kept if scales), tuple(sizes[i] for i in kept if sizes)
    if not axes:
        return x
    place = (tuple(axes), scales, sizes, coordinates, policy, roi, n.attr("extrapolation_value", 0.0))
    mode = n.attr("mode", "nearest")
    if mode == "nearest":
        return n.emit(ResizeNearest(*place, n.attr("nearest_mode", "round_prefer_floor")), x)
    flags = bool(n.attr("antialias", 0)), bool(n.attr("exclude_outside", 0))
    return n.emit(Resize(*place, mode, n.attr("cubic_coeff_a", -0.75), *flags), x)


def _import_old(n: ImportNode) -> Any:
    """Import Resize-10, Upsample-9 and Upsample-7 as ONNX Runtime does, since ONNX leaves positions undefined."""
    x, mode = n.input(0), n.attr("mode", "nearest")
    given = n.attr("scales") if n.opset < 9 else n.const(1, "scales")
    if given is None or len(given) != x.type.rank:
        raise n.error(f"it must have {plural(x.type.rank, 'scale')}")
    if mode not in ("nearest", "linear"):
        raise n.error(f"unknown mode {mode!r}; known: nearest, linear")
    scales = {axis: float(s) for axis, s in enumerate(given) if s != 1}
    if mode == "linear":
        return n.emit(Resize(tuple(scales), tuple(scales.values()), (), "asymmetric"), x) if scales else x
    for nearest, chosen in (
        ("floor", [a for a in scales if scales[a] > 1]),
        ("ceil", [a for a in scales if scales[a] < 1]),
    ):
        if chosen:
            place = tuple(chosen), tuple(scales[a] for a in chosen)
            x = n.emit(ResizeNearest(*place, coordinates="asymmetric", nearest_mode=nearest), x)
    return x
