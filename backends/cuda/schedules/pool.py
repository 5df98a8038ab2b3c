"""Pooling of channels-last data: lanes run along channels, a thread holds a few pixels of a row."""

from __future__ import annotations

from typing import Any

from convc.ir.ops._accumulate import accumulator
from convc.ir.ops.average_pool import AveragePool
from convc.ir.ops.lp_pool import LpPool
from convc.ir.ops.max_pool import MaxPool

from ...group import Group
from ...lowered import lowered
from ..gpu import Gpu
from .windows import Window, is_channels_last, schedule_windows

REDUCTIONS: dict[type, str] = {MaxPool: "max_pool", AveragePool: "pool_sum", LpPool: "power_sum"}
"""The name of the reduction block of each op."""


def pool(group: Group, gpu: Gpu) -> Any:
    """The schedule of channels-last max, average and Lp pooling with their epilogue; ``None`` for others.

    Nothing is in shared memory. Registers by ptxas for sm_75, 80 and 90, float32, without spills: max 3x3, stride 2, 16
    x 112x112, 64 channels: 74, 74, 74; one such image: 64, 30, 30.
    """
    node = group.anchor
    out = node.output.type
    if type(node.op) not in REDUCTIONS or not is_channels_last(out):
        return None
    op: Any = node.op
    strides, _, dilations = op.geometry()
    window = Window(op.kernel[-1], strides[-1], dilations[-1])
    sch = lowered(group).schedule()
    return schedule_windows(sch, REDUCTIONS[type(op)], window, accumulator(out).numpy_dtype.itemsize, gpu)
