"""Channels put together in blocks that no single operand fills: where each lies is known when the kernel is compiled."""

from __future__ import annotations

from typing import Any

from convc.ir.graph import Node
from convc.ir.ops.select_channels import SelectChannels, joins_channels, runs_of

from ...blocks import all_blocks, inline_epilogue
from ...group import Group
from ..target import Target

MAX_BLOCKS = 32
"""Code is written out for each block of at most this many."""


def select_channels(group: Group, target: Target) -> Any:
    """Groups that begin by joining or selecting blocked channels, some block from several places; ``None`` for others."""
    node = group.body.nodes[0]
    layout = node.output.type.layout
    if not joins_channels(node) or not all(n.op.elementwise for n in group.body.nodes[1:]):
        return None
    if (
        layout is None
        or not layout.is_blocked
        or is_aligned(node, layout.block(1))
        or node.output.type.physical_shape[1] > MAX_BLOCKS
    ):
        return None
    sch = group.lower().schedule()
    return schedule(sch, all_blocks(sch)[0])


def is_aligned(node: Node, block: int) -> bool:
    """Whether each block of channels comes from one block of an operand."""
    sizes = [v.type.sizes[1] for v in node.inputs]
    channels = node.op.channels if isinstance(node.op, SelectChannels) else range(sum(sizes))
    runs = runs_of(channels, sizes)
    ends = all(run.count % block == 0 for run in runs[:-1])
    return ends and all(run.first % block == 0 and (run.step == 1 or run.count == 1) for run in runs)


def schedule(sch: Any, joined: Any) -> Any:
    """Rows of pixels in parallel, each block and lane written out, so that LLVM can make vectors of neighbours.

    116 channels at 28x28 out of five tensors: 17 GB/s; 464 at 7x7, of two in turns: 90 GB/s (Zen 4).
    """
    out = inline_epilogue(sch, joined)
    n, c, *rows, column, lane = sch.get_loops(out)
    sch.reorder(n, *rows, c, column, lane)
    sch.parallel(sch.fuse(n, *rows))
    sch.unroll(c)
    sch.vectorize(lane)
    sch.compute_at(joined, column, preserve_unit_loops=True)
    sch.set_scope(joined, 0, "local")
    sch.unroll(sch.get_loops(joined)[-1])
    return sch
