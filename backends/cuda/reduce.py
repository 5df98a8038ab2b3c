"""Reductions with many elements to each result: threads share them, and add up by shuffles or in shared memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import tvm
import tvm_ffi

from convc.ir.lowering import Operand, TensorExpressions
from convc.ir.ops._accumulate import accumulator, mean, rounded
from convc.ir.ops.global_pool import GlobalAveragePool
from convc.ir.types import TensorType

from .. import blocks
from ..group import Computes, Group
from . import reducers as _  # noqa: F401  has TVM know our combiners
from .fallback import bind_elements, finish
from .gpu import Gpu
from .threads import THREADS, axes, elements, extent

ALONE = 4
"""About so many elements a thread reduces by itself before threads put theirs together."""
MOST_LANES = 512
"""Threads to a row at most."""
MOST_ROWS = 16
"""Rows of lanes that share the elements of a result at most, where lanes run along results."""
SHORT = 32
"""Fewer elements than this are left to one thread."""


def reduce(group: Group, gpu: Gpu) -> Any:
    """Groups with a reduction whose results are too few to keep the GPU busy with one thread each; ``None`` for others.

    Where the reduced axis lies innermost in memory, lanes of a warp, or several warps, run along it; else lanes run along
    results, and rows of threads share the elements. Results so few that they leave multiprocessors idle are made in two
    steps: partial results first. Every block of the function is a kernel, but what finishes a reduction is part of it.
    """
    sch = group.lower(means(group)).schedule()
    blocks.inline_cheap(sch)
    for block in blocks.all_blocks(sch):
        if not sch.get_loops(block):
            sch.add_unit_loop(block)  # rfactor fails where a block stands in no loop
    found = [b for b in blocks.all_blocks(sch) if sharing(sch, b, gpu) is not None]
    if not found or any(axes(sch, b) is None for b in blocks.all_blocks(sch)):
        return None
    done: set[str] = set()
    for block in blocks.all_blocks(sch):
        if sch.get(block).name_hint not in done:
            done.add(reduce_block(sch, block, gpu))
    return sch


def means(group: Group) -> Computes:
    """Global averages in one step, for the threads' sums bound rounding errors as sums of rows do on a CPU."""
    return {n.output.name: _mean for n in group.body.nodes if isinstance(n.op, GlobalAveragePool)}


def _mean(k: TensorExpressions, xs: Sequence[Operand], outs: Sequence[TensorType]) -> Any:
    x, acc = xs[0], accumulator(outs[0])
    return rounded(k, mean(k, acc, x.shape[2:], lambda i, r: x(*i[:2], *r).astype(acc.tvm_dtype)), outs[0])


@dataclass(frozen=True)
class Sharing:
    """How threads share a reduction: ``lanes`` along it and ``rows`` results a block where it lies ``innermost``, else the
    other way round; in ``parts``, which a second kernel puts together.
    """

    innermost: bool
    lanes: int
    rows: int
    parts: int


def sharing(sch: Any, block: Any, gpu: Gpu) -> Sharing | None:
    """How to share the reduction of a block; ``None`` where it is none, or one thread to a result does."""
    loops = axes(sch, block)
    if loops is None or not loops[1] or len(sch.get(block).writes) != 1:
        return None
    results, size = elements(sch, block), prod(extent(sch, loop) for loop in loops[1])
    if results == 0 or size < SHORT or results * ALONE >= gpu.sms * gpu.threads_per_sm:
        return None
    threads = _power_of_two(size // ALONE)
    innermost = reads_innermost(sch, block)
    if innermost:
        lanes = min(max(threads, gpu.warp), MOST_LANES)
        rows = max(1, min(THREADS // lanes, results // gpu.sms))
        count = -(-results // rows)
    else:
        lanes, rows = gpu.warp, min(threads, MOST_ROWS)
        count = -(-results // lanes)
    each = size // (lanes if innermost else rows)
    wanted = min(gpu.sms // count, each // ALONE)
    parts = max((d for d in range(1, wanted + 1) if size % d == 0), default=1)
    return Sharing(innermost, lanes, rows, parts)


def _power_of_two(x: int) -> int:
    """The largest power of two up to x, at least 1."""
    return 1 << max(x, 1).bit_length() - 1


def reads_innermost(sch: Any, block: Any) -> bool:
    """Whether neighbours in memory of the largest tensor that a reduction reads belong to one result."""
    b = sch.get(block)
    own = b.writes[0].source
    reads = [r for r in b.reads if not r.source.same_as(own)]
    if not reads:
        return True
    largest = max(reads, key=lambda r: prod(int(n) for n in r.source.shape))
    reduced = [iv.var for iv in b.iter_vars if iv.iter_type == tvm.tirx.IterVar.CommReduce]
    last = next(
        (r.min for r, n in zip(reversed(largest.region), reversed(largest.source.shape), strict=True) if n > 1), 0
    )
    found: list[Any] = []
    if isinstance(last, int):
        return True
    tvm_ffi.structural_walk(last, (tvm.tirx.Var, found.append), order="post")
    return any(v.same_as(r) for v in found for r in reduced)


def reduce_block(sch: Any, block: Any, gpu: Gpu) -> str:
    """Bind a block; returns the name of the block that is part of its kernel, if there is one."""
    plan = sharing(sch, block, gpu)
    spatial, reduction = axes(sch, block) or ([], [])
    if plan is None:
        return bind_elements(sch, block, spatial, reduction, gpu)
    sch.reorder(*spatial, *reduction)
    if plan.parts == 1:
        spatial = spatial or [sch.add_unit_loop(reduction[0])]
        end = finish(sch, block)
        result = share(sch, spatial, reduction, plan)
        sch.reverse_compute_at(end, result)
        return str(sch.get(end).name_hint)
    part, _ = sch.split(sch.fuse(*reduction), [plan.parts, None])
    partial = sch.rfactor(part, 0)
    *spatial, part, element = sch.get_loops(partial)
    sch.reorder(part, *spatial, element)
    share(sch, [part, *spatial], [element], plan)
    *spatial, part = sch.get_loops(block)
    return bind_elements(sch, block, spatial, [part], gpu)


def share(sch: Any, spatial: Sequence[Any], reduction: Sequence[Any], plan: Sharing) -> Any:
    """Share the loops over results and over the elements of each out to the threads of blocks; returns the loop of the threads
    that results belong to.
    """
    across, along = (plan.rows, plan.lanes) if plan.innermost else (plan.lanes, plan.rows)
    place, result = sch.split(sch.fuse(*spatial), [None, across])
    _, element = sch.split(sch.fuse(*reduction), [None, along])
    sch.bind(place, "blockIdx.x")
    sch.bind(result, "threadIdx.y" if plan.innermost else "threadIdx.x")
    sch.bind(element, "threadIdx.x" if plan.innermost else "threadIdx.y")
    return result
