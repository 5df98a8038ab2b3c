"""The rule that takes every group: inline cheap blocks, give each element of the rest a thread, reduce serially."""

from __future__ import annotations

from typing import Any

from convc.ir.ops.scatter import ScatterElements, ScatterND

from ...blocks import all_blocks, elements, inline_cheap, is_pointwise
from ...group import Group
from ...lowered import lowered
from ..gpu import Gpu
from .threads import axes, extent, fused, spread, vector_lanes, with_threads
from .top_k import rankings


def fallback(group: Group, gpu: Gpu) -> Any:
    """A correct schedule for any group that GPUs can compute.

    Each block of the function is a kernel of its own, except that the epilogue of a reduction is part of its kernel.
    Sums are kept in a register; neighbouring elements of pointwise blocks are a vector. Opaque blocks, such as a
    scatter, keep their loops, and each parallel loop is a kernel. Registers by ptxas for sm_75, 80 and 90, without
    spills: relu of a sum of two tensors: 16, 15, 16.
    """
    scatters = [node.op for node in group.body.nodes if isinstance(node.op, ScatterElements | ScatterND)]
    distinct = bool(scatters) and all(op.reduction == "none" for op in scatters)
    sch = with_threads(lowered(group, rankings(group)).schedule(), distinct=distinct)
    inline_cheap(sch)
    done: set[str] = set()
    for block in all_blocks(sch):
        name = sch.get(block).name_hint
        if name not in done and (loops := axes(sch, block)) and all(extent(sch, loop) for loop in loops[0]):
            done.add(bind_block(sch, block, *loops, gpu))
    return sch


def bind_block(sch: Any, block: Any, spatial: list[Any], reduction: list[Any], gpu: Gpu) -> str:
    """Give each element of a block a thread.

    ``spatial`` and ``reduction`` are the block's loops. Returns the name of the epilogue that became part of its
    kernel, or an empty string.
    """
    if not reduction:
        lanes = vector_lanes(sch, block, gpu) if is_pointwise(sch, block) else 1
        spread(sch, fused(sch, block, spatial, reduction), gpu, lanes)
        return ""
    end = finish(sch, block)
    thread = spread(sch, fused(sch, block, spatial, reduction), gpu)
    sch.reverse_compute_at(end, thread)
    sch.decompose_reduction(block, reduction[0])
    return str(sch.get(end).name_hint)


def finish(sch: Any, block: Any) -> Any:
    """The block that reads the result of a reduction from a register and writes it to memory.

    It is the reduction's one reader where that is pointwise, reads every element once, and reads nothing else that the
    kernel makes; otherwise it is a copy.
    """
    readers = sch.get_consumers(block)
    alone = len(readers) == 1 and is_pointwise(sch, readers[0]) and len(sch.get_producers(readers[0])) == 1
    if not alone or elements(sch, readers[0]) != elements(sch, block):
        return sch.cache_write(block, 0, "local")
    sch.set_scope(block, 0, "local")
    return readers[0]
