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
from convc.ir.sizes import Dim
from convc.ir.types import TensorType

from ...blocks import find_block, inline_epilogue
from ...group import Group
from ...lowered import lowered
from ..layouts import HALF_BLOCKS_AT_ONCE
from ..machine import SPARE
from ..overlap import in_tiles, results_of, run_together
from ..target import Target
from ..tiles import CACHE_PARTS, LATENCY, bands, divisors, register_tile, tile_size, tile_worth
from .blocks import (
    block_of_planes,
    inline_selection,
    keep_in_registers,
    schedule_pad,
    store_tile,
    sum_in_chunks,
    update_of,
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
    registers = target.vector_registers - SPARE
    blocks = half_blocks_at_once(count, out.sizes[3], registers) if block < target.lanes() else 1
    rows, columns = register_tile(out.sizes[2], out.sizes[3], max(block, target.lanes()) * blocks, target.machine)
    if rows * columns * blocks < LATENCY:
        blocks = max(b for b in range(1, MOST_BLOCKS + 1) if count % b == 0)
    joined = group.body.producers.get(node.inputs[0].name)
    singly = joined is not None and not is_aligned(joined, block)
    algorithm = DirectConv(node, columns, singly)
    if algorithm.blocks_a_group()[1] not in (None, count):
        blocks = 1  # blocks of outputs of different groups read different inputs
    sch = lowered(group, {node.output.name: algorithm.compute}).schedule()
    high, _ = node.output.type.shape[2:]
    cut = bands_of(node, out.sizes[2] // rows, target) if isinstance(high, int) else 1
    sch = in_tiles(sch, results_of(sch, "conv"), {2: rows, 3: columns})
    sch = schedule(sch, rows, columns, blocks, cut, heavy=group.heavy_epilogue, exact=node.op.exact)
    update, axes = update_of(sch, "conv")
    tilings = (
        Tiling(axes + 2, rows, out.sizes[2] // rows // cut),
        Tiling(axes + 3, columns, -(-out.sizes[3] // columns)),
    )
    return prefetch_panels(
        sch, update, group.argument(node.inputs[1]), axes + 1, axes + 8, tilings, [blocks + b for b in range(blocks)]
    )


MANY_CHANNELS = 256
"""From this many input channels on, weights are worth prefetching even where the channels do not fill their blocks."""
MOST_BLOCKS = 8
"""Most blocks of output channels at once where there are too few pixels to hide latencies: as many streams of weights
as the processor prefetches well.
"""


def half_blocks_at_once(count: int, width: int, registers: int) -> int:
    """How many blocks of output channels a register tile holds where a block is half a vector register.

    With a single one, each multiply-add would wait for the load of its own pixel. Half blocks are chosen only where
    their number has such a factor.
    """

    def worth(blocks: int) -> float:
        pixels = registers // blocks
        return tile_worth(width, tile_size(width, pixels, blocks), blocks)

    return max((b for b in HALF_BLOCKS_AT_ONCE if count % b == 0), key=worth, default=1)


def bands_of(node: Node, rows: int, target: Target) -> int:
    """The number of bands that the rows of register tiles are cut into.

    Bands let each thread work on its own rows, and let the data of a band stay in cache while all output blocks read
    it. The answer is one, and the threads share out the output blocks instead, where the weights are larger than the
    data, or would not stay in cache from band to band.
    """
    x, w = (v.type.at_typical().nbytes for v in node.inputs[:2])
    room = target.cache_bytes // CACHE_PARTS
    if w > x:
        return 1
    cut = bands(rows, target.threads)
    if w > room:
        return cut if cut <= target.threads else 1
    return next((b for b in divisors(max(rows, 1)) if b % cut == 0 and x <= b * room), cut)


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
        full = channels % inner == 0 and not self.singly
        equal = math.gcd(channels, inner) if channels > MANY_CHANNELS and not self.singly else channels
        step = inner if full else equal
        rc, ri = k.reduce_axis(channels // step, "rc"), k.reduce_axis(step, "ri")
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


def schedule(sch: Any, rows: int, columns: int, blocks: int, cut: int, *, heavy: bool, exact: bool) -> Any:
    """Run bands of rows, output blocks and rows in parallel, with accumulators in registers and the epilogue fused.

    64 -> 64 channels, 3x3, 56x56 pixels: 95% of the peak of AVX2 (Zen 3).
    """
    conv = sch.get_sblock("conv")
    joined = inline_selection(sch, conv)
    out = inline_epilogue(sch, conv)
    *_, rc, rh, rw, ri = sch.get_loops(conv)
    steps, *window = (int(sch.get(r).extent) for r in (rc, rh, rw, ri))
    partial = None if joined or exact else sum_in_chunks(sch, conv, rc, steps, math.prod(window))
    n, oc, oh, ow, o, *reduction = sch.get_loops(conv)
    band, oho, ohi = sch.split(oh, [cut, None, rows])
    owo, owi = sch.split(ow, [None, columns])
    oco, oci = sch.split(oc, [None, blocks])
    sch.reorder(n, band, oco, oho, owo, *reduction, oci, ohi, owi, o)
    store_tile(sch, conv, out, owo, axes=4, heavy=heavy)
    keep_in_registers(sch, conv, (oci, ohi, owi), o)
    if partial is not None:
        sch.compute_at(partial, reduction[0], preserve_unit_loops=True)
    run_together(sch, (n, band, oco, oho))  # last, since TVM knows less of the parts of a fused index
    if partial is not None:
        *_, oci, ohi, owi, o, rc, rh, rw, ri = sch.get_loops(partial)
        sch.reorder(rc, rh, rw, ri, oci, ohi, owi, o)
        keep_in_registers(sch, partial, (oci, ohi, owi), o)
        sch.decompose_reduction(partial, rc)
    if joined:  # one loop for each operand that channels come from, over blocks or over single channels
        rc, *_, ri = reduction
        sch.annotate(rc if int(sch.get(rc).extent) > 1 else ri, "pragma_loop_partition_hint", 1)
    sch.decompose_reduction(conv, reduction[0])

    pad = find_block(sch, "pad")
    if pad is not None:
        loops = sch.get_loops(pad)
        schedule_pad(sch, pad, blocked=len(loops) == 5)
        sch.parallel(sch.fuse(*loops[:2]))
    return sch
