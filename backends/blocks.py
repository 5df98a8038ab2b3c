"""Queries and transformations of the blocks of a TIR schedule that the rules of every target share."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import tvm
from tvm import tirx
from tvm.s_tir.schedule import ScheduleError

from convc.ir.lowering import ONCE
from convc.ir.sizes import Dim, product

from .extents import size_of
from .guards import found


def find_block(sch: Any, name: str) -> Any:
    """The block of this name, or ``None``."""
    found = [b for b in all_blocks(sch) if sch.get(b).name_hint == name]
    return found[0] if found else None


def all_blocks(sch: Any) -> list[Any]:
    """The blocks of the function, in order."""
    return list(sch.get_child_blocks(sch.get_sblock("root")))


def is_pointwise(sch: Any, block: Any) -> bool:
    """Whether a block has no reduction, one output, and a plain store as its body."""
    b = sch.get(block)
    parallel = all(iv.iter_type == tirx.IterVar.DataPar for iv in b.iter_vars)
    return parallel and len(b.writes) == 1 and isinstance(b.body, tirx.BufferStore)


def moves_data(sch: Any, block: Any) -> bool:
    """Whether a pointwise block only copies, pads or selects, without arithmetic on the data itself."""
    value = sch.get(block).body.value
    while isinstance(value, tvm.ir.Call) and value.op.name == "tirx.if_then_else":
        value = value.args[1]
    return isinstance(value, tvm.ir.TensorLoad | tirx.IntImm | tirx.FloatImm)


def inline_epilogue(sch: Any, anchor: Any) -> Any:
    """Inline every pointwise block between the anchor and the last block, and return the last block.

    The last block is then one expression of the anchor's result. Where the kernel ends in the anchor itself, a block
    that copies its result out is made.
    """
    consumers = sch.get_consumers(anchor)
    if not consumers:
        return sch.cache_write(anchor, 0, "global")
    last = all_blocks(sch)[-1]
    end = sch.get(last).name_hint
    while inner := [b for b in sch.get_consumers(anchor) if sch.get(b).name_hint != end]:
        sch.compute_inline(inner[0])  # its consumers now consume the anchor's result
    return last


def inline_cheap(sch: Any, *, repeat: bool = True) -> None:
    """Inline the blocks without a reduction where that repeats little work.

    These are blocks that have one pointwise reader, and blocks that only move data. Without ``repeat``, a block is
    inlined into a reader of more elements only if it just moves data. A reader that would get too large by it, since it
    reads the block's result several times, computes from memory.
    """
    for block in all_blocks(sch):
        consumers = sch.get_consumers(block)
        if not consumers or not is_pointwise(sch, block) or ONCE in sch.get(block).annotations:
            continue
        pointwise = len(consumers) == 1 and is_pointwise(sch, consumers[0])
        cheap = pointwise and (repeat or _size(sch, block) == _size(sch, consumers[0]))
        if (cheap or moves_data(sch, block)) and _growth(sch, block, consumers) <= LARGE:
            with suppress(ScheduleError):  # TVM must see that a block makes all that its reader reads, and may not
                sch.compute_inline(block)


LARGE = 64
"""The operations that inlining may add to a block by copies. TVM simplifies an expression of some hundreds for minutes;
the blocks of twenty networks for pictures add 16 at most.
"""


def _growth(sch: Any, block: Any, consumers: Sequence[Any]) -> int:
    """How many calls and loads the copies of a block's value would have in one of its consumers, besides the first."""
    b = sch.get(block)
    result = b.writes[0].source
    loads = [found(sch.get(c).body, tvm.ir.TensorLoad) for c in consumers]
    reads = max(sum(bool(load.source.same_as(result)) for load in some) for some in loads)
    return (reads - 1) * sum(len(found(b.body.value, kind)) for kind in (tvm.ir.TensorLoad, tvm.ir.Call))


def elements(sch: Any, block: Any) -> int:
    """How many elements a block computes. Raises ``ShapeError`` where that is open."""
    return int(_size(sch, block))


def _size(sch: Any, block: Any) -> Dim:
    axes = sch.get(block).iter_vars
    return product(size_of(iv.dom.extent, tirx) for iv in axes if iv.iter_type == tirx.IterVar.DataPar)
