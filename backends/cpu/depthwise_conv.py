"""Depthwise convolution on blocked data: a block of channels fills the vector, a row of pixels the registers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tvm import te

from convc.ir.graph import Node
from convc.ir.lowering import Operand, TensorExpressions
from convc.ir.ops.conv import Conv
from convc.ir.passes.assign_layouts import is_depthwise
from convc.ir.types import TensorType

from ..group import Group
from ..target import Target
from .blocks import find_block, inline_epilogue
from .direct_conv import padded, register_tile

MAX_WINDOW = 25
"""Windows of at most this many weights are unrolled whole."""


def depthwise_conv(group: Group, target: Target) -> Any:
    """2-D convolutions of each channel by itself, held ``NCHW{b}c``; ``None`` for others."""
    node = group.anchor
    out = node.output.type
    if not isinstance(node.op, Conv) or out.layout is None or out.rank != 4 or not is_depthwise(node):
        return None
    sch = group.lower({node.output.name: DepthwiseConv(node).compute}).schedule()
    rows, columns = register_tile(*out.sizes[2:], out.layout.block(1), target)
    return schedule(sch, rows, columns, node)


@dataclass(frozen=True)
class DepthwiseConv:
    """``Y[n,c,oh,ow,v] = sum over kh, kw of X[n,c, oh*s + kh*d, ow*s + kw*d, v] * W[c,kh,kw,v]``."""

    node: Node

    def compute(self, k: TensorExpressions, xs: Sequence[Operand], outs: Sequence[TensorType]) -> Any:
        x, w, *bias = xs
        op = self.node.op
        assert isinstance(op, Conv)
        (sh, sw), pads, (dh, dw) = op.geometry(2)
        source = padded(k, x, pads)
        rh, rw = k.reduce_axis(w.shape[2], "rh"), k.reduce_axis(w.shape[3], "rw")

        def element(n: Any, c: Any, h: Any, i: Any, v: Any) -> Any:
            data = source(n, c, h * sh + rh * dh, i * sw + rw * dw, v)
            return te.sum(data * w.tensor(c, 0, rh, rw, v), axis=[rh, rw])

        y = te.compute(outs[0].physical_shape, element, name="conv")
        if not bias:
            return y
        result = k.operand(y, outs[0])
        return k.compute(outs[0], lambda n, o, *i: result(n, o, *i) + bias[0](o), "bias", mask=True)


def schedule(sch: Any, rows: int, columns: int, node: Node) -> Any:
    """Blocks of channels in parallel; the padded plane of one block is made, used, and still in cache."""
    conv = sch.get_sblock("conv")
    out = inline_epilogue(sch, conv)
    n, c, oh, ow, v = sch.get_loops(out)
    oho, ohi = sch.split(oh, [None, rows])
    owo, owi = sch.split(ow, [None, columns])
    sch.reorder(n, c, oho, owo, ohi, owi, v)
    outer = sch.fuse(n, c)
    sch.parallel(outer)
    sch.vectorize(v)
    sch.unroll(owi)
    sch.unroll(ohi)

    sch.compute_at(conv, owo, preserve_unit_loops=True)
    sch.set_scope(conv, 0, "local")
    _, _, ch, cw, cv, rh, rw = sch.get_loops(conv)[3:]
    sch.reorder(rh, rw, ch, cw, cv)
    sch.vectorize(cv)
    sch.unroll(cw)
    sch.unroll(ch)
    height, width = node.inputs[1].type.sizes[2:]
    if height * width <= MAX_WINDOW:
        sch.unroll(rw)
        sch.unroll(rh)
    sch.decompose_reduction(conv, rh)

    pad = find_block(sch, "pad")
    if pad is not None:
        sch.compute_at(pad, outer)
        sch.vectorize(sch.get_loops(pad)[-1])
    return sch
