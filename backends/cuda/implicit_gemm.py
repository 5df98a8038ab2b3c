"""Matrix products on CUDA cores."""

from __future__ import annotations

import math
from typing import Any

from tvm import tirx

from ..group import Group
from ..cpu.blocks import find_block, inline_epilogue
from .cost import Tile
from .gpu import Gpu
from .product import Product, Side, Tiled
from .products import product_of

def implicit_gemm(group: Group, gpu: Gpu) -> Any:
    product = product_of(group.anchor)
    if product is None:
        return None
    tile, splits = TILE, 1
    sch = group.lower({group.anchor.output.name: Tiled(product, tile, splits).compute}).schedule()
    return schedule(sch, product, tile, splits, gpu)

TILE = Tile(64, 64, 16, 16, 8, 1)


def schedule(sch: Any, product: Product, tile: Tile, splits: int, gpu: Gpu) -> Any:
    left, right, total = (sch.get_sblock(n) for n in ("left", "right", "product"))
    direct = splits == 1 and product.one_to_one
    out = inline_epilogue(sch, sch.get_sblock("product" if splits == 1 else "total"))
    if product.one_to_one:
        batched = product.sizes.batch > 1
        place = product.physical_place()
        ndim = len(product.node.output.type.physical_shape)
        index_map = tirx.IndexMap.from_func(lambda *i: place(*i)[0 if batched else 1:], ndim=ndim, index_dtype="int32")
        sch.transform_block_layout(out, index_map)
    if direct:
        sch.set_scope(total, 0, "local")
    for b in (left, right):
        sch.set_scope(b, 0, "shared")
    acc = total if direct else sch.cache_write(total, 0, "local")
    acc=total
    s, g, m, n, k = sch.get_loops(acc)
    bm, vm, tm, im = sch.split(m, [None, tile.m // (tile.rows * 4), tile.rows, 4])
    bn, vn, tn, jn = sch.split(n, [None, tile.n // (tile.columns * 4), tile.columns, 4])
    ko, ki, k4 = sch.split(k, [None, tile.k // 4, 4])
    sch.reorder(s, g, bm, bn, vm, vn, tm, tn, ko, ki, k4, im, jn)
    block, thread = sch.fuse(s, g, bm, bn), sch.fuse(tm, tn)
    for loop, axis in ((block, "blockIdx.x"), (vm, "vthread.y"), (vn, "vthread.x"), (thread, "threadIdx.x")):
        sch.bind(loop, axis)
    threads = tile.rows * tile.columns
    sides = product.sides
    itemsize = product.node.inputs[0].type.numpy_dtype.itemsize
    for b, side in zip((left, right), sides):
        sch.compute_at(b, ko)
        load(sch, b, side, threads)
    if direct:
        sch.reverse_compute_at(out, thread)
        v = math.gcd(4, sides[2].run) if sides[2].along == "n" else 1
        *_, inner = sch.get_loops(out)
        if v > 1:
            _, lanes = sch.split(inner, [None, v])
            sch.vectorize(lanes)
    for l in (k4, im, jn):
        sch.unroll(l)
    sch.annotate(block, "pragma_auto_unroll_max_step", 0)
    sch.annotate(block, "pragma_unroll_explicit", 0)
    sch.decompose_reduction(acc, ko)
    return sch


def load(sch: Any, block: Any, side: Side, threads: int) -> None:
    """The threads of a block bring in a tile together, neighbours next to each other in memory."""
    a, b, lanes = sch.get_loops(block)[-3:]
    if side.along == "m":
        sch.reorder(b, a)
        a, b = b, a
    _, x = sch.split(sch.fuse(a, b), [None, threads])
    sch.bind(x, "threadIdx.x")
    sch.vectorize(lanes)
