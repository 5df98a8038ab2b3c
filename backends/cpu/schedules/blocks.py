"""Moves of the blocks of a TIR schedule that several rules for CPUs make."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ...blocks import find_block


def inline_selection(sch: Any, anchor: Any) -> bool:
    """Inline what selects or joins the data of the anchor; whether there was such a block."""
    found = [b for b in sch.get_producers(anchor) if sch.get(b).name_hint in ("select_channels", "concat")]
    for block in found:
        sch.compute_inline(block)
    return bool(found)


def schedule_pad(sch: Any, pad: Any, *, blocked: bool) -> None:
    """Let a padding block copy its inside without a test for each pixel: the loops over the plane are cut where the border
    begins and ends. ``blocked``: the innermost loop is a block of channels, and is vectorised.
    """
    loops = sch.get_loops(pad)
    plane = loops[-3:-1] if blocked else loops[-2:]
    for loop in plane:
        sch.annotate(loop, "pragma_loop_partition_hint", 1)
    if blocked:
        sch.vectorize(loops[-1])


def keep_in_registers(sch: Any, conv: Any, pixels: Sequence[Any], lanes: Any) -> None:
    """Accumulate a tile in a local buffer that, its loops unrolled and vectorised, LLVM keeps in registers."""
    sch.set_scope(conv, 0, "local")
    sch.vectorize(lanes)
    for loop in reversed(pixels):
        sch.unroll(loop)


def sum_in_chunks(sch: Any, block: Any, outer: Any, steps: int, inner: int) -> Any:
    """Split a long sum in two levels, so that rounding errors grow with the square root of a chunk and of the chunks: the block
    then adds up partial sums of about ``CHUNK`` terms. ``outer`` is its outermost reduction loop, of ``steps`` steps of ``inner``
    terms. Returns the block of the partial sums, ``None`` where the sum is short.

    Higham, "The Accuracy of Floating Point Summation" (1993). What BLAS libraries do by blocking the inner size.
    """
    if steps * inner < 4 * CHUNK or inner > CHUNK:
        return None
    wanted = steps * inner // CHUNK
    # of two chunks LLVM makes straight code, in which the accumulators do not stay in registers
    counts = [c for c in range(3, steps + 1) if steps % c == 0]
    if not counts:
        return None
    count = min(counts, key=lambda c: abs(math.log(c / wanted)))
    chunk, _ = sch.split(outer, [count, None])
    return sch.rfactor(chunk, 0)


CHUNK = 256
"""Terms summed in one accumulator before it is added to the total."""


def update_of(sch: Any, name: str) -> tuple[str, int]:
    """The name of the block that multiplies and adds for the reduction called ``name``, its initial value decomposed off, and
    the position of the reduction's own first axis among its axes: with sums in chunks, it has an axis of chunks before.
    """
    partial = f"{name}_rf_update"
    return (partial, 1) if find_block(sch, partial) is not None else (f"{name}_update", 0)


def store_tile(sch: Any, anchor: Any, out: Any, loop: Any, *, axes: int, heavy: bool) -> None:
    """What follows the anchor, applied to one tile at the end of ``loop``; the last of the tile's ``axes`` is vectorised.

    The pixels are unrolled, since accumulators stay in registers only when every index into them is constant. For a heavy
    epilogue the unrolled part is a copy to memory, and the epilogue loops over that: unrolled, its code would only get long.
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
