"""The steps that schedules of matrix products have in common: what goes around the multiplying itself."""

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
from ..gpu import Gpu
from .cost import Choice
from .product import Product, Side, Tiled
from .threads import extent, spread

SHARED = "shared.dyn"


@dataclass(frozen=True)
class Blocks:
    """The blocks of a product (see ``Tiled``): its factors, its sums, their total where the sum is in parts, and ``out``, what the
    group makes of them.

    ``direct``: ``out`` runs over the sums, ``g, m, n`` up to whole tiles, and the threads that have computed a tile apply it; else
    it is a second kernel.
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
    """The schedule of a group led by a product, for a tile and splits, by one of the functions that make a schedule of such."""
    algorithm = Tiled(product, choice.tile, choice.splits)
    sch = group.lower({group.anchor.output.name: algorithm.compute}).schedule()
    schedule(sch, product, choice, gpu)
    return within_result(sch, product)


def prepare(sch: Any, product: Product, splits: int) -> Blocks:
    """Inline what selects the data and what follows the sums, and keep the factors in shared memory."""
    out = inline_around(sch, product)
    left, right, sums = (sch.get_sblock(name) for name in ("left", "right", "product"))
    for factor, v in zip((left, right), product.vectors, strict=True):
        sch.set_scope(factor, 0, SHARED)  # before any compute_at: after one, TVM lets it pass and computes nonsense
        sch.transform_layout(factor, ("write", 0), merged(v))
    total = sch.get_sblock("total") if splits > 1 else None
    return Blocks(left, right, sums, total, out, splits == 1 and product.one_to_one)


def inline_around(sch: Any, product: Product) -> Any:
    """Inline what comes before the blocks of a product and what follows them; returns the block that writes the result: ``tile``,
    over ``g, m, n``, where these are one to one with its elements.
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
    """The layout of a factor with its innermost axis, split by the vector that is loaded, put together again."""
    return lambda g, i, number, lane: (g, i, number * run + lane)


def within_result(sch: Any, product: Product) -> Any:
    """The finished schedule, where ``tile`` writes no element but those that the result has.

    The predicates that TVM keeps when it inlines what reads a block lack axes of size 1 and take ``g * n + j`` as one index, and
    moving the block loses them.
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
    return s_tir.Schedule(tvm.IRModule({"main": func.with_body(body)}), error_render_level="fast")


def bring_in(sch: Any, factor: Any, loop: Any, side: Side, threads: tuple[int, ...]) -> None:
    """The threads of a block load a tile of a factor together at each step of ``loop``, neighbours side by side in memory.

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
    """Start the copies of a step so many steps before it is computed, by cp.async."""
    if stages > 1:
        sch.annotate(loop, "software_pipeline_stage", [0, 0, stages - 1])
        sch.annotate(loop, "software_pipeline_order", [0, 1, 2])
        sch.annotate(loop, "software_pipeline_async_stages", [0])


def keep_rolled(sch: Any, loop: Any) -> None:
    """Leave unrolling to NVRTC, which is told of it: TVM's own makes sources that take long to compile."""
    sch.annotate(loop, "pragma_auto_unroll_max_step", 0)
    sch.annotate(loop, "pragma_unroll_explicit", 0)


def vectorize(sch: Any, block: Any, lanes: int) -> None:
    """Vectorise the innermost loop of a block by so many lanes."""
    if lanes > 1:
        _, vector = sch.split(sch.get_loops(block)[-1], [None, lanes])
        sch.vectorize(vector)


def result_lanes(sch: Any, out: Any, product: Product) -> int:
    """How many neighbouring elements of the result a thread writes at once: as many as 16 bytes hold of the widest type that is
    read on the way to it; one where there are booleans, of which there are no vectors.
    """
    side, block = product.sides[2], sch.get(out)
    types = [tvm.DataType(r.source.dtype) for r in (*block.reads, *block.writes)]
    if side.along != "n" or any(t == "bool" for t in types):
        return 1
    return side.vector(max(t.bits for t in types) // 8)


def finish_apart(sch: Any, blocks: Blocks, product: Product, gpu: Gpu) -> None:
    """A second kernel: each thread adds up the parts of a few neighbouring sums and applies what follows."""
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
