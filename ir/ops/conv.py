"""Convolution."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import ShapeError, plural
from ..graph import Node, Value
from ..lowering import Operand, TensorExpressions
from ..onnx_io import ExportNode, ImportNode, exports, imports
from ..op import Case, Op, f16, f32, f64, sample
from ..sizes import divides, same, same_shape
from ..types import TensorType
from ._accumulate import accumulator, rounded
from ._window import (
    Ints,
    Pads,
    flat_pads,
    full,
    full_pads,
    kernel_of,
    onnx_kernel,
    onnx_pads,
    onnx_strides,
    out_size,
    packed_result,
    pad_spatial,
)


@dataclass(frozen=True)
class Conv(Op):
    """``y[n,o,i] = b[o] + sum over c, k of x[n, c, s*i + d*k - pad] * w[o,c,k]``, a cross-correlation; ONNX Conv-22.

    Data ``N C spatial``, weight ``O C/group spatial``, optional bias ``O``; any number of spatial axes. The layout of a
    packed weight decides that of the result: a weight with blocks of outputs (``OIHW16i16o``) gives a result in the
    same blocks (``NCHW16c``), one without (``HWIO``) gives channels last (``NHWC``). With ``exact`` the operands are
    whole numbers and the sums must be exact, so that algorithms that round are ruled out.
    """

    name = "conv"
    contraction = True
    strides: Ints = ()
    pads: Pads = ()
    dilations: Ints = ()
    group: int = 1
    exact: bool = False

    def infer(self, *types: TensorType) -> TensorType:
        x, w, *bias = types
        if x.rank < 3 or w.rank != x.rank:
            raise ShapeError(f"data has rank {x.rank} and weight rank {w.rank}; both must be equal and at least 3")
        if len(bias) > 1 or {t.dtype for t in types} != {x.dtype} or not x.is_float:
            raise ShapeError("takes data, weight and an optional bias, of one float dtype")
        outputs, channels = w.shape[:2]
        if self.group < 1 or not divides(self.group, outputs) or not same(x.shape[1], channels * self.group):
            raise ShapeError(
                f"data has {plural(x.shape[1], 'channel')}, but the weight takes {channels} in each of "
                f"{plural(self.group, 'group')} and gives {plural(outputs, 'channel')}"
            )
        if bias and not same_shape(bias[0].shape, (outputs,)):
            raise ShapeError(f"bias has shape {list(bias[0].shape)}, not [{outputs}]")
        strides, pads, dilations = self.geometry(x.rank - 2)
        spatial = tuple(
            out_size(*sizes) for sizes in zip(x.shape[2:], kernel_of(w), strides, dilations, pads, strict=True)
        )
        return TensorType(x.dtype, (x.shape[0], outputs, *spatial), packed_result(x, w))

    def geometry(self, rank: int) -> tuple[Ints, Pads, Ints]:
        """Strides, pads and dilations for each of ``rank`` spatial axes."""
        return full(self.strides, rank), full_pads(self.pads, rank), full(self.dilations, rank)

    def compute(self, k: TensorExpressions, xs: Sequence[Operand], outs: Sequence[TensorType]) -> Any:
        x, w, *bias = xs
        rank = x.type.rank - 2
        strides, pads, dilations = self.geometry(rank)
        per_group, outputs = w.shape[1], w.shape[0] // self.group
        acc = accumulator(outs[0])
        wide = acc.tvm_dtype
        padded = pad_spatial(k, x, pads)
        rc = k.reduce_axis(per_group, "rc")
        rk = [k.reduce_axis(size, "rk") for size in w.shape[2:]]

        def element(n: Any, o: Any, *i: Any) -> Any:
            c = rc if self.group == 1 else (o // outputs) * per_group + rc
            at = [s * j + d * r for s, j, d, r in zip(strides, i, dilations, rk, strict=True)]
            return k.te.sum(padded(n, c, *at).astype(wide) * w(o, rc, *rk).astype(wide), axis=[rc, *rk])

        y = k.operand(k.compute(acc, element, "conv"), acc)
        if not bias:
            return rounded(k, y, outs[0])

        def biased(n: Any, o: Any, *i: Any) -> Any:
            return (y(n, o, *i) + bias[0](o).astype(wide)).astype(outs[0].tvm_dtype)

        return k.compute(outs[0], biased, "bias", guard=bias[0].type.layout is None)

    def flops(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> int:
        macs = outputs[0].numel * math.prod(inputs[1].sizes[1:])
        return 2 * macs + (outputs[0].numel if len(inputs) == 3 else 0)

    @classmethod
    def cases(cls) -> Iterator[Case]:
        yield sample(cls(), f32[1, 3, 7, 9], f32[4, 3, 3, 2], f32[4])
        yield sample(cls(strides=(2, 3), pads=((1, 0), (0, 2)), dilations=(2, 1)), f32[2, 4, 11, 8], f32[6, 4, 3, 3])
        yield sample(cls(group=2), f32[1, 4, 6, 6], f32[6, 2, 3, 3], f32[6])
        yield sample(cls(group=5, pads=((1, 1), (1, 1))), f32[1, 5, 6, 7], f32[10, 1, 3, 3])
        yield sample(cls(strides=(2,)), f32[2, 3, 9], f32[5, 3, 4], f32[5])
        yield sample(cls(pads=((1, 1), (0, 1), (2, 0))), f32[1, 2, 4, 5, 6], f32[3, 2, 2, 3, 2])
        yield sample(
            cls(), f64[1, 2, 4, 4], f64[3, 2, 2, 2], oracle="reference", note="ONNX Runtime has no float64 Conv"
        )
        yield sample(cls(), f32[1, 64, 9, 9], f32[32, 64, 1, 1], f32[32])
        yield sample(cls(), f16[1, 300, 3, 3], f16[4, 300, 3, 3], low=0, high=0.1)


@imports("Conv")
def _import_conv(n: ImportNode) -> Any:
    return n.emit(Conv(*conv_geometry(n, n.input(0), n.input(1))), *n.present_inputs())


@exports(Conv)
def _export_conv(op: Conv, n: ExportNode) -> None:
    strides, pads, dilations = op.geometry(n.input_types[0].rank - 2)
    n.node("Conv", n.inputs, n.outputs, strides=strides, pads=flat_pads(pads), dilations=dilations, group=op.group)


def is_depthwise(node: Node) -> bool:
    """Whether the convolution is depthwise with one output channel per input channel."""
    group: int = getattr(node.op, "group", 1)
    return group > 1 and group == node.inputs[0].type.shape[1] == node.output.type.shape[1]


def conv_geometry(n: ImportNode, x: Value, w: Value) -> tuple[Ints, Pads, Ints, int]:
    """Strides, pads, dilations and group of an ONNX node that convolves data x with weight w."""
    kernel = onnx_kernel(n, w.type)
    strides, dilations = onnx_strides(n, kernel)
    pads = onnx_pads(n, x.type.shape[2:], kernel, strides, dilations)
    return strides, pads, dilations, n.attr("group", 1)
