"""The schedule that depthwise convolution and pooling on channels-last data share.

A thread computes some pixels of a row for some neighbouring channels, in registers. Lanes run along channels, so that
what a warp reads of a pixel is contiguous. A thread reads the pixels that its results need from each row of a window
once.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

from convc.ir.layout import round_up
from convc.ir.types import TensorType

from ...blocks import find_block, inline_epilogue
from ..gpu import Gpu
from .threads import VECTOR_BYTES, axes, extent, spread

REGISTERS = 64
"""At most this many float32 registers hold a thread's results and the row of input they are computed from. With more,
ptxas spills some kernels to keep three blocks on a multiprocessor.
"""
MOST_PIXELS = 8
"""Most pixels of a row per thread."""
THREADS_PER_SM = 512
"""Threads that a multiprocessor should have before they get more than one element each."""
UNROLLED = 512
"""Most multiply-adds of straight-line code; beyond that the loops over taps stay loops."""


@dataclass(frozen=True)
class Window:
    """The last spatial axis of a window: its taps, stride and dilation."""

    taps: int
    stride: int
    dilation: int

    def reach(self, pixels: int) -> int:
        """How many pixels of input this many neighbouring results are computed from."""
        return (pixels - 1) * self.stride + (self.taps - 1) * self.dilation + 1

    def shares(self, pixels: int) -> bool:
        """Whether this many neighbouring results have input in common, so that it should be read once."""
        return self.reach(pixels) < pixels * self.taps


def schedule_windows(sch: Any, name: str, window: Window, item_bytes: int, gpu: Gpu) -> Any:
    """Schedule the block ``name``, over ``n, spatial, channels`` and the taps, and its epilogue.

    ``item_bytes`` are the bytes of an element of its widest type.
    """
    anchor = sch.get_sblock(name)
    out = inline_epilogue(sch, anchor)
    spatial, taps = axes(sch, anchor) or ([], [])
    *outer, width, channels = spatial
    sizes = [extent(sch, loop) for loop in spatial]
    lanes, pixels = tile(sizes, window, item_bytes, gpu)
    wo, wi = sch.split(width, [None, pixels])
    co, ci = sch.split(channels, [None, lanes])
    sch.reorder(*outer, wo, co, *taps, wi, ci)
    thread = spread(sch, sch.fuse(*outer, wo, co), gpu)
    sch.set_scope(anchor, 0, "local")
    sch.reverse_compute_at(out, thread, preserve_unit_loops=True)
    unroll(sch, sch.get_loops(out)[-2:])
    row = rows(sch, anchor, taps[-2] if len(taps) > 1 else thread) if window.shares(pixels) else None
    if row is not None:
        unroll(sch, sch.get_loops(row)[-2:])
    elif (pad := find_block(sch, "pad")) is not None:
        sch.compute_inline(pad)
    unroll(sch, [wi, ci])
    inner = pixels * lanes
    for loop in reversed(taps):
        inner *= extent(sch, loop)
        if inner > UNROLLED:
            break
        sch.unroll(loop)
    sch.decompose_reduction(anchor, taps[0])
    return sch


def is_channels_last(t: TensorType) -> bool:
    """Whether data is held ``NWC``, ``NHWC`` or ``NDHWC``, and is not empty."""
    return t.layout is not None and t.layout.name in ("NWC", "NHWC", "NDHWC") and t.numel > 0


def tile(sizes: list[int], window: Window, item_bytes: int, gpu: Gpu) -> tuple[int, int]:
    """The channels and pixels of each thread: the most that leave every multiprocessor its threads, else one of each.

    Pixels past the end of a row do not count.
    """
    *_, width, channels = sizes
    found = [
        (lanes * pixels * width // round_up(width, pixels), lanes, pixels)
        for lanes in (1, 2, 4, 8)
        for pixels in range(1, MOST_PIXELS + 1)
        if channels % lanes == 0
        and lanes * item_bytes <= VECTOR_BYTES
        and prod(sizes) // (lanes * pixels) >= gpu.sms * THREADS_PER_SM
        and lanes * (pixels + window.reach(pixels)) <= REGISTERS
    ]
    _, lanes, pixels = max(found, default=(1, 1, 1))
    return lanes, pixels


def rows(sch: Any, anchor: Any, loop: Any) -> Any:
    """The block that holds a padded row of the input in registers, computed at ``loop``."""
    pad = find_block(sch, "pad")
    if pad is None:
        pad = sch.cache_read(anchor, 0, "local")
    else:
        sch.set_scope(pad, 0, "local")
    sch.compute_at(pad, loop, preserve_unit_loops=True)
    return pad


def unroll(sch: Any, loops: list[Any]) -> None:
    """Unroll the loops over pixels and vectorise the one over channels."""
    *pixels, lanes = loops
    sch.vectorize(lanes)
    for loop in pixels:
        sch.unroll(loop)
