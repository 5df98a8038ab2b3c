"""Matrix products of one or a few rows, bound by memory: all threads read the weights side by side, once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tvm import te

from convc.ir.lowering import Operand, TensorExpressions
from convc.ir.ops._accumulate import accumulator
from convc.ir.types import TensorType

from ...group import Group
from ...lowered import lowered
from ..gpu import Gpu
from .product import Index, Product
from .product_blocks import inline_around, within_result
from .products import product_of
from .threads import extent

MOST_ROWS = 4
"""Most rows of the product that a thread keeps in registers side by side."""
THREADS = 256
"""Threads of a block."""
SECTOR = 32
"""Bytes of one memory transaction (a sector)."""


def gemv(group: Group, gpu: Gpu) -> Any:
    """The schedule of products of at most ``MOST_ROWS`` rows; ``None`` for others.

    Such are Gemm and MatMul at batch 1, and convolutions of a single pixel.
    """
    product = product_of(group)
    if (
        product is None
        or product.sizes.m > MOST_ROWS
        or not product.one_to_one
        or product.dtype not in ("f16", "f32", "f64")
    ):
        return None
    by_terms = product.sides[1].along == "k"
    columns = 1 if by_terms else columns_of(product, gpu)
    parts = gpu.warp if by_terms else THREADS // columns
    algorithm = InParts(product, parts, product.vectors[1] if by_terms else 1)
    sch = lowered(group, {group.anchor.output.name: algorithm.compute}).schedule()
    out = inline_around(sch, product)
    if by_terms:
        schedule_by_terms(sch, out, gpu)
    else:
        schedule_by_columns(sch, out, columns, parts)
    return within_result(sch, product)


def columns_of(product: Product, gpu: Gpu) -> int:
    """How many columns of the product a block computes.

    It is as many as a warp has lanes, or fewer where multiprocessors would stay idle, but no fewer than fill one memory
    transaction.
    """
    batch, _, n, _ = product.sizes
    columns = min(gpu.warp, 1 << (n - 1).bit_length())
    while columns * product.itemsize > SECTOR and batch * -(-n // columns) < gpu.sms:
        columns //= 2
    return columns


@dataclass(frozen=True)
class InParts:
    """``C[g, m, n]`` (the block ``product``) as the sum of ``parts`` partial sums (the block ``part``).

    Each partial sum is over every ``parts``-th run of ``run`` consecutive terms of ``left`` and ``right``.
    """

    product: Product
    parts: int
    run: int

    def compute(self, k: TensorExpressions, xs: Sequence[Operand], outs: Sequence[TensorType]) -> Any:
        p, (batch, m, n, inner) = self.product, self.product.sizes
        x, w, *rest = xs
        acc = accumulator(outs[0])
        runs = -(-inner // self.run)
        rounds = -(-runs // self.parts)
        step, lane = k.reduce_axis(rounds, "step"), k.reduce_axis(self.run, "lane")

        def factor(name: str, size: int, read: Callable[[Any, Any, Index], tuple[list[Any], Any]]) -> Any:
            def element(g: Any, i: Any, number: Any, lane: Any) -> Any:
                tests, value = read(g, i, Index(number, lane, self.run))
                tests = [number < runs, *tests] if runs % self.parts else tests
                return k.guarded(k.tirx.all(*tests), value, k.const(0, x.dtype)) if tests else value

            return te.compute((batch, size, rounds * self.parts, self.run), element, name=name)

        left = factor("left", m, lambda g, i, at: p.left(k, x, g, i, at))
        right = factor("right", n, lambda g, j, at: p.right(k, w, g, at, Index(j)))

        def partial(g: Any, t: Any, i: Any, j: Any) -> Any:
            at = (step * self.parts + t, lane)
            return te.sum(
                left(g, i, *at).astype(acc.tvm_dtype) * right(g, j, *at).astype(acc.tvm_dtype), axis=[step, lane]
            )

        part = te.compute((batch, self.parts, m, n), partial, name="part")
        t = k.reduce_axis(self.parts, "t")
        c = te.compute((batch, m, n), lambda g, i, j: te.sum(part(g, t, i, j), axis=t), name="product")
        tile = te.compute((batch, m, n), lambda *i: c(*i), name="tile")
        y = k.operand(k.compute(acc, lambda *i: tile(*p.place(i)), "result"), acc)
        return p.finish(k, y, rest, outs[0])


def schedule_by_terms(sch: Any, out: Any, gpu: Gpu) -> None:
    """Schedule weights stored by terms: a warp reads those of one column, and its lanes add up by shuffles.

    1x512 by 512x1000 in float32: 42, 32 and 32 registers on sm_75, 80 and 90, 32 bytes of shared memory, no spills
    (ptxas 13.0).
    """
    part, product = sch.get_sblock("part"), sch.get_sblock("product")
    g, m, n, t = sch.get_loops(product)
    warps = min(THREADS // gpu.warp, 1 << (extent(sch, n) - 1).bit_length())
    block, warp = sch.split(n, [None, warps])
    sch.reorder(g, block, warp, m, t)
    block = sch.fuse(g, block)
    sch.bind(block, "blockIdx.x")
    sch.bind(warp, "threadIdx.y")
    sch.bind(t, "threadIdx.x")
    sch.set_scope(product, 0, "shared")
    sch.set_scope(part, 0, "local")
    sch.compute_at(part, t, preserve_unit_loops=True)
    step, lane = sch.get_loops(part)[-2:]
    for name in ("left", "right"):
        factor = sch.get_sblock(name)
        sch.set_scope(factor, 0, "local")
        sch.compute_at(factor, step, preserve_unit_loops=True)
        sch.vectorize(sch.get_loops(factor)[-1])
    sch.unroll(lane)
    sch.decompose_reduction(part, step)
    sch.reverse_compute_at(out, block, preserve_unit_loops=True)
    _, warp, lanes = sch.split(sch.fuse(*sch.get_loops(out)[1:]), [None, warps, gpu.warp])
    sch.bind(warp, "threadIdx.y")
    sch.bind(lanes, "threadIdx.x")


def schedule_by_columns(sch: Any, out: Any, columns: int, parts: int) -> None:
    """Schedule weights stored by columns: neighbouring threads read neighbouring columns.

    Groups of threads share the terms; in the end each group sums up one row. 1x512 by 512x1000 in float32: 30, 32 and
    32 registers on sm_75, 80 and 90, 1 KiB of shared memory, no spills (ptxas 13.0).
    """
    part, product = sch.get_sblock("part"), sch.get_sblock("product")
    for name in ("left", "right"):
        sch.compute_inline(sch.get_sblock(name))
    g, m, n = sch.get_loops(out)
    block, column = sch.split(n, [None, columns])
    rows, row = sch.split(m, [None, parts])
    sch.reorder(g, block, rows, row, column)
    block = sch.fuse(g, block, rows)
    sch.bind(block, "blockIdx.x")
    sch.bind(row, "threadIdx.y")
    sch.bind(column, "threadIdx.x")
    sch.set_scope(part, 0, "shared")
    sch.set_scope(product, 0, "local")
    sch.compute_at(product, column, preserve_unit_loops=True)
    sch.decompose_reduction(product, sch.get_loops(product)[-1])
    kept = sch.cache_write(part, 0, "local")
    sch.compute_at(kept, block, preserve_unit_loops=True)
    t, m, n = sch.get_loops(kept)[-3:]
    sch.reorder(t, n, m)
    sch.bind(t, "threadIdx.y")
    sch.bind(n, "threadIdx.x")
    sch.compute_at(part, n, preserve_unit_loops=True)
    m, _, step, lane = sch.get_loops(part)[-4:]
    sch.reorder(step, lane, m)
    sch.decompose_reduction(part, step)
