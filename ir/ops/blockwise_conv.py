"""Convolution of groups narrower than a block of channels: each block by itself, with zeros between the groups in it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import ShapeError
from ..layout import Layout
from ..lowering import Operand, TensorExpressions
from ..op import Op
from ..types import TensorType
from ._window import Ints, Pads, full, full_pads, out_size, pad_spatial


@dataclass(frozen=True)
class BlockwiseWeight(Op):
    """A grouped weight ``O width kh kw`` as ``O block kh kw``: zero between groups that share a block; held ``OIHW{b}i{b}o``.

    ``width`` channels a group, as many in as out, must divide the block.
    """

    name = "blockwise_weight"
    block: int = 16

    def infer(self, *types: TensorType) -> TensorType:
        (w,) = types
        if w.rank != 4 or w.layout is not None or self.block % w.sizes[1]:
            raise ShapeError(f"takes a row-major O I H W weight whose I divides {self.block}, not {w}")
        layout = Layout(f"OIHW{self.block}i{self.block}o")
        return TensorType(w.dtype, (w.shape[0], self.block, *w.shape[2:]), layout)

    def compute(self, k: TensorExpressions, xs: Sequence[Operand], outs: Sequence[TensorType]) -> Any:
        (w,) = xs
        width, outputs = w.shape[1], w.shape[0]

        def element(o: Any, i: Any, h: Any, x: Any) -> Any:
            inside = k.tirx.all(o < outputs, i // width == o % self.block // width)
            return k.guarded(inside, w(o, i % width, h, x), k.const(0, w.dtype))

        return k.compute(outs[0], element, "blockwise_weight")


@dataclass(frozen=True)
class BlockwiseConv(Op):
    """``y[n, j, v] = sum over i, window of x[n, j, i] * w[j, i, v]`` for each block j of channels; 2-D, data ``NCHW{b}c``.

    The weight comes from ``blockwise_weight``; an optional bias has one value an output.
    """

    name = "blockwise_conv"
    strides: Ints = ()
    pads: Pads = ()
    dilations: Ints = ()
    width: int = 1
    """Channels a group: what of a block is not zero."""

    def infer(self, *types: TensorType) -> TensorType:
        x, w, *bias = types
        if x.rank != 4 or x.layout is None or w.rank != 4 or w.layout is None or x.layout.block(1) != w.shape[1]:
            raise ShapeError(f"takes data and weight of the same block, not {x} and {w}")
        if x.shape[1] != w.shape[0] or (bias and bias[0].shape != w.shape[:1]):
            raise ShapeError(
                f"{x.shape[1]} channels of data do not fit weight {w}" + (f" and bias {bias[0]}" if bias else "")
            )
        strides, pads, dilations = self.geometry(2)
        spatial = (out_size(*sizes) for sizes in zip(x.shape[2:], w.sizes[2:], strides, dilations, pads, strict=True))
        return TensorType(x.dtype, (*x.shape[:2], *spatial), x.layout)

    def geometry(self, rank: int) -> tuple[Ints, Pads, Ints]:
        """Strides, pads and dilations for each spatial axis."""
        return full(self.strides, rank), full_pads(self.pads, rank), full(self.dilations, rank)

    def flops(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> int:
        """Those of the grouped convolution; the zeros are not counted."""
        return outputs[0].numel * (2 * self.width * math.prod(inputs[1].sizes[2:]) + (len(inputs) == 3))

    def compute(self, k: TensorExpressions, xs: Sequence[Operand], outs: Sequence[TensorType]) -> Any:
        x, w, *bias = xs
        (sh, sw), pads, (dh, dw) = self.geometry(2)
        b = w.shape[1]
        source = pad_spatial(k, x, pads)
        ri, rh, rw = (k.reduce_axis(s, name) for s, name in zip(w.shape[1:], ("ri", "rh", "rw"), strict=True))

        def element(n: Any, o: Any, h: Any, i: Any) -> Any:
            return k.te.sum(
                source(n, o // b * b + ri, h * sh + rh * dh, i * sw + rw * dw) * w(o, ri, rh, rw), axis=[ri, rh, rw]
            )

        y = k.operand(k.compute(outs[0], element, "conv"), outs[0])
        if not bias:
            return y.tensor
        return k.compute(outs[0], lambda n, o, *i: y(n, o, *i) + bias[0](o), "bias", guard=bias[0].type.layout is None)
