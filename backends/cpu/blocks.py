"""Asking and moving the blocks of a TIR schedule: what every rule needs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import tvm
from tvm import tirx


def find_block(sch: Any, name: str) -> Any:
    """The block of this name, or ``None``."""
    found = [b for b in all_blocks(sch) if sch.get(b).name_hint == name]
    return found[0] if found else None


def all_blocks(sch: Any) -> list[Any]:
    """The blocks of the function, in order; none when it is one call of a library, such as a sort."""
    if sch.mod["main"].body.block.name_hint != "root":
        return []
    return list(sch.get_child_blocks(sch.get_sblock("root")))


def is_pointwise(sch: Any, block: Any) -> bool:
    """Whether a block has no reduction, one output, and a plain store as its body."""
    b = sch.get(block)
    parallel = all(iv.iter_type == tirx.IterVar.DataPar for iv in b.iter_vars)
    return parallel and len(b.writes) == 1 and isinstance(b.body, tirx.BufferStore)


def moves_data(sch: Any, block: Any) -> bool:
    """Whether a pointwise block only copies, pads or selects: no arithmetic on the data itself."""
    value = sch.get(block).body.value
    while isinstance(value, tvm.ir.Call) and value.op.name == "tirx.if_then_else":
        value = value.args[1]
    return isinstance(value, tvm.ir.TensorLoad | tirx.IntImm | tirx.FloatImm)


def inline_epilogue(sch: Any, anchor: Any) -> Any:
    """Inline every pointwise block between the anchor and the last block, and return the last, which then is one expression
    of the anchor's result. Where the kernel ends in the anchor itself, a block that copies its result out is made.
    """
    consumers = sch.get_consumers(anchor)
    if not consumers:
        return sch.cache_write(anchor, 0, "global")
    last = all_blocks(sch)[-1]
    end = sch.get(last).name_hint
    while inner := [b for b in sch.get_consumers(anchor) if sch.get(b).name_hint != end]:
        sch.compute_inline(inner[0])  # its consumers now consume the anchor's result
    return last


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
