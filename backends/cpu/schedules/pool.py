"""Pooling of blocked data: a block of channels fills a vector, a row of pixels fills the registers."""

from __future__ import annotations

from typing import Any

from convc.ir.ops.average_pool import AveragePool
from convc.ir.ops.max_pool import MaxPool

from ...group import Group
from ...lowered import lowered
from ..target import Target
from .blocks import block_of_planes
from .windows import schedule_windows, window_tile

REDUCTIONS: dict[type, str] = {MaxPool: "max_pool", AveragePool: "pool_sum"}
"""The name of the reduction block of each op."""


def pool(group: Group, target: Target) -> Any:
    """The schedule of 2-D max and average pooling held ``NCHW{b}c``; ``None`` for others.

    3x3, stride 2, 64 channels, 112x112 pixels: 80 GB/s, as much as the last-level cache gives (Zen 4).
    """
    node = group.anchor
    out = node.output.type.at_typical()
    block = block_of_planes(out)
    if type(node.op) not in REDUCTIONS or block is None:
        return None
    rows, columns = window_tile(out.sizes[2], out.sizes[3], block, target)
    sch = lowered(group).schedule()
    return schedule_windows(sch, REDUCTIONS[type(node.op)], rows, columns, target, heavy=group.heavy_epilogue)
