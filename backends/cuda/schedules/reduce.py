"""Reductions of many elements per result: threads share them, and add up by shuffles or in shared memory."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

from convc.ir.lowering import Operand, TensorExpressions
from convc.ir.ops._accumulate import accumulator, mean, rounded
from convc.ir.ops.global_pool import GlobalAveragePool
from convc.ir.types import TensorType

from ...blocks import all_blocks, elements, inline_cheap
from ...group import Group
from ...lowered import Computes, lowered
from ..gpu import Gpu
from .fallback import bind_block, finish
from .sharing import ALONE, Sharing, bind, in_memory_order, reads_innermost, sharing
from .threads import axes, extent

SHORT = 32
"""Reductions of fewer elements than this are left to one thread."""


def reduce(group: Group, gpu: Gpu) -> Any:
    """The schedule of reductions whose results are too few to fill the GPU with one thread each; ``None`` for others.

    Where the reduced axis lies innermost in memory, the lanes of one or several warps run along it. Otherwise lanes run
    along results, and rows of threads share the elements. Results so few that they leave multiprocessors idle are made
    in two steps, partial results first. Every block of the function is a kernel, except that the epilogue of a
    reduction is part of it.

    By ptxas for sm_75, 80 and 90, float32, without spills: global average of 7x7, 2048 channels: 22 registers and 896
    bytes of shared memory on each; of 56x56, 96 channels, in parts: 24, 63, 63 registers and 2048 bytes.
    """
    sch = lowered(group, means(group)).schedule()
    inline_cheap(sch)
    for block in all_blocks(sch):
        if not sch.get_loops(block):
            sch.add_unit_loop(block)  # rfactor fails for a block outside any loop
    if all(plan(sch, b, gpu) is None for b in all_blocks(sch)) or any(axes(sch, b) is None for b in all_blocks(sch)):
        return None
    done: set[str] = set()
    for block in all_blocks(sch):
        if sch.get(block).name_hint not in done:
            done.add(reduce_block(sch, block, gpu))
    return sch


def means(group: Group) -> Computes:
    """The computation of global averages in one step instead of by rows.

    The threads' partial sums bound rounding errors, as sums of rows do on a CPU.
    """
    return {n.output.name: _mean for n in group.body.nodes if isinstance(n.op, GlobalAveragePool)}


def _mean(k: TensorExpressions, xs: Sequence[Operand], outs: Sequence[TensorType]) -> Any:
    x, acc = xs[0], accumulator(outs[0])
    return rounded(k, mean(k, acc, x.shape[2:], lambda i, r: x(*i[:2], *r).astype(acc.tvm_dtype)), outs[0])


def plan(sch: Any, block: Any, gpu: Gpu) -> Sharing | None:
    """How threads share the reduction of a block; ``None`` where it has none, or where one thread per result does."""
    loops = axes(sch, block)
    if loops is None or not loops[1] or len(sch.get(block).writes) != 1:
        return None
    results, size = elements(sch, block), reduced(sch, loops[1])
    if results == 0 or size < SHORT or results * ALONE >= gpu.sms * gpu.threads_per_sm:
        return None
    return sharing(results, size, gpu, innermost=reads_innermost(sch, block))


def reduced(sch: Any, reduction: Sequence[Any]) -> int:
    """How many elements are reduced to one result."""
    return prod(extent(sch, loop) for loop in reduction)


def parts(results: int, size: int, shared: Sharing, gpu: Gpu) -> int:
    """Into how many parts a reduction is split to keep all multiprocessors busy; each part has blocks of its own."""
    wanted = min(gpu.sms // shared.blocks(results), shared.each(size) // ALONE)
    return max((d for d in range(1, wanted + 1) if size % d == 0), default=1)


def reduce_block(sch: Any, block: Any, gpu: Gpu) -> str:
    """Bind a block to threads; returns the name of the epilogue that became part of its kernel, or an empty string."""
    shared = plan(sch, block, gpu)
    spatial, reduction = axes(sch, block) or ([], [])
    if shared is None:
        return bind_block(sch, block, spatial, reduction, gpu)
    count = parts(elements(sch, block), reduced(sch, reduction), shared, gpu)
    reduction = in_memory_order(sch, block, reduction)
    sch.reorder(*spatial, *reduction)
    if count == 1:
        end = finish(sch, block)
        result = bind(sch, spatial or [sch.add_unit_loop(reduction[0])], reduction, shared)
        sch.reverse_compute_at(end, result)
        return str(sch.get(end).name_hint)
    part, _ = sch.split(sch.fuse(*reduction), [count, None])
    partial = sch.rfactor(part, 0)
    *spatial, part, element = sch.get_loops(partial)
    sch.reorder(part, *spatial, element)
    end = sch.cache_write(partial, 0, "local")  # TVM does not guard its own store of a sum shared by threads
    sch.reverse_compute_at(end, bind(sch, [part, *spatial], [element], shared))
    *spatial, part = sch.get_loops(block)
    return bind_block(sch, block, spatial, [part], gpu)
