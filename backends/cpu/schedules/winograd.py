"""Winograd convolution, a few rows of tiles at a time, so that the transformed data stays in cache."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from tvm import tirx

from convc.ir.graph import Node
from convc.ir.layout import round_up
from convc.ir.ops.winograd_conv import Tiles, WinogradConv, WinogradWeight, is_by_channel, transformed
from convc.ir.sizes import Dim, typical

from ...blocks import inline_epilogue
from ...group import Group
from ...lowered import lowered
from ..cost import winograd_rows
from ..overlap import Tiled, run_together, with_tiled
from ..target import Target
from ..tiles import tile_size, tile_worth
from .blocks import keep_in_registers, schedule_pad, store_tile
from .prefetch import Tiling, prefetch_panels


def winograd(group: Group, target: Target) -> Any:
    """The schedule of groups led by ``winograd_conv``; ``None`` for others."""
    node = group.anchor
    if not isinstance(node.op, WinogradConv):
        return None
    plan = Plan.of(node, target)
    sch = lowered(group).schedule()
    sch = with_tiled(sch, plan.tiled(sch, node))
    sch = schedule(sch, node.op.tile, plan, target, heavy=group.heavy_epilogue)
    axes = 4 + len(plan.places)
    tilings = [Tiling(4 + i, pixels, groups) for i, (pixels, groups) in enumerate(plan.places)]
    panel = 1 if plan.by_channel else 3
    steps = [plan.blocks + b for b in range(plan.blocks)]
    return prefetch_panels(sch, "products_update", group.argument(node.inputs[1]), panel, axes + 2, tilings, steps)


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
    """How the work is cut: ``rows`` of tiles at once.

    ``by_channel`` splits the work over blocks of output channels instead, with all rows at once.
    """

    rows: Dim
    places: tuple[tuple[int, int], ...]
    """For each axis over the tiles that are worked on at once (one, or where their numbers are open, rows and columns
    of tiles): the tiles in a register tile, and the number of register tiles."""
    by_channel: bool
    blocks: int = 1
    """Blocks of output channels in a register tile: two where the tiles of one fill a quarter of the registers, so that
    each load of a pixel serves both (128 channels at 28x28 pixels: 0.83 of the time, Emerald Rapids)."""

    @staticmethod
    def of(node: Node, target: Target) -> Plan:
        assert isinstance(node.op, WinogradConv)
        tiles = Tiles(*node.op.tiles(node.output.type))
        by_channel = is_by_channel(node.inputs[1].type)
        x, out = node.inputs[0].type, node.output.type
        rows = tiles.rows if by_channel else winograd_rows(x, out, node.op, target.machine)
        most = target.machine.tile_pixels
        if isinstance(tiles.columns, int) and isinstance(rows, int) and not tiles.are_open:
            count = rows * tiles.columns
            pixels = tile_size(count, most)
            return Plan(rows, ((pixels, -(-count // pixels)),), by_channel)
        places = _register_tile(rows, tiles.columns, most)
        pixels = prod(p for p, _ in places)
        outputs = node.output.type.extents[1]
        paired = not by_channel and 4 * pixels <= most and isinstance(outputs, int) and outputs % 2 == 0
        return Plan(rows, places, by_channel, 2 if paired else 1)

    def tiled(self, sch: Any, node: Node) -> list[Tiled]:
        """The axes of open extent that are cut into groups of rows, or into register tiles."""
        if len(self.places) == 1:
            return []
        op = node.op
        assert isinstance(op, WinogradConv)
        window = transformed(op.tile, op.kernel, op.strides)
        extents = [axis.dom.extent for axis in sch.get(sch.get_sblock("input_columns")).iter_vars[1:3]]
        sizes = [self.rows if isinstance(self.rows, int) else self.places[0][0], self.places[1][0]]
        starts = {"input_columns": 1, "input_tiles": 3, "products": 4, "output_columns": 2}
        made = []
        for axis, (size, extent) in enumerate(zip(sizes, extents, strict=True)):
            if not isinstance(extent, tirx.IntImm):
                along = {(name, at + axis): (1, 0) for name, at in starts.items()}
                along["conv", 2 + axis] = (op.tile[axis], 0)
                along["pad", 2 + axis] = (op.tile[axis], window[axis] - op.tile[axis])
                made.append(Tiled(size, extent, along))
        return made


def _register_tile(rows: Dim, columns: Dim, most: int) -> tuple[tuple[int, int], ...]:
    """The rows and columns of tiles in a register tile of at most ``most`` tiles, each with their numbers.

    A constant number of rows or columns is a whole number of them.
    """
    high, wide = max(typical(rows), 1), max(typical(columns), 1)
    choices = [
        (r, c)
        for r in range(1, min(high, most) + 1)
        for c in range(1, min(wide, most // r) + 1)
        if not (isinstance(rows, int) and rows % r) and not (isinstance(columns, int) and columns % c)
    ]

    def worth(choice: tuple[int, int]) -> float:
        r, c = choice
        return tile_worth(r * c, r * c) * high / round_up(high, r) * wide / round_up(wide, c)

    r, c = max(choices, key=worth)
    return (r, -(-high // r)), (c, -(-wide // c))


def schedule(sch: Any, tile: Sequence[int], plan: Plan, target: Target, *, heavy: bool) -> Any:
    """Run rows of tiles, or blocks of output channels, in parallel; each 1-D transform is unrolled on its own axis."""
    pad, columns, tiles = (sch.get_sblock(s) for s in ("pad", "input_columns", "input_tiles"))
    products, back, conv = (sch.get_sblock(s) for s in ("products", "output_columns", "conv"))
    out = inline_epilogue(sch, conv)
    n, oc, h, w, o = sch.get_loops(conv)
    ho, hi = sch.split(h, [None, tile[0]])
    wo, wi = sch.split(w, [None, tile[1]])
    groups = []
    if isinstance(plan.rows, int):
        group, ho = sch.split(ho, [None, plan.rows])
        groups = [group]
    sch.reorder(n, *groups, oc, ho, wo, hi, wi, o)
    store_tile(sch, conv, out, wo, axes=3, heavy=heavy)
    keep_in_registers(sch, conv, (wi,), o)
    sch.compute_at(back, wo, preserve_unit_loops=True)
    *_, hi, wi, o = sch.get_loops(back)
    sch.reorder(wi, hi)
    keep_in_registers(sch, back, (hi,), o)
    outer = [n, *groups, oc] if plan.by_channel else [n, *groups]
    if len(plan.places) == 1:
        outer = [sch.fuse(*outer)]
    for block in (products,) if plan.by_channel else (products, tiles, columns, pad):
        sch.compute_at(block, outer[-1], preserve_unit_loops=True)
    run_together(sch, outer)
    _transform(sch, tiles, columns, plan, target)
    _products(sch, products, plan)
    schedule_pad(sch, pad, blocked=True)
    if plan.by_channel:
        run_together(sch, sch.get_loops(pad)[:2])
    return sch


def _transform(sch: Any, tiles: Any, columns: Any, plan: Plan, target: Target) -> None:
    """Do both 1-D input transforms of one tile and one vector of channels in registers."""
    i, j, n, *p, c, v = sch.get_loops(tiles)[-5 - len(plan.places) :]
    vo, vi = sch.split(v, [None, min(target.lanes(), int(sch.get(v).extent))])
    sch.reorder(n, *p, c, vo, i, j, vi)
    if plan.by_channel:
        run_together(sch, (n, p[0]))
    sch.compute_at(columns, vo, preserve_unit_loops=True)
    i, j, v = sch.get_loops(columns)[-3:]
    sch.reorder(j, i)
    keep_in_registers(sch, columns, (i,), v)
    i, j, v = sch.get_loops(tiles)[-3:]
    sch.unroll(j)
    sch.vectorize(v)


def _products(sch: Any, products: Any, plan: Plan) -> None:
    """Do a small matrix product for each element of the tile, with its accumulators in registers."""
    count = len(plan.places)
    i, j, n, oc, *places, o, rc, ri = sch.get_loops(products)[-7 - count :]
    split = [sch.split(p, [None, pixels]) for p, (pixels, _) in zip(places, plan.places, strict=True)]
    outer, inner = zip(*split, strict=True)
    if plan.blocks > 1:
        oc, block = sch.split(oc, [None, plan.blocks])
        inner = (block, *inner)
    store = sch.cache_write(products, 0, "local")
    sch.reorder(i, j, n, oc, *outer, rc, ri, *inner, o)
    for po in outer:  # a last register tile that is not full gets code of its own
        if isinstance(sch.get(po).extent, tirx.IntImm):
            sch.annotate(po, "pragma_loop_partition_hint", 1)
    sch.reverse_compute_at(store, outer[-1], preserve_unit_loops=True)
    sch.vectorize(o)
    for pixel in reversed(inner):
        sch.unroll(pixel)
    sch.decompose_reduction(products, rc)
    *pixels, lanes = sch.get_loops(store)[-1 - len(inner) :]
    sch.vectorize(lanes)
    for pixel in reversed(pixels):
        sch.unroll(pixel)
