"""Deformable convolution."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import ShapeError, plural
from ..lowering import Operand, TensorExpressions
from ..onnx_io import ExportNode, ImportNode, exports, imports
from ..op import Case, Op, f32, sample
from ..sizes import Dim, divides, largest, same, same_shape
from ..types import TensorType
from ._accumulate import accumulator, rounded
from ._window import Ints, Pads, flat_pads, full, full_pads, kernel_of, onnx_kernel, onnx_pads, onnx_strides, out_size
from .grid_sample import GridSample

FAR = 1e9
"""Positions are clipped to this bound, and NaN is replaced by it, so that they can be converted to integers."""


@dataclass(frozen=True)
class DeformConv(Op):
    """A 2-D convolution in which each tap reads the data at an offset from its position; ONNX DeformConv-22,
    torchvision ``deform_conv2d``.

    Operands: data ``N C H W``, weight ``O C/group kh kw``, offsets ``N 2*g*kh*kw OH OW`` in elements (vertical and
    horizontal by turns) for ``offset_group`` = g groups of channels, then a bias ``O`` and a mask ``N g*kh*kw OH OW``
    that multiplies what is read, where ``has_bias`` and ``has_mask`` say so. Data is interpolated linearly between
    elements, and 0 outside.
    """

    name = "deform_conv"
    needs_range = True
    strides: Ints = ()
    pads: Pads = ()
    dilations: Ints = ()
    group: int = 1
    offset_group: int = 1
    has_bias: bool = False
    has_mask: bool = False

    def infer(self, *types: TensorType) -> TensorType:
        x, w, offset, *rest = types
        if x.rank != 4 or w.rank != 4 or len(rest) != self.has_bias + self.has_mask:
            raise ShapeError(
                "takes data and a weight of rank 4, offsets, and the bias and mask that its attributes say"
            )
        if not x.is_float or {t.dtype for t in types} != {x.dtype}:
            raise ShapeError("operands must have one float dtype")
        (batch, channels), (outputs, per_group), kernel = x.shape[:2], w.shape[:2], kernel_of(w)
        fits = min(self.group, self.offset_group) >= 1 and divides(self.group, outputs)
        if not fits or not same(channels, per_group * self.group):
            raise ShapeError(
                f"{plural(channels, 'channel')} cannot be fitted to a weight {w} of {plural(self.group, 'group')}"
            )
        if not divides(self.offset_group, channels):
            raise ShapeError(
                f"{plural(channels, 'channel')} cannot be divided into {plural(self.offset_group, 'offset group')}"
            )
        strides, pads, dilations = self.geometry()
        spatial = tuple(out_size(*sizes) for sizes in zip(x.shape[2:], kernel, strides, dilations, pads, strict=True))
        places = self.offset_group * math.prod(kernel)
        wanted = [(batch, 2 * places, *spatial)]
        wanted += [(outputs,)] * self.has_bias + [(batch, places, *spatial)] * self.has_mask
        for t, shape in zip((offset, *rest), wanted, strict=True):
            if not same_shape(t.shape, shape):
                raise ShapeError(f"an operand has shape {list(t.shape)}, not {list(shape)}")
        return TensorType(x.dtype, (batch, outputs, *spatial))

    def geometry(self) -> tuple[Ints, Pads, Ints]:
        """Strides, pads and dilations of both axes."""
        return full(self.strides, 2), full_pads(self.pads, 2), full(self.dilations, 2)

    def compute(self, k: TensorExpressions, xs: Sequence[Operand], outs: Sequence[TensorType]) -> Any:
        _x, w, _offset, *rest = xs
        acc = accumulator(outs[0])
        sampled = self.sampled(k, xs, acc)
        per_group, outputs = w.shape[1], w.shape[0] // self.group
        rc, rk = k.reduce_axis(per_group, "rc"), k.reduce_axis(w.shape[2] * w.shape[3], "rk")

        def element(n: Any, o: Any, i: Any, j: Any) -> Any:
            weight = w(o, rc, rk // w.shape[3], rk % w.shape[3]).astype(acc.tvm_dtype)
            return k.te.sum(sampled(n, o // outputs * per_group + rc, rk, i, j) * weight, axis=[rc, rk])

        y = k.operand(k.compute(acc, element, "conv"), acc)
        if self.has_bias:
            bias, summed = rest[0], y
            total = k.compute(acc, lambda n, o, *i: summed(n, o, *i) + bias(o).astype(acc.tvm_dtype), "bias")
            y = k.operand(total, acc)
        return rounded(k, y, outs[0])

    def sampled(self, k: TensorExpressions, xs: Sequence[Operand], acc: TensorType) -> Operand:
        """The data that each tap reads, ``N C kh*kw OH OW``: interpolated at the offset positions, times the mask."""
        x, w, offset, *rest = xs
        batch, channels, *_ = x.shape
        count = w.shape[2] * w.shape[3]
        spatial = acc.shape[2:]
        linear = GridSample("linear", "zeros")
        points = acc.with_shape((batch, self.offset_group, count, *spatial))
        tapped = points.with_shape((*points.shape, 2))
        indices, weights = [], []
        for axis, size in enumerate(x.shape[2:]):
            place = self.place(k, offset, points, w.shape[3], axis)
            at = lambda *o, p=place, s=size: linear.index(k, p(*o[:-1]), o[-1], s)  # noqa: E731
            indices.append(_tensor(k, tapped.with_dtype("i32"), at))
            weights.append(_tensor(k, tapped, lambda *o, p=place: linear.weight(k, p(*o[:-1]), o[-1])))
        taps = [k.reduce_axis(2, "tap") for _ in indices]

        def element(n: Any, c: Any, *o: Any) -> Any:
            g = c // largest(channels // self.offset_group, 1)
            at = [index(n, g, *o, tap) for index, tap in zip(indices, taps, strict=True)]
            value = x(n, c, *(k.tirx.max(i, 0) for i in at)).astype(acc.tvm_dtype)
            value = k.guarded(k.tirx.all(*(i >= 0 for i in at)), value, k.const(0, acc.tvm_dtype))
            for weight, tap in zip(weights, taps, strict=True):
                value = value * weight(n, g, *o, tap)
            if self.has_mask:
                value = value * rest[-1](n, g * count + o[0], *o[1:]).astype(acc.tvm_dtype)
            return k.te.sum(value, axis=taps)

        type = acc.with_shape((batch, channels, count, *spatial))
        return k.operand(k.compute(type, element, "sampled"), type)

    def place(self, k: TensorExpressions, offset: Operand, points: TensorType, width: Dim, axis: int) -> Operand:
        """The position along an axis that each tap of each window reads, in elements."""
        strides, pads, dilations = self.geometry()
        count = points.shape[2]

        def element(n: Any, g: Any, r: Any, *o: Any) -> Any:
            window = r % width if axis else r // width
            start = o[axis] * strides[axis] - pads[axis][0] + window * dilations[axis]
            moved = offset(n, (g * count + r) * 2 + axis, *o).astype(points.tvm_dtype) + start.astype(points.tvm_dtype)
            far = k.const(FAR, points.tvm_dtype)
            return k.select(moved > -far, k.tirx.min(moved, far), -far)

        return _tensor(k, points, element)

    def flops(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> int:
        return 2 * outputs[0].numel * math.prod(inputs[1].sizes[1:])

    @classmethod
    def cases(cls) -> Iterator[Case]:
        yield sample(cls(), f32[1, 2, 5, 6], f32[3, 2, 2, 3], f32[1, 12, 4, 4])
        yield sample(
            cls((2, 1), ((1, 0), (0, 2)), (1, 2), 2, 2, True, True),
            *(f32[2, 4, 6, 5], f32[6, 2, 3, 2], f32[2, 24, 3, 5], f32[6], f32[2, 12, 3, 5]),
        )
        yield sample(
            cls(has_mask=True), f32[1, 1, 4, 4], f32[1, 1, 3, 3], f32[1, 18, 2, 2], f32[1, 9, 2, 2], low=-9, high=9
        )


@imports("DeformConv")
def _import_deform_conv(n: ImportNode) -> Any:
    x, w, bias, mask = n.input(0), n.input(1), n.optional(3), n.optional(4)
    if x.type.rank != 4:
        raise n.unsupported("only two spatial axes are supported")
    kernel = onnx_kernel(n, w.type)
    strides, dilations = onnx_strides(n, kernel)
    pads = onnx_pads(n, x.type.shape[2:], kernel, strides, dilations)
    groups = n.attr("group", 1), n.attr("offset_group", 1)
    op = DeformConv(strides, pads, dilations, *groups, bias is not None, mask is not None)
    return n.emit(op, x, w, n.input(2), *(v for v in (bias, mask) if v is not None))


@exports(DeformConv)
def _export_deform_conv(op: DeformConv, n: ExportNode) -> None:
    strides, pads, dilations = op.geometry()
    x, w, offset, *rest = n.inputs
    optional = [rest[0] if op.has_bias else "", rest[-1] if op.has_mask else ""]
    n.node(
        "DeformConv", [x, w, offset, *optional], n.outputs,
        strides=strides, pads=flat_pads(pads), dilations=dilations, group=op.group, offset_group=op.offset_group,
    )  # fmt: skip


def _tensor(k: TensorExpressions, type: TensorType, element: Callable[..., Any]) -> Operand:
    return k.operand(k.compute(type, lambda *i: element(*i).astype(type.tvm_dtype)), type)
