"""Normalisations (softmax, layer, group and instance norms, and the like) in one kernel, by rows per thread block."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import prod
from typing import Any

import tvm
from tvm import tirx

from ...blocks import all_blocks, elements, inline_cheap
from ...group import Group
from ...lowered import lowered
from ..gpu import Gpu
from .sharing import Sharing, bind_elements, in_memory_order, sharing
from .threads import axes, extent

MOST_EACH = 64
"""Most elements of a row that one thread works on where there are too few rows to fill the GPU; longer rows go to
reduce.py.
"""
WARP = 32
"""Lanes of a warp."""
SHARED_BYTES = 48 << 10
"""An intermediate result as long as the row takes at most this much shared memory; a larger one is recomputed where it
is read.
"""


def rows(group: Group, gpu: Gpu) -> Any:
    """The schedule of normalisations whose elements depend on statistics of their row; ``None`` for others.

    It is also ``None`` where the rows are too few and too long. Lanes run along the row where that lies innermost in
    memory: a warp adds up its sums by shuffles, a block of several warps through shared memory. Otherwise lanes run
    across neighbouring rows, and every thread adds up the partial sums that the others of its row left in shared
    memory. Intermediate results as long as the row are in shared memory too; those that follow from sums are in the
    registers of every thread.

    By ptxas for sm_75, 80 and 90, float32, without spills: layer norm of 3136 rows of 96: 20, 20, 22 registers and no
    shared memory; softmax of 1000: 29, 31, 30 registers, 4356 bytes.
    """
    if not group.anchor.op.normalises_rows or len(group.body.outputs) != 1:
        return None
    sch = lowered(group).schedule()
    inline_cheap(sch, repeat=False)
    *before, out = all_blocks(sch)
    if any(axes(sch, b) is None for b in (*before, out)) or not elements(sch, out):
        return None
    sums = [b for b in before if (axes(sch, b) or ([], []))[1]]
    if not sums or any(elements(sch, b) >= elements(sch, out) for b in sums):  # rows of one element
        return None
    row = row_axes(sch, before, out)
    if not row:
        return None
    loops = split_rows(sch, out, row)
    outer, inner = ([loop for loop, of_row in loops if of_row is wanted] for wanted in (False, True))
    count, size = (prod(extent(sch, loop) for loop in part) for part in (outer, inner))
    innermost = next((of_row for loop, of_row in reversed(loops) if extent(sch, loop) > 1), True)
    # rows of a block are neighbours along one axis, so that TVM can tell which elements belong to each
    last = max((i for i, loop in enumerate(outer) if extent(sch, loop) > 1), default=0)
    shared = sharing(count, size, gpu, innermost=innermost)
    shared = replace(shared, across=min(shared.across, extent(sch, outer[last])))
    if size == 1 or (shared.each(size) > MOST_EACH and 4 * shared.blocks(count) < gpu.sms):
        return None
    sch.reorder(*outer, *inner)
    axis = sorted(row)[last]
    some, across = sch.split(outer[last], [None, shared.across])
    rest = [*outer[:last], some, *outer[last + 1 :]]
    sch.reorder(*rest, across)
    place = sch.fuse(*rest)
    if not shared.innermost:
        before = [made for b in before for made in in_parts(sch, b, shared)]
    for block in reversed(before):
        make_rows(sch, block, out, axis, place, shared, size)
    sch.bind(place, "blockIdx.x")
    sch.bind(across, shared.result_axis)
    bind_elements(sch, inner, shared)
    return sch


def row_axes(sch: Any, before: Sequence[Any], out: Any) -> dict[int, int]:
    """The axes of the result that tell rows apart, each with how many neighbours along it belong to one row.

    Axes of size one are among them. It is empty where the result reads a statistic at an index that is not made of
    axes.
    """
    block = sch.get(out)
    size = elements(sch, out)
    statistics = {sch.get(b).writes[0].source.name for b in before if elements(sch, b) < size}
    found = {i: 1 for i, iv in enumerate(block.iter_vars) if int(iv.dom.extent) == 1}
    for index in (r.min for read in block.reads if read.source.name in statistics for r in read.region):
        if isinstance(index, tirx.IntImm):
            continue
        var, neighbours = (index.a, int(index.b)) if isinstance(index, tirx.FloorDiv) else (index, 1)
        axis = next((i for i, iv in enumerate(block.iter_vars) if iv.var.same_as(var)), None)
        if axis is None or found.setdefault(axis, neighbours) != neighbours:
            return {}
    return found


def split_rows(sch: Any, out: Any, row: dict[int, int]) -> list[tuple[Any, bool]]:
    """The loops over the result in order, each with whether it runs along a row; a loop that does both is split."""
    made: list[tuple[Any, bool]] = []
    for axis, loop in enumerate(sch.get_loops(out)):
        if axis not in row:
            made.append((loop, True))
        elif row[axis] == 1:
            made.append((loop, False))
        else:
            which, along = sch.split(loop, [None, row[axis]])
            made += [(which, False), (along, True)]
    return made


def in_parts(sch: Any, block: Any, shared: Sharing) -> list[Any]:
    """A sum as two blocks, the partial sum of each thread and their total; other blocks as they are."""
    spatial, reduction = axes(sch, block) or ([], [])
    if not reduction:
        return [block]
    reduction = in_memory_order(sch, block, reduction)
    sch.reorder(*spatial, *reduction)
    _, part = sch.split(sch.fuse(*reduction), [None, shared.along])
    return [sch.rfactor(part, 0), block]


def make_rows(sch: Any, block: Any, out: Any, axis: int, place: Any, shared: Sharing, size: int) -> None:
    """Have a block compute its part of the rows of a thread block at ``place``, before it is read.

    ``axis`` is the axis of the result along which the rows of a thread block are neighbours.
    """
    reduces = any(iv.iter_type == tirx.IterVar.CommReduce for iv in sch.get(block).iter_vars)
    partial = reduces and str(sch.get(block).name_hint).endswith("_rf")
    along = not reduces and elements(sch, block) >= size
    if along and (not alike(sch, block, out) or shared.across * size * item_bytes(sch, block) > SHARED_BYTES):
        sch.compute_inline(block)
        return
    whole = reduces and shared.innermost and shared.along > WARP
    sch.set_scope(block, 0, "shared" if along or partial or whole else "local")
    sch.compute_at(block, place, preserve_unit_loops=True)
    spatial, reduction = own_loops(sch, block)
    part = [spatial.pop(0)] if partial else []
    row = spatial.pop(axis) if along else next((loop for loop in spatial if extent(sch, loop) > 1), spatial[0])
    if along:
        sch.reorder(row, *spatial)
    sch.bind(row, shared.result_axis)
    if reduces and shared.innermost:
        part = in_memory_order(sch, block, reduction)
    if along or part:
        bind_elements(sch, spatial if along else part, shared)


def own_loops(sch: Any, block: Any) -> tuple[list[Any], list[Any]]:
    """The spatial and the reduction loops of a block itself, inside the loop over thread blocks."""
    kinds = [iv.iter_type for iv in sch.get(block).iter_vars]
    own = sch.get_loops(block)[-len(kinds) :]
    spatial = [loop for loop, kind in zip(own, kinds, strict=True) if kind == tirx.IterVar.DataPar]
    reduction = [loop for loop, kind in zip(own, kinds, strict=True) if kind == tirx.IterVar.CommReduce]
    return spatial, reduction


def alike(sch: Any, block: Any, out: Any) -> bool:
    """Whether a block has the same axes as the result."""
    sizes, wanted = ([int(iv.dom.extent) for iv in sch.get(b).iter_vars] for b in (block, out))
    return sizes == wanted


def item_bytes(sch: Any, block: Any) -> int:
    """Bytes of an element that a block computes."""
    return int(tvm.DataType(sch.get(block).writes[0].source.dtype).bits) // 8
