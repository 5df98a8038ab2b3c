"""Winograd convolution, a few rows of tiles at a time, so that the transformed data stays in cache."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from convc.ir.graph import Node
from convc.ir.ops.winograd_conv import WinogradConv, WinogradWeight, is_by_channel

from ...blocks import inline_epilogue
from ...group import Group
from ...lowered import lowered
from ..cost import winograd_rows
from ..target import Target
from ..tiles import tile_size
from .blocks import keep_in_registers, schedule_pad, store_tile
from .prefetch import Tiling, prefetch_panels


def winograd(group: Group, target: Target) -> Any:
    """The schedule of groups led by ``winograd_conv``; ``None`` for others."""
    node = group.anchor
    if not isinstance(node.op, WinogradConv):
        return None
    plan = Plan.of(node, target)
    sch = schedule(lowered(group).schedule(), node.op.tile, plan, target, heavy=group.heavy_epilogue)
    return prefetch_panels(
        sch,
        "products_update",
        group.argument(node.inputs[1]),
        1 if plan.by_channel else 3,
        7,
        [Tiling(4, plan.pixels, plan.groups)],
    )


def winograd_weight(group: Group, target: Target) -> Any:
    """The schedule of groups led by ``winograd_weight``; ``None`` for others.

    One vector of outputs for one input channel is transformed at a time, in registers.
    """
    if not isinstance(group.anchor.op, WinogradWeight):
        return None
    sch = lowered(group).schedule()
    taps, columns, tiles = (sch.get_sblock(s) for s in ("weight_taps", "weight_columns", "weight_tiles"))
    loops = sch.get_loops(tiles)
    ob, h, i, cb, c, o = loops if group.anchor.op.by_channel else (loops[2], *loops[:2], *loops[3:])
    sch.reorder(ob, cb, c, h, i, o)
    sch.parallel(sch.fuse(ob, cb))
    sch.unroll(i)
    sch.vectorize(o)
    sch.compute_at(columns, c, preserve_unit_loops=True)
    *_, h, x, o = sch.get_loops(columns)
    sch.reorder(x, h)
    keep_in_registers(sch, columns, (h,), o)
    sch.compute_at(taps, c, preserve_unit_loops=True)
    keep_in_registers(sch, taps, (), sch.get_loops(taps)[-1])
    return sch


@dataclass(frozen=True)
class Plan:
    """How the work is cut: ``rows`` of tiles at once, ``pixels`` of those tiles in each register tile.

    ``by_channel`` splits the work over blocks of output channels instead, with all rows at once.
    """

    rows: int
    pixels: int
    groups: int
    """Register tiles in the rows that are worked on at once."""
    by_channel: bool

    @staticmethod
    def of(node: Node, target: Target) -> Plan:
        assert isinstance(node.op, WinogradConv)
        high, wide = node.op.tiles(node.output.type)
        by_channel = is_by_channel(node.inputs[1].type)
        x, out = node.inputs[0].type, node.output.type
        rows = high if by_channel else winograd_rows(x, out, node.op, target.machine)
        pixels = tile_size(rows * wide, target.machine.tile_pixels)
        return Plan(rows, pixels, -(-rows * wide // pixels), by_channel)


def schedule(sch: Any, tile: Sequence[int], plan: Plan, target: Target, *, heavy: bool) -> Any:
    """Run rows of tiles, or blocks of output channels, in parallel; each 1-D transform is unrolled on its own axis."""
    pad, columns, tiles = (sch.get_sblock(s) for s in ("pad", "input_columns", "input_tiles"))
    products, back, conv = (sch.get_sblock(s) for s in ("products", "output_columns", "conv"))
    out = inline_epilogue(sch, conv)
    n, oc, h, w, o = sch.get_loops(conv)
    ho, hi = sch.split(h, [None, tile[0]])
    wo, wi = sch.split(w, [None, tile[1]])
    group, ho = sch.split(ho, [None, plan.rows])
    sch.reorder(n, group, oc, ho, wo, hi, wi, o)
    store_tile(sch, conv, out, wo, axes=3, heavy=heavy)
    keep_in_registers(sch, conv, (wi,), o)
    sch.compute_at(back, wo, preserve_unit_loops=True)
    *_, hi, wi, o = sch.get_loops(back)
    sch.reorder(wi, hi)
    keep_in_registers(sch, back, (hi,), o)
    if plan.by_channel:
        outer = sch.fuse(n, group, oc)
        sch.compute_at(products, outer, preserve_unit_loops=True)
    else:
        outer = sch.fuse(n, group)
        for block in (products, tiles, columns, pad):
            sch.compute_at(block, outer, preserve_unit_loops=True)
    sch.parallel(outer)
    _transform(sch, tiles, columns, plan, target)
    _products(sch, products, plan)
    schedule_pad(sch, pad, blocked=True)
    if plan.by_channel:
        sch.parallel(sch.fuse(*sch.get_loops(pad)[:2]))
    return sch


def _transform(sch: Any, tiles: Any, columns: Any, plan: Plan, target: Target) -> None:
    """Do both 1-D input transforms of one tile and one vector of channels in registers."""
    i, j, n, p, c, v = sch.get_loops(tiles)[-6:]
    vo, vi = sch.split(v, [None, min(target.lanes(), int(sch.get(v).extent))])
    sch.reorder(n, p, c, vo, i, j, vi)
    if plan.by_channel:
        sch.parallel(sch.fuse(n, p))
    sch.compute_at(columns, vo, preserve_unit_loops=True)
    i, j, v = sch.get_loops(columns)[-3:]
    sch.reorder(j, i)
    keep_in_registers(sch, columns, (i,), v)
    i, j, v = sch.get_loops(tiles)[-3:]
    sch.unroll(j)
    sch.vectorize(v)


def _products(sch: Any, products: Any, plan: Plan) -> None:
    """Do a small matrix product for each element of the tile, with its accumulators in registers."""
    i, j, n, oc, p, o, rc, ri = sch.get_loops(products)[-8:]
    po, pi = sch.split(p, [None, plan.pixels])
    store = sch.cache_write(products, 0, "local")
    sch.reorder(i, j, n, oc, po, rc, ri, pi, o)
    sch.annotate(po, "pragma_loop_partition_hint", 1)  # a last register tile that is not full gets code of its own
    sch.reverse_compute_at(store, po, preserve_unit_loops=True)
    sch.vectorize(o)
    sch.unroll(pi)
    sch.decompose_reduction(products, rc)
    pixels, lanes = sch.get_loops(store)[-2:]
    sch.vectorize(lanes)
    sch.unroll(pixels)
