"""The rule that takes every group: inline cheap blocks, run the rest in parallel, vectorise the innermost axis."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tvm
from tvm import tirx

from ...blocks import all_blocks, inline_cheap
from ...group import Group
from ...lowered import lowered
from ..overlap import run_together
from ..strips import in_strips
from ..target import Target

REGISTER_BITS = 128
"""The bits of the shortest vector register of all processors."""
MAX_VECTOR = 64
"""The longest innermost loop that is vectorised whole; longer ones are split by the vector length."""

SHARES = 64
"""The number of iterations that are enough to be shared out among threads."""
OPEN = 32
"""The number of iterations that a loop of open extent is taken to have; the first, most often of one image, has one."""


def fallback(group: Group, target: Target) -> Any:
    """A correct schedule for any group: each block runs in parallel over outer axes, with a vectorised inner one."""
    sch = lowered(group).schedule()
    inline_cheap(sch)
    for block in all_blocks(sch):
        schedule_block(sch, block, target)
    return sch


def schedule_block(sch: Any, block: Any, target: Target) -> None:
    """Make a block parallel over its outer spatial axes and vectorised along the innermost; reductions come between."""
    b = sch.get(block)
    loops = sch.get_loops(block)
    kinds = [iv.iter_type for iv in b.iter_vars]
    if len(loops) != len(kinds) or any(k not in (tirx.IterVar.DataPar, tirx.IterVar.CommReduce) for k in kinds):
        return  # an opaque block, such as a sort, keeps its own loops
    spatial = [loop for loop, kind in zip(loops, kinds, strict=True) if kind == tirx.IterVar.DataPar]
    reduction = [loop for loop, kind in zip(loops, kinds, strict=True) if kind == tirx.IterVar.CommReduce]
    if any(_extent(sch, loop) == 0 for loop in spatial):
        return  # nothing to compute, and TVM does not fuse empty loops
    if not spatial:
        if reduction:
            sch.decompose_reduction(block, reduction[0])  # a sum of nothing is zero, though its loop never runs
        return
    inner = strip = None
    extent = _extent(sch, spatial[-1])
    lanes = target.lanes(max(8, _bits(b)))
    if len(b.writes) == 1 and extent != 1 and "bool" not in str(b.writes[0].source.dtype):
        if extent is None:
            strip = spatial.pop()
            in_strips(sch, strip, sorted({lanes, max(REGISTER_BITS // _bits(b), 1)}, reverse=True))
        elif extent > MAX_VECTOR or extent % lanes == 0:
            outer, inner = sch.split(spatial[-1], [None, min(lanes, extent)])
            spatial[-1] = outer
        else:
            inner = spatial.pop()
    sch.reorder(*spatial, *filter(None, [strip]), *reduction, *filter(None, [inner]))
    shared = _shared(sch, spatial)
    if shared:
        run_together(sch, shared)
    elif strip is not None:
        sch.parallel(strip)
    if inner is not None and not _is_half_a_register(b, int(sch.get(inner).extent)):
        sch.vectorize(inner)
    if reduction:
        sch.decompose_reduction(block, reduction[0])


def _shared(sch: Any, loops: Sequence[Any]) -> Sequence[Any]:
    """The outermost of some loops, as many as have enough iterations to share out; all where their extents are fixed.

    Each iteration of loops that run together takes divisions by their extents, which are slow where these are open.
    """
    extents = [_extent(sch, loop) for loop in loops]
    if None not in extents:
        return loops
    return loops[: _enough(extents)]


def _enough(extents: Sequence[int | None]) -> int:
    iterations = 1
    for i, extent in enumerate(extents):
        if iterations >= SHARES:
            return i
        iterations *= extent or (OPEN if i else 1)
    return len(extents)


def _extent(sch: Any, loop: Any) -> int | None:
    """The extent of a loop, or ``None`` where it is open."""
    extent = sch.get(loop).extent
    return int(extent) if isinstance(extent, tirx.IntImm) else None


def _is_half_a_register(block: Any, lanes: int) -> bool:
    """Whether a vector of integers is shorter than any register.

    LLVM stores it as one integer, and is wrong about the sign of an element that is loaded from there: an index made of
    two offsets of 32 bits was taken for one of 64.
    """
    return str(block.writes[0].source.dtype).startswith(("int", "uint")) and lanes * _bits(block) < REGISTER_BITS


def _bits(block: Any) -> int:
    return int(tvm.DataType(block.writes[0].source.dtype).bits)
