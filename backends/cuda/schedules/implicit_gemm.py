"""Matrix products on CUDA cores: tiles of both factors in shared memory, a tile of the result in registers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ...group import Group
from ..gpu import Gpu
from .cost import Choice, Tile, Unit, choose
from .product import MOST_BYTES, Product
from .product_blocks import bring_in, finish_apart, keep_rolled, pipeline, prepare, result_lanes, scheduled, vectorize
from .products import product_of

TILES = tuple(
    Tile(m, n, 16, rows, columns)
    for m, n, rows, columns in (
        (128, 128, 16, 16),
        (128, 64, 16, 8),
        (64, 128, 8, 16),
        (64, 64, 16, 8),
        (128, 32, 16, 8),
        (64, 32, 16, 8),
        (32, 64, 8, 16),
        (32, 32, 8, 8),
        (16, 64, 4, 16),
        (64, 16, 16, 4),
        (128, 8, 32, 2),
        (8, 128, 2, 32),
    )
)
"""The tiles that the cost model chooses from."""
STAGES = 3
"""Steps in shared memory at once where copies are asynchronous."""
PADDING = 16
"""Bytes after each row in shared memory, where neighbouring threads access neighbouring rows."""
RUN = 4
"""Neighbouring rows, and neighbouring columns, that a thread computes."""


def implicit_gemm(group: Group, gpu: Gpu) -> Any:
    """The schedule of convolutions, transposed convolutions, Gemm and MatMul on CUDA cores; ``None`` for others.

    It takes float32, float64 and float16.
    """
    product = product_of(group)
    if product is None or product.dtype not in ("f16", "f32", "f64"):
        return None
    found = choice(product, gpu)
    return found and scheduled(group, product, found, gpu, schedule)


def choice(product: Product, gpu: Gpu) -> Choice | None:
    """The tile and splits for a product on CUDA cores; ``None`` when no tile fits the GPU.

    Copies to shared memory are asynchronous where the GPU has cp.async and they are of at least 4 bytes.
    """
    size = product.itemsize
    padding = PADDING if any(crosses(product)) else 0
    unit = Unit(gpu.fp32_lanes if size <= 4 else gpu.fp32_lanes // 32, 1, max(size, 4), padding)
    stages = STAGES if gpu.has_async_copy and min(product.vectors) * size >= 4 else 1
    tiles = [replace(t, stages=stages) for t in TILES]
    return choose(product.sizes, tiles, unit, gpu, split=product.one_to_one)


def crosses(product: Product) -> tuple[bool, bool]:
    """Whether neighbouring threads access neighbouring rows of left, and of right, in shared memory.

    Such rows must lie in different banks.
    """
    left, right, _ = product.sides
    return left.along == "m", right.along == "k"


def schedule(sch: Any, product: Product, choice: Choice, gpu: Gpu) -> None:
    """Give each thread a register tile in runs: rows of a run are adjacent, and the runs are spread over the tile.

    This way the threads of a warp read shared memory without bank conflicts. 3x3, 64 channels to 128, 56x56 pixels, a
    residual added, tile 128x64 of 128 threads: 128, 130 and 167 registers on sm_75, 80 and 90, 12, 36 and 36 KiB of
    shared memory, no spills (ptxas 13.0).
    """
    tile = choice.tile
    blocks = prepare(sch, product, choice.splits)
    sums = blocks.product
    if blocks.direct:
        out = blocks.out
        sch.set_scope(sums, 0, "local")
    else:
        out = sch.cache_write(sums, 0, "local")
    s, g, m, n, k = sch.get_loops(sums)
    rows = min(RUN, tile.each[0])
    columns = 1 if product.sides[1].along == "k" else min(RUN, tile.each[1])
    bm, vm, tm, im = sch.split(m, [None, tile.each[0] // rows, tile.rows, rows])
    bn, vn, tn, jn = sch.split(n, [None, tile.each[1] // columns, tile.columns, columns])
    ko, ki, ku = sch.split(k, [None, tile.k // RUN, RUN])
    sch.reorder(s, g, bm, bn, vm, vn, tm, tn, ko, ki, ku, im, jn)
    block, thread = sch.fuse(s, g, bm, bn), sch.fuse(tm, tn)
    for loop, axis in ((block, "blockIdx.x"), (vm, "vthread.y"), (vn, "vthread.x"), (thread, "threadIdx.x")):
        sch.bind(loop, axis)
    for factor, side, apart in zip((blocks.left, blocks.right), product.sides, crosses(product), strict=False):
        bring_in(sch, factor, ko, side, (tile.rows * tile.columns,))
        if apart:
            sch.storage_align(factor, 0, -2, 16, PADDING // product.itemsize)
    sch.reverse_compute_at(out, thread)
    lanes = result_lanes(sch, out, product) if blocks.direct else MOST_BYTES // max(4, product.itemsize)
    vectorize(sch, out, min(columns, lanes))
    for loop in (ku, im, jn):
        sch.unroll(loop)
    keep_rolled(sch, ki)
    sch.decompose_reduction(sums, ko)
    pipeline(sch, ko, min(tile.stages, int(sch.get(ko).extent)))
    if not blocks.direct:
        finish_apart(sch, blocks, product, gpu)
