"""Depthwise convolution of channels-last data: lanes run along channels, a thread holds a few pixels of a row."""

from __future__ import annotations

from typing import Any

from convc.ir.ops._accumulate import accumulator
from convc.ir.ops.conv import Conv

from ...group import Group
from ...lowered import lowered
from ..gpu import Gpu
from .windows import Window, is_channels_last, schedule_windows


def depthwise(group: Group, gpu: Gpu) -> Any:
    """The schedule of channels-last depthwise convolutions with their epilogue; ``None`` for others.

    Each channel may have more than one output channel. The weights of a tap are read once for all pixels of a thread.
    Nothing is in shared memory. Registers by ptxas for sm_75, 80 and 90, float32, without spills: 3x3, 16 x 56x56, 96
    channels: 80, 80, 80 (float16: 64, 64, 68); 5x5, 28x28, 240 channels: 64, 39, 37; 7x7, 56x56, 96 channels: 62, 44,
    40.
    """
    node = group.anchor
    out = node.output.type
    if not isinstance(node.op, Conv) or node.op.group == 1 or not is_channels_last(out):
        return None
    weight = node.inputs[1].type
    if weight.sizes[1] != 1:
        return None
    strides, _, dilations = node.op.geometry(out.rank - 2)
    window = Window(weight.sizes[-1], strides[-1], dilations[-1])
    sch = lowered(group).schedule()
    return schedule_windows(sch, "conv", window, accumulator(out).numpy_dtype.itemsize, gpu)
