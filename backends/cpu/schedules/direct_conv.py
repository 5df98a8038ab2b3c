"""Direct convolution on blocked data: register tiles of pixels by a block of outputs, summed over the window."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tvm import te

from convc.ir.graph import Node
from convc.ir.layout import round_up
from convc.ir.lowering import Operand, TensorExpressions
from convc.ir.ops._axes import size_of
from convc.ir.ops.conv import Conv, is_depthwise
from convc.ir.ops.conv_bytes import ConvBytes
from convc.ir.sizes import Dim, Size
from convc.ir.types import TensorType

from ...blocks import find_block, inline_epilogue
from ...extents import is_conv_of_any_size
from ...group import Group
from ...lowered import lowered
from ..bands import tiles_of_band, variables_of
from ..chunks import in_chunks, stop_at_end, with_terms
from ..conv_tiles import tile_of, tile_of_plane
from ..overlap import in_tiles, results_of, run_together, with_bands
from ..target import Target
from .blocks import (
    block_of_planes,
    inline_selection,
    keep_in_registers,
    schedule_pad,
    store_tile,
)
from .conv_bytes import bytes_of, sum_of_products
from .pad import padded, widened
from .prefetch import Tiling, prefetch_panels
from .select_channels import is_aligned


def direct_conv(group: Group, target: Target) -> Any:
    """The schedule of 2-D convolutions with results in whole blocks ``NCHW{b}c`` per group; ``None`` for others."""
    node = group.anchor
    out = node.output.type.at_typical()
    block = block_of_planes(out)
    if not isinstance(node.op, Conv) or block is None or is_depthwise(node):
        return None
    count = out.physical_shape[1]
    opened = is_conv_of_any_size(node)
    high, wide = out.sizes[2:]
    tile = group.tile or (tile_of_plane(out, high, wide, target) if opened else tile_of(out, block, target))
    rows, columns, blocks = tile
    joined = group.body.producers.get(node.inputs[0].name)
    singly = joined is not None and not is_aligned(joined, block)
    algorithm = DirectConv(node, columns, singly)
    if algorithm.blocks_a_group()[1] not in (None, count):
        blocks = 1  # blocks of outputs of different groups read different inputs
    sch = lowered(group, {node.output.name: algorithm.compute}).schedule()
    tiles = {1: blocks, 2: rows, 3: columns} if blocks > 1 else {2: rows, 3: columns}
    sch = in_tiles(sch, results_of(sch, "conv"), tiles)
    terms = math.prod(node.inputs[1].type.at_typical().sizes[1:])
    if opened:
        sch = with_terms(sch, variables_of(sch).of(node.inputs[1].type.shape[1]))
    sch, band = with_bands(sch, tiles_of_band(sch, node, rows, target))
    sch = schedule(sch, rows, columns, blocks, 0 if node.op.exact else terms, heavy=group.heavy_epilogue)
    across = -(-node.output.type.shape[3] // columns)
    across = across if isinstance(across, int) else variables_of(sch).of(across)
    tilings = (Tiling(2, rows, band), Tiling(3, columns, across))
    steps = [blocks + b for b in range(blocks)]
    return prefetch_panels(sch, "conv_update", group.argument(node.inputs[1]), 1, 8, tilings, steps)


MANY_CHANNELS = 256
"""From this many input channels on, weights are worth prefetching even where the channels do not fill their blocks."""


@dataclass(frozen=True)
class DirectConv:
    """``Y[n,oc,oh,ow,o] = sum over ic, kh, kw, i of X[n,ic, oh*s + kh*d, ow*s + kw*d, i] * W[oc,ic,kh,kw,i,o]``.

    Data of few channels may be row-major: then there is no ``ic``, and ``i`` runs over all channels. Rows are computed
    up to a multiple of ``columns`` pixels, from an input widened to match, so that every register tile is a whole one.
    """

    node: Node
    columns: int
    singly: bool = False
    """Whether channels are summed one by one even where blocks are full: a block may come from several tensors."""

    def blocks_a_group(self) -> tuple[int, int | None]:
        """The blocks of inputs and of outputs per group; ``None`` outputs when there is only one group."""
        op, out = self.node.op, self.node.output.type
        assert out.layout is not None
        assert isinstance(op, Conv)
        if op.group == 1:
            return 0, None
        block = out.layout.block(1)
        return size_of(self.node.inputs[1].type, 1) // block, size_of(out, 1) // op.group // block

    def compute(self, k: TensorExpressions, xs: Sequence[Operand], outs: Sequence[TensorType]) -> Any:
        x, w, *bias = xs
        op = self.node.op
        assert isinstance(op, Conv)
        (sh, sw), pads, (dh, dw) = op.geometry(2)
        blocked = x.type.layout is not None
        channels = w.shape[1]
        by_bytes = isinstance(op, ConvBytes)
        inner = (x.type.extents[-1] // (4 if by_bytes else 1)) if blocked else channels
        width = whole(outs[0].shape[3], self.columns)
        around = widened(pads, x.shape[3], (width - 1) * sw + (w.shape[3] - 1) * dw + 1)
        source = bytes_of(k, x, around, op) if isinstance(op, ConvBytes) else padded(k, x, around)
        # where the last block is not full, channels are summed one by one, since its padding would only cost time;
        # many channels are summed in equal steps, so that weights can be prefetched
        if isinstance(channels, Size) or (channels % inner == 0 and not self.singly):
            step = inner
        else:
            step = math.gcd(channels, inner) if channels > MANY_CHANNELS and not self.singly else channels
        rc, ri = k.reduce_axis(-(-channels // step), "rc"), k.reduce_axis(step, "ri")
        rh, rw = k.reduce_axis(w.shape[2], "rh"), k.reduce_axis(w.shape[3], "rw")
        channel = rc * step + ri
        outer, lane = (rc, ri) if step == inner else (channel // inner, channel % inner)
        blocks_in, blocks_out = self.blocks_a_group()

        def element(n: Any, o: Any, h: Any, i: Any, v: Any) -> Any:
            at = (h * sh + rh * dh, i * sw + rw * dw)
            if blocked:
                data = source(n, outer if blocks_out is None else o // blocks_out * blocks_in + outer, *at, lane)
                weight = w.tensor(o, outer, rh, rw, lane, v)
            else:
                data, weight = source(n, ri, *at), w.tensor(o, ri, rh, rw, v)
            axis = [rc, rh, rw, ri]
            return sum_of_products(k, data, weight, axis) if by_bytes else te.sum(data * weight, axis=axis)

        return finished(k, element, width, outs[0], bias)


def whole(width: Dim, columns: int) -> Dim:
    """The number of columns to compute so that register tiles are whole; of an open width, the last tile overlaps."""
    return round_up(width, columns) if isinstance(width, int) else width


def finished(k: TensorExpressions, element: Any, width: Dim, out: TensorType, bias: Sequence[Operand]) -> Any:
    """The block ``conv`` of ``element``, ``width`` pixels wide, cropped to the result, plus a bias if there is one."""
    shape = list(out.extents)
    shape[3] = width
    y = te.compute(shape, element, name="conv")
    result = k.operand(y, out)
    if bias:
        return k.compute(out, lambda n, c, *i: result(n, c, *i) + bias[0](c), "bias", guard=bias[0].type.layout is None)
    return y if width == out.shape[3] else k.compute(out, lambda *i: result(*i), "crop")


def schedule(sch: Any, rows: int, columns: int, blocks: int, terms: int, *, heavy: bool) -> Any:
    """Run bands of rows, output blocks and rows in parallel, with accumulators in registers and the epilogue fused.

    ``terms`` is the number of terms of a sum that is rounded. 64 -> 64 channels, 3x3, 56x56 pixels: 95% of the peak of
    AVX2 (Zen 3).
    """
    conv = sch.get_sblock("conv")
    joined = inline_selection(sch, conv)
    out = inline_epilogue(sch, conv)
    n, oc, oh, ow, o, *reduction = sch.get_loops(conv)
    oho, ohi = sch.split(oh, [None, rows])
    owo, owi = sch.split(ow, [None, columns])
    oco, oci = sch.split(oc, [None, blocks])
    rc, rh, rw, ri = reduction
    if not joined:
        window = math.prod(int(sch.get(r).extent) for r in (rh, rw, ri))
        in_chunks(sch, rc, terms // window, window)
    sch.reorder(n, oco, oho, owo, *reduction, oci, ohi, owi, o)
    stop_at_end(sch, rc, ri)
    store_tile(sch, conv, out, owo, axes=4, heavy=heavy)
    keep_in_registers(sch, conv, (oci, ohi, owi), o)
    run_together(sch, (n, oco, oho), in_bands=True)  # last, since TVM knows less of the parts of a fused index
    if joined:  # one loop for each operand that channels come from, over blocks or over single channels
        sch.annotate(rc if int(sch.get(rc).extent) > 1 else ri, "pragma_loop_partition_hint", 1)
    sch.decompose_reduction(conv, rc)

    pad = find_block(sch, "pad")
    if pad is not None:
        loops = sch.get_loops(pad)
        schedule_pad(sch, pad, blocked=len(loops) == 5)
        run_together(sch, loops[:2])
    return sch
