"""Transformations of TIR schedules that several of the CPU's schedule rules share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tvm import tirx

from convc.ir.types import TensorType


def block_of_planes(t: TensorType) -> int | None:
    """The number of channels in a block of a tensor held ``NCHW{b}c``; ``None`` for a tensor held in another way."""
    return t.layout.block(1) if t.rank == 4 and t.layout is not None and t.layout.is_blocked else None


def inline_selection(sch: Any, anchor: Any) -> bool:
    """Inline the blocks that select or join channels for the anchor; returns whether there were any."""
    found = [b for b in sch.get_producers(anchor) if sch.get(b).name_hint in ("select_channels", "concat")]
    for block in found:
        sch.compute_inline(block)
    return bool(found)


def schedule_pad(sch: Any, pad: Any, *, blocked: bool) -> None:
    """Let a padding block copy its inside without a test for each pixel.

    Loops of constant extent over the plane are cut where the border begins and ends. ``blocked`` says that the
    innermost loop is a block of channels, which is vectorised.
    """
    loops = sch.get_loops(pad)
    plane = loops[-3:-1] if blocked else loops[-2:]
    for loop in plane:
        if isinstance(sch.get(loop).extent, tirx.IntImm):
            sch.annotate(loop, "pragma_loop_partition_hint", 1)
    if blocked:
        sch.vectorize(loops[-1])


def keep_in_registers(sch: Any, conv: Any, pixels: Sequence[Any], lanes: Any) -> None:
    """Accumulate a tile in a local buffer that LLVM keeps in registers, since its loops are unrolled and vectorised."""
    sch.set_scope(conv, 0, "local")
    sch.vectorize(lanes)
    for loop in reversed(pixels):
        sch.unroll(loop)


def store_tile(sch: Any, anchor: Any, out: Any, loop: Any, *, axes: int, heavy: bool) -> None:
    """Apply the epilogue to one tile at the end of ``loop``, and vectorise the last of the tile's ``axes``.

    The pixels are unrolled, since accumulators stay in registers only when every index into them is constant. For a
    ``heavy`` epilogue the unrolled part is a copy to memory, and the epilogue loops over that copy: unrolled, its code
    would only get long.
    """
    unrolled = out
    if heavy:
        reads = [r.source.name for r in sch.get(out).reads]
        unrolled = sch.cache_read(out, reads.index(sch.get(anchor).writes[0].source.name), "local")
        sch.reverse_compute_at(unrolled, loop, preserve_unit_loops=True)
    sch.reverse_compute_at(out, loop, preserve_unit_loops=True)
    if heavy:
        sch.vectorize(sch.get_loops(out)[-1])
    *pixels, lanes = sch.get_loops(unrolled)[-axes:]
    sch.vectorize(lanes)
    for pixel in reversed(pixels):
        sch.unroll(pixel)
