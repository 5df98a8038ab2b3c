"""Transposed convolution."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import ShapeError, plural
from ..lowering import Operand, TensorExpressions
from ..onnx_io import ExportNode, ImportNode, exports, imports
from ..op import Case, Op, f16, f32, f64, sample
from ..sizes import Dim, divides, same, same_shape
from ..types import TensorType
from ._accumulate import accumulator
from ._transposed import Axis
from ._window import (
    Ints,
    Pads,
    explicit_pads,
    flat_pads,
    full,
    full_pads,
    kernel_of,
    onnx_kernel,
    onnx_strides,
    packed_result,
)


@dataclass(frozen=True)
class ConvTranspose(Op):
    """The gradient of a convolution with respect to its data, as an op of its own; ONNX ConvTranspose-22.

    ``y[n, o, s*i + d*k - pad] += x[n,c,i] * w[c,o,k]``, plus an optional bias. Data ``N C spatial``, weight
    ``C O/group spatial``, bias ``O``, all row-major, or the weight in a layout without blocks, such as ``HWAB``; the
    result then has its channels last. Sizes follow
    ``out = s * (in - 1) + output_padding + d * (kernel - 1) + 1 - pad_begin - pad_end``.
    """

    name = "conv_transpose"
    contraction = True
    strides: Ints = ()
    pads: Pads = ()
    dilations: Ints = ()
    output_padding: Ints = ()
    group: int = 1

    def infer(self, *types: TensorType) -> TensorType:
        x, w, *bias = types
        if x.rank < 3 or w.rank != x.rank:
            raise ShapeError(f"data has rank {x.rank} and weight rank {w.rank}; both must be equal and at least 3")
        if len(bias) > 1 or {t.dtype for t in types} != {x.dtype} or not x.is_float:
            raise ShapeError("takes data, weight and an optional bias, of one float dtype")
        if any(t.layout and t.layout.is_blocked for t in types):
            raise ShapeError("takes no operands in blocks")
        channels, per_group = w.shape[:2]
        if self.group < 1 or not divides(self.group, channels) or not same(x.shape[1], channels):
            raise ShapeError(
                f"data has {plural(x.shape[1], 'channel')}, but the weight takes {channels} in "
                f"{plural(self.group, 'group')}"
            )
        outputs = per_group * self.group
        if bias and not same_shape(bias[0].shape, (outputs,)):
            raise ShapeError(f"bias has shape {list(bias[0].shape)}, not [{outputs}]")
        axes = zip(x.shape[2:], kernel_of(w), *self.geometry(x.rank - 2), strict=True)
        return TensorType(x.dtype, (x.shape[0], outputs, *(_out_size(*axis) for axis in axes)), packed_result(x, w))

    def geometry(self, rank: int) -> tuple[Ints, Pads, Ints, Ints]:
        """Strides, pads, dilations and output padding, one per spatial axis."""
        return (
            full(self.strides, rank),
            full_pads(self.pads, rank),
            full(self.dilations, rank),
            full(self.output_padding, rank, 0),
        )

    def axes(self, x: TensorType, w: TensorType) -> list[Axis]:
        """The contributions to each output position, for each spatial axis."""
        axes = zip(x.shape[2:], kernel_of(w), *self.geometry(x.rank - 2), strict=True)
        return [Axis(size, kernel, s, d, pad[0]) for size, kernel, s, pad, d, _ in axes]

    def compute(self, k: TensorExpressions, xs: Sequence[Operand], outs: Sequence[TensorType]) -> Any:
        """The result as a gather: each output element is a sum over the taps that contribute to it."""
        x, w, *bias = xs
        acc = accumulator(outs[0])
        channels, outputs = w.shape[0] // self.group, w.shape[1]
        axes = self.axes(x.type, w.type)
        rc = k.reduce_axis(channels, "rc")
        rt = [k.reduce_axis(axis.taps, "rt") for axis in axes]

        def element(n: Any, o: Any, *i: Any) -> Any:
            c = rc if self.group == 1 else (o // outputs) * channels + rc
            met = [axis.meet(j, t) for axis, j, t in zip(axes, i, rt, strict=True)]
            data = x(n, c, *(source for source, _, _ in met)).astype(acc.tvm_dtype)
            weight = w(c, o % outputs, *(tap for _, tap, _ in met)).astype(acc.tvm_dtype)
            inside = k.tirx.all(*(test for _, _, tests in met for test in tests))
            return k.te.sum(k.guarded(inside, data * weight, k.const(0, acc.tvm_dtype)), axis=[rc, *rt])

        y = k.operand(k.compute(acc, element, "conv_transpose"), acc)
        if not bias and acc == outs[0]:
            return y.tensor

        def finish(n: Any, o: Any, *i: Any) -> Any:
            value = y(n, o, *i) + bias[0](o).astype(acc.tvm_dtype) if bias else y(n, o, *i)
            return value.astype(outs[0].tvm_dtype)

        return k.compute(outs[0], finish, "bias")

    def flops(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> int:
        macs = inputs[0].numel * math.prod(inputs[1].sizes[1:])
        return 2 * macs + (outputs[0].numel if len(inputs) == 3 else 0)

    @classmethod
    def cases(cls) -> Iterator[Case]:
        wrong = {"oracle": "onnxruntime", "note": "the reference takes one output channel a group"}
        yield sample(cls(), f32[1, 3, 4, 5], f32[3, 4, 3, 2], f32[4])
        yield sample(cls((2, 3), ((1, 0), (0, 2)), output_padding=(1, 2)), f32[2, 3, 5, 4], f32[3, 2, 3, 3])
        yield sample(cls((3, 2), ((1, 2), (2, 0)), (2, 4)), f32[1, 2, 4, 5], f32[2, 3, 3, 2], f32[3])
        yield sample(cls((4,), dilations=(6,), output_padding=(3,)), f32[1, 2, 5], f32[2, 3, 4])
        yield sample(cls((2,), ((1, 1),), group=2), f32[1, 4, 5], f32[4, 3, 4], f32[6], **wrong)
        yield sample(cls((2, 2), group=3), f32[1, 3, 4, 5], f32[3, 1, 2, 2])
        yield sample(cls((2, 1, 2), ((0, 1), (1, 1), (1, 0))), f32[1, 2, 3, 4, 3], f32[2, 3, 2, 3, 3], f32[3])
        yield sample(cls((2, 2)), f16[1, 2, 3, 3], f16[2, 3, 3, 3], f16[3])
        yield sample(
            cls((2, 2)),
            f64[1, 2, 3, 3],
            f64[2, 3, 2, 2],
            oracle="reference",
            note="ONNX Runtime has no float64 ConvTranspose",
        )


@imports("ConvTranspose")
def _import_conv_transpose(n: ImportNode) -> Any:
    x, w = n.input(0), n.input(1)
    kernel = onnx_kernel(n, w.type)
    strides, dilations = onnx_strides(n, kernel)
    padding = n.ints_attr("output_padding", len(kernel), least=0)
    pads, padding = _onnx_pads(n, x.type.shape[2:], kernel, strides, dilations, padding)
    return n.emit(ConvTranspose(strides, pads, dilations, padding, n.attr("group", 1)), *n.present_inputs())


@exports(ConvTranspose)
def _export_conv_transpose(op: ConvTranspose, n: ExportNode) -> None:
    strides, pads, dilations, padding = op.geometry(n.input_types[0].rank - 2)
    n.node(
        "ConvTranspose",
        n.inputs,
        n.outputs,
        strides=strides,
        pads=flat_pads(pads),
        dilations=dilations,
        output_padding=padding,
        group=op.group,
    )


def _out_size(size: Dim, kernel: int, stride: int, pads: tuple[int, int], dilation: int, padding: int) -> Dim:
    if min(kernel, stride, dilation) < 1 or min(pads) < 0:
        named = (("kernel", kernel, 1), ("stride", stride, 1), ("dilation", dilation, 1), ("pad", min(pads), 0))
        name, value, least = next(part for part in named if part[1] < part[2])
        raise ShapeError(f"a {name} is {value}; it must be at least {least}")
    if not 0 <= padding < max(stride, dilation):
        raise ShapeError(f"output_padding {padding} must be less than the stride {stride} or the dilation {dilation}")
    grown = padding + dilation * (kernel - 1) + 1 - sum(pads)
    out = stride * (size - 1) + grown
    if out < 1:
        raise ShapeError(f"padding {pads} leaves nothing of an axis of size {size}")
    return out


def _onnx_pads(
    n: ImportNode, spatial: Sequence[Dim], kernel: Ints, strides: Ints, dilations: Ints, padding: Ints
) -> tuple[Pads, Ints]:
    """Pads and output padding of a ConvTranspose node, with ``output_shape`` and ``auto_pad`` resolved.

    Both auto_pad modes act as in ONNX Runtime, also before opset 11, whose documentation exchanges them. Padding that
    would be negative is 0; the output is then smaller than ``auto_pad`` asks for, as in ONNX's shape inference.
    Elements of ``output_shape`` beyond the natural size are output padding.
    """
    rank = len(kernel)
    if len(spatial) != rank:
        raise n.error(f"its kernel has {plural(rank, 'spatial axis', 'spatial axes')}, and its input {len(spatial)}")
    mode, wanted = n.attr("auto_pad", "NOTSET"), n.attr("output_shape")
    if mode not in ("NOTSET", "", "VALID", "SAME_UPPER", "SAME_LOWER"):
        raise n.error(f"unknown auto_pad {mode!r}")
    same = mode.startswith("SAME")
    if not wanted and not same:
        return ((0, 0),) * rank if mode == "VALID" else explicit_pads(n, rank), padding
    wanted = n.ints_attr("output_shape", rank) if wanted else None
    pads, extra = [], []
    for j, (size, s, d, kernel_size, grow) in enumerate(zip(spatial, strides, dilations, kernel, padding, strict=True)):
        natural = s * (size - 1) + d * (kernel_size - 1) + 1 + grow
        total = natural - (wanted[j] if wanted else size * s)
        if not isinstance(total, int):
            raise n.unsupported(
                f"its padding depends on size {size}, which is open; fix it with shapes={{...}} (--shape)"
            )
        small, large = max(total, 0) // 2, max(total, 0) - max(total, 0) // 2
        pads.append((small, large) if mode == "SAME_UPPER" else (large, small))
        extra.append(grow + max(-total, 0) if wanted else grow)
    return tuple(pads), tuple(extra)
