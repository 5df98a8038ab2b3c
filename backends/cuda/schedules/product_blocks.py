"""The steps that all schedules of matrix products share, around the multiplication itself."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import tvm
import tvm_ffi
from tvm import s_tir, tirx

from ...blocks import all_blocks, inline_epilogue
from ...group import Group
from ...lowered import lowered
from ...schedule import Schedule
from ..gpu import Gpu
from .cost import Choice
from .product import Product, Side, Tiled
from .threads import extent, spread

SHARED = "shared.dyn"
"""The memory scope of dynamic shared memory in TVM."""


@dataclass(frozen=True)
class Blocks:
    """The blocks of a scheduled product (see ``Tiled``): factors, sums, ``total`` if split, and the epilogue ``out``.

    ``direct``: ``out`` runs over the sums, ``g, m, n`` up to whole tiles, and is applied by the threads that computed a
    tile; otherwise it is a second kernel.
    """

    left: Any
    right: Any
    product: Any
    total: Any | None
    out: Any
    direct: bool


def scheduled(
    group: Group, product: Product, choice: Choice, gpu: Gpu, schedule: Callable[[Any, Product, Choice, Gpu], None]
) -> Any:
    """The schedule of a group led by a product, for a tile and splits; ``schedule`` schedules the product itself."""
    algorithm = Tiled(product, choice.tile, choice.splits)
    sch = lowered(group, {group.anchor.output.name: algorithm.compute}).schedule()
    schedule(sch, product, choice, gpu)
    return within_result(sch, product)


def prepare(sch: Any, product: Product, splits: int) -> Blocks:
    """Inline the blocks before the factors and after the sums, and put the factors in shared memory."""
    out = inline_around(sch, product)
    left, right, sums = (sch.get_sblock(name) for name in ("left", "right", "product"))
    for factor, v in zip((left, right), product.vectors, strict=True):
        sch.set_scope(factor, 0, SHARED)  # before any compute_at: after one, TVM accepts this and computes nonsense
        sch.transform_layout(factor, ("write", 0), merged(v))
    total = sch.get_sblock("total") if splits > 1 else None
    return Blocks(left, right, sums, total, out, splits == 1 and product.one_to_one)


def inline_around(sch: Any, product: Product) -> Any:
    """Inline the blocks before the product and its epilogue; returns the block that writes the result.

    That block is ``tile``, over ``g, m, n``, where these are one to one with the elements of the result.
    """
    tile = sch.get_sblock("tile")
    out = inline_epilogue(sch, tile)
    for block in all_blocks(sch):
        if sch.get(block).name_hint == "left":
            break
        sch.compute_inline(block)
    if not product.one_to_one:
        sch.compute_inline(tile)
        return out
    sch.reverse_compute_inline(out)
    return tile


def merged(run: int) -> Any:
    """The layout of a factor whose innermost axis, split by the vector that one load takes, is merged again."""
    return lambda g, i, number, lane: (g, i, number * run + lane)


def within_result(sch: Any, product: Product) -> Any:
    """The finished schedule, in which ``tile`` writes only elements that the result has.

    TVM keeps predicates when it inlines the reader of a block, but these lack axes of size 1 and take ``g * n + j`` as
    one index, and moving the block loses them.
    """
    if not product.one_to_one:
        return sch
    sizes = product.sizes

    def visit(realize: Any) -> Any:
        if realize.block.name_hint != "tile":
            return realize
        _, m, n = realize.iter_values
        inside = tirx.all(realize.predicate, m < sizes.m, n < sizes.n)
        return s_tir.SBlockRealize(realize.iter_values, inside, realize.block)

    func = sch.mod["main"]
    body = tvm_ffi.structural_map(func.body, (s_tir.SBlockRealize, visit), order="post")
    return Schedule(func.with_body(body))


def bring_in(sch: Any, factor: Any, loop: Any, side: Side, threads: tuple[int, ...]) -> None:
    """Have the threads of a block load a tile of a factor together at each step of ``loop``, with coalesced reads.

    ``threads``: their number along ``threadIdx.x``, then along ``.y``.
    """
    sch.compute_at(factor, loop, preserve_unit_loops=True)
    outer, inner, lanes = sch.get_loops(factor)[-3:]
    if side.along == "m":
        sch.reorder(inner, outer)
        outer, inner = inner, outer
    _, *spread_over = sch.split(sch.fuse(outer, inner), [None, *reversed(threads)])
    for thread, axis in zip(reversed(spread_over), "xy", strict=False):
        sch.bind(thread, f"threadIdx.{axis}")
    sch.vectorize(lanes)


def pipeline(sch: Any, loop: Any, stages: int) -> None:
    """Start the copies of a step ``stages - 1`` steps before its computation, by cp.async."""
    if stages > 1:
        sch.annotate(loop, "software_pipeline_stage", [0, 0, stages - 1])
        sch.annotate(loop, "software_pipeline_order", [0, 1, 2])
        sch.annotate(loop, "software_pipeline_async_stages", [0])


def keep_rolled(sch: Any, loop: Any) -> None:
    """Leave unrolling to NVRTC, by a pragma: TVM's own unrolling makes sources that take long to compile."""
    sch.annotate(loop, "pragma_auto_unroll_max_step", 0)
    sch.annotate(loop, "pragma_unroll_explicit", 0)


def vectorize(sch: Any, block: Any, lanes: int) -> None:
    """Vectorise the innermost loop of a block by this many lanes."""
    if lanes > 1:
        _, vector = sch.split(sch.get_loops(block)[-1], [None, lanes])
        sch.vectorize(vector)


def result_lanes(sch: Any, out: Any, product: Product) -> int:
    """How many neighbouring elements of the result a thread writes at once.

    It is as many as fit 16 bytes in the widest type that the epilogue reads, and one where there are booleans, of which
    there are no vectors.
    """
    side, block = product.sides[2], sch.get(out)
    types = [tvm.DataType(r.source.dtype) for r in (*block.reads, *block.writes)]
    if side.along != "n" or any(t == "bool" for t in types):
        return 1
    return side.vector(max(t.bits for t in types) // 8)


def finish_apart(sch: Any, blocks: Blocks, product: Product, gpu: Gpu) -> None:
    """Schedule the epilogue as a second kernel: each thread adds up the parts of a few neighbouring sums (split-K)."""
    lanes = result_lanes(sch, blocks.out, product) if product.one_to_one else 1
    *outer, column = sch.get_loops(blocks.out)
    if math.prod(extent(sch, loop) for loop in (*outer, column)) < lanes * gpu.sms * gpu.warp:
        lanes = 1
    column, lane = sch.split(column, [None, lanes])
    thread = spread(sch, sch.fuse(*outer, column), gpu)
    if lanes > 1:
        sch.vectorize(lane)
    if blocks.total is None:
        return
    sch.set_scope(blocks.total, 0, "local")
    sch.compute_at(blocks.total, thread, preserve_unit_loops=True)
    *_, column, part = sch.get_loops(blocks.total)
    sch.reorder(part, column)
    if lanes > 1:
        sch.vectorize(column)
    sch.decompose_reduction(blocks.total, part)
