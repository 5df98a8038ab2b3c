"""Transposes by tiles through shared memory, so that each warp both reads and writes contiguous memory."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

from ...blocks import all_blocks, elements, inline_cheap, is_pointwise
from ...group import Group
from ...lowered import lowered
from ..gpu import Gpu

TILE = 32
"""Rows and columns of a tile."""
ROWS = 8
"""Rows of a tile that a thread block reads or writes at once."""
NARROW = 16
"""Axes shorter than this fill too little of a tile."""


def transpose(group: Group, gpu: Gpu) -> Any:
    """The schedule of a single pointwise block that reads a tensor of its size transposed; ``None`` for others.

    The innermost axis of that tensor is another than the result's, and neither is short. By ptxas for sm_75, 80 and 90,
    float32, 64 channels of 56x56: 22, 22, 20 registers, 4224 bytes of shared memory, no spills.
    """
    sch = lowered(group).schedule()
    inline_cheap(sch)
    out = all_blocks(sch)[-1]
    if len(all_blocks(sch)) > 1 or not is_pointwise(sch, out) or not sch.get_loops(out):
        return None
    found = next((t for i in range(len(sch.get(out).reads)) if (t := turned(sch, out, i))), None)
    return None if found is None else schedule(sch, out, found)


@dataclass(frozen=True)
class Turned:
    """A tensor that a block reads transposed: its number among the block's reads.

    ``axis`` is the axis of the result along the tensor's innermost axis; ``column`` is the axis of the tensor along the
    result's innermost axis.
    """

    read: int
    axis: int
    column: int


def turned(sch: Any, out: Any, read: int) -> Turned | None:
    """How a tensor that a block reads is transposed; ``None`` where it is not, or where the axes are too short."""
    block = sch.get(out)
    shape = [int(n) for n in block.reads[read].source.shape]
    index = [r.min for r in block.reads[read].region]
    variables, sizes = [iv.var for iv in block.iter_vars], [int(iv.dom.extent) for iv in block.iter_vars]
    if prod(shape) != elements(sch, out) or not shape or min(shape[-1], sizes[-1]) < NARROW:
        return None
    axis = next((i for i, v in enumerate(variables) if v.same_as(index[-1])), None)
    column = next((i for i, at in enumerate(index) if variables[-1].same_as(at)), None)
    if axis is None or column is None or axis == len(variables) - 1:
        return None
    return Turned(read, axis, column)


def schedule(sch: Any, out: Any, found: Turned) -> Any:
    """Give each tile a thread block. Rows in shared memory are one element longer, which avoids bank conflicts."""
    cached = sch.cache_read(out, found.read, "shared")
    *loops, inner = sch.get_loops(out)
    rows, row = sch.split(loops[found.axis], [None, TILE])
    columns, column = sch.split(inner, [None, TILE])
    loops[found.axis] = rows
    sch.reorder(*loops, columns, row, column)
    place = sch.fuse(*loops, columns)
    sch.bind(place, "blockIdx.x")
    bind_tile(sch, row, column)
    sch.compute_at(cached, place, preserve_unit_loops=True)
    own = sch.get_loops(cached)[1:]
    sch.reorder(own[found.column], own[-1])
    bind_tile(sch, own[found.column], own[-1])
    sch.storage_align(cached, 0, found.column, TILE, 1)
    return sch


def bind_tile(sch: Any, row: Any, column: Any) -> None:
    """Share a tile out to a thread block, with lanes along its columns."""
    for loop, size, axis in ((row, ROWS, "threadIdx.y"), (column, TILE, "threadIdx.x")):
        # a short axis is padded and guarded: all loops bound to one thread axis of a kernel must be equally long
        _, thread = sch.split(loop, [None, size])
        sch.bind(thread, axis)
