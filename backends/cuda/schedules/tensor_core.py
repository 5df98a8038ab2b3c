"""Matrix products on tensor cores: warps multiply fragments of tiles that asynchronous copies bring in ahead."""

from __future__ import annotations

from typing import Any

from ...group import Group
from ..gpu import Gpu
from . import implicit_gemm
from .cost import Choice, Tile, Unit, choose
from .mma import TILE, Fragments, Map, half_fragments, sums_at, tf32_fragments
from .product import Product
from .product_blocks import SHARED, bring_in, finish_apart, pipeline, prepare, result_lanes, scheduled
from .products import product_of

TILES = (
    (128, 128, 2, 4),
    (128, 64, 2, 2),
    (64, 128, 2, 2),
    (64, 64, 2, 2),
    (128, 32, 4, 1),
    (64, 32, 2, 1),
    (32, 64, 1, 2),
    (32, 32, 2, 1),
    (16, 64, 1, 2),
    (16, 32, 1, 2),
    (64, 16, 2, 1),
    (128, 16, 4, 1),
)
"""Rows and columns of a tile, then rows and columns of its warps."""
DEPTHS = {"f16": (32, 64), "f32": (16, 32)}
"""Terms of a step, by the dtype of the factors: longer steps leave more time for the copies of the next ones."""
STAGES = 3
"""Steps in shared memory at once where copies are asynchronous."""
RATE = {75: 512, 80: 1024, 86: 512, 89: 512, 90: 1024, 100: 1024, 120: 512}
"""Multiply-adds in float16 that mma.sync does per cycle on one multiprocessor; half as many in TF32."""
PADDING = 16
"""Bytes after each row of a tile in shared memory, so that the rows of a fragment lie in different banks."""


def tensor_core(group: Group, gpu: Gpu) -> Any:
    """The schedule of convolutions, transposed convolutions, Gemm and MatMul on tensor cores; ``None`` for others.

    It takes float16, and float32 where TF32 is allowed and supported; it is also ``None`` where CUDA cores are as fast.
    """
    product = product_of(group)
    if product is None or product.dtype not in DEPTHS:
        return None
    if product.dtype == "f32" and not (gpu.tf32 and gpu.has_async_copy):
        return None
    found, plain = choice(product, gpu), implicit_gemm.choice(product, gpu)
    if found is None or (plain is not None and plain.cycles <= found.cycles):
        return None
    return scheduled(group, product, found, gpu, schedule)


def choice(product: Product, gpu: Gpu) -> Choice | None:
    """The tile and splits for a product on tensor cores; ``None`` when no tile fits the GPU.

    Copies to shared memory are asynchronous where the GPU has cp.async and they are of at least 4 bytes.
    """
    size = product.itemsize
    unit = Unit(RATE[gpu.arch] * 2 // size, gpu.warp, size, PADDING)
    stages = STAGES if gpu.has_async_copy and min(product.vectors) * size >= 4 else 1
    tiles = [Tile(m, n, k, rows, columns, stages) for k in DEPTHS[product.dtype] for m, n, rows, columns in TILES]
    return choose(product.sizes, tiles, unit, gpu, split=product.one_to_one)


def fragments(product: Product, gpu: Gpu, scope: str) -> Fragments:
    """The intrinsics for a product whose sums are stored to this memory scope."""
    transposed = product.sides[1].along == "k"
    if product.dtype == "f16":
        return half_fragments(gpu.has_async_copy, transposed, scope)
    return tf32_fragments(transposed, scope)


def schedule(sch: Any, product: Product, choice: Choice, gpu: Gpu) -> None:
    """Schedule a product whose warps keep their sums in registers until the end.

    Then the block puts the sums in shared memory, from where the epilogue reads them in rows. With the sum in parts
    (split-K) they go to global memory, for a second kernel.

    3x3, 64 channels to 128, 56x56 pixels, a residual added, tile 128x64 of four warps, no spills (ptxas 13.0): in
    float16, 32 terms a step, 136, 123 and 124 registers on sm_75, 80 and 90, 32, 43.5 and 43.5 KiB of shared memory; in
    TF32, 16 terms a step, 125 and 126 registers on sm_80 and 90, 45.5 KiB.
    """
    tile = choice.tile
    blocks = prepare(sch, product, choice.splits)
    f = fragments(product, gpu, SHARED if blocks.direct else "global")
    s, g, m, n, k = sch.get_loops(blocks.product)
    bm, wm, fm, im = sch.split(m, [None, tile.rows, tile.each[0] // TILE, TILE])
    bn, wn, fn, jn = sch.split(n, [None, tile.columns, tile.each[1] // TILE, TILE])
    ko, ki, kk = sch.split(k, [None, tile.k // f.depth, f.depth])
    sch.reorder(s, g, bm, bn, wm, wn, ko, ki, fm, fn, im, jn, kk)
    sums = sch.blockize(im)
    block, warp = sch.fuse(s, g, bm, bn), sch.fuse(wm, wn)
    sch.bind(block, "blockIdx.x")
    sch.bind(warp, "threadIdx.y")
    left, right = sch.cache_read(sums, 0, "warp"), sch.cache_read(sums, 1, "warp")
    stored = sch.cache_write(sums, 0, "warp")
    if blocks.direct:
        sch.set_scope(stored, 0, SHARED)
    threads = (gpu.warp, tile.rows * tile.columns)
    for part in (left, right):
        sch.compute_at(part, ki, preserve_unit_loops=True)
    for factor, side in zip((blocks.left, blocks.right), product.sides[:2], strict=True):
        bring_in(sch, factor, ko, side, threads)
        sch.storage_align(factor, 0, -2, *apart(product, factor == blocks.left))
    sch.reverse_compute_at(stored, warp, preserve_unit_loops=True)
    if blocks.direct:
        write_out(sch, blocks.out, block, product, threads)
    multiply(sch, f, sums, (left, right, stored), ko, im)
    pipeline(sch, ko, min(tile.stages, int(sch.get(ko).extent)))
    if not blocks.direct:
        finish_apart(sch, blocks, product, gpu)


def multiply(sch: Any, f: Fragments, sums: Any, moves: tuple[Any, Any, Any], ko: Any, rows: Any) -> None:
    """Replace the multiplication and the moves of fragments by their tensor intrinsics.

    ``rows`` is the outermost loop of the multiplication in a fragment.
    """
    left, right, stored = moves
    depth = f.depth
    right_shape = (TILE, depth) if f.transposed else (depth, TILE)
    loops = [in_tiles(sch, b, *s) for b, s in ((left, (TILE, depth)), (right, right_shape), (stored, (TILE, TILE)))]
    filled = sch.decompose_reduction(sums, ko)
    sch.transform_layout(left, ("write", 0), in_lanes(f.left, TILE, depth))
    sch.transform_layout(right, ("write", 0), in_lanes(f.right, *right_shape))
    sch.transform_layout(stored, ("read", 0), in_lanes(sums_at, TILE, TILE))
    for loop, intrinsic in zip((*loops, rows), (f.load_left, f.load_right, f.store, f.multiply), strict=True):
        sch.tensorize(loop, intrinsic)
    inner = sch.get_child_blocks(filled)[0]
    sch.tensorize(sch.get_loops(inner)[-2], f.fill)


def in_tiles(sch: Any, block: Any, rows: int, columns: int) -> Any:
    """Split the two innermost loops of a block into tiles; returns the outer loop inside a tile."""
    i, j = sch.get_loops(block)[-2:]
    (io, ii), (jo, ji) = sch.split(i, [None, rows]), sch.split(j, [None, columns])
    sch.reorder(io, jo, ii, ji)
    return ii


def in_lanes(place: Map, rows: int, columns: int) -> Any:
    """The layout of a buffer of fragments, from the map of one fragment."""
    return lambda *i: (*i[:-2], i[-2] // rows, i[-1] // columns, *place(i[-2] % rows, i[-1] % columns))


def write_out(sch: Any, out: Any, loop: Any, product: Product, threads: tuple[int, int]) -> None:
    """Have all threads of the block apply the epilogue, each to a few neighbouring elements at a time."""
    sch.reverse_compute_at(out, loop, preserve_unit_loops=True)
    lanes = result_lanes(sch, out, product)
    _, y, x, vector = sch.split(sch.fuse(*sch.get_loops(out)[-2:]), [None, *reversed(threads), lanes])
    sch.bind(y, "threadIdx.y")
    sch.bind(x, "threadIdx.x")
    if lanes > 1:
        sch.vectorize(vector)


def apart(product: Product, left: bool) -> tuple[int, int]:
    """The alignment of a row in shared memory and the padding after it, in elements.

    They put the rows that a warp reads together in different banks.
    """
    by_terms = left or product.sides[1].along == "k"
    return 16, 4 if by_terms and product.dtype == "f32" else 8
