"""Sums of any length: in chunks, so that rounding errors stay small.

A sum over blocks of channels ends where the channels do, though the last block is not full (``stop_at_end``).

A schedule marks the outermost loop of a sum (``in_chunks``). When blocks have become plain loops, the marked loop sums
each chunk in accumulators of its own, which it then adds to the total (``sum_chunks``). Rounding errors grow with the
square root of a chunk's length plus that of the number of chunks (Higham, "The Accuracy of Floating Point Summation",
1993; BLAS libraries get the same by blocking the inner dimension).
"""

from __future__ import annotations

from typing import Any

import tvm_ffi
from tvm import tirx

from ..extents import LONG_SUM
from ..guards import found, uses
from ..schedule import Schedule
from .borders import put
from .overlap import at_least_one

TERMS = "convc_terms"
"""The annotation of the two loops of a sum over blocks: ``BLOCKS`` or ``LANES``. The attribute of a function of this
name is the number of terms, an expression of extents."""
BLOCKS, LANES = 0, 1
CHUNKS = "convc_chunk"
"""The annotation of the outermost loop of a sum: the number of its steps in a chunk."""
CHUNK = LONG_SUM // 4
"""Terms summed in one accumulator before it is added to the total."""


def in_chunks(sch: Any, loop: Any, steps: int, terms: int) -> None:
    """Mark a loop, of a sum into registers, to be run in chunks if the sum is long.

    The loop has ``steps`` steps of ``terms`` terms each, typically where its extent is open. One store of the sum may
    lie inside it.
    """
    if steps * terms < LONG_SUM or terms > CHUNK:
        return
    chunk = max(round(CHUNK / terms), 1)
    if isinstance(sch.get(loop).extent, tirx.IntImm) and -(-steps // chunk) == 2:
        # LLVM unrolls a loop over two chunks, and then the accumulators do not stay in registers
        chunk = -(-steps // 3)
    sch.annotate(loop, CHUNKS, chunk)


def with_terms(sch: Any, terms: Any) -> Any:
    """The schedule of a function whose sums over blocks (``stop_at_end``) have so many terms."""
    return Schedule(sch.mod["main"].with_attr(TERMS, terms))


def stop_at_end(sch: Any, blocks: Any, lanes: Any) -> None:
    """Mark the loops of a sum over blocks of terms, and over the terms of a block. The last block may not be full."""
    sch.annotate(blocks, TERMS, BLOCKS)
    sch.annotate(lanes, TERMS, LANES)


def sum_chunks(func: Any) -> Any:
    """The function, of plain loops, with the marked loops in chunks, and up to the last term."""
    terms = (func.attrs or {}).get(TERMS)
    body = func.body
    if terms is not None:
        body = tvm_ffi.structural_map(body, (tirx.For, lambda loop: _up_to(terms, loop)))
    return func.with_body(tvm_ffi.structural_map(body, (tirx.For, _chunked))).without_attr(TERMS)


def _up_to(terms: Any, blocks: Any) -> Any:
    """A loop over blocks of terms in which the loop over the terms of the last block ends with the terms."""
    if blocks.annotations.get(TERMS, LANES) != BLOCKS:
        return blocks

    def visit(lanes: Any) -> Any:
        if lanes.annotations.get(TERMS, BLOCKS) != LANES:
            return lanes
        extent = at_least_one(tirx.min(lanes.extent, terms - blocks.loop_var * lanes.extent))
        return tirx.For(lanes.loop_var, lanes.min, extent, lanes.kind, lanes.body, None, _without(lanes, TERMS))

    body = tvm_ffi.structural_map(blocks.body, (tirx.For, visit))
    extent = at_least_one(blocks.extent)
    return tirx.For(blocks.loop_var, blocks.min, extent, blocks.kind, body, None, _without(blocks, TERMS))


def _without(loop: Any, name: str) -> dict[str, Any]:
    return {k: v for k, v in loop.annotations.items() if k != name}


def _chunked(loop: Any) -> Any:
    if CHUNKS not in loop.annotations:
        return loop
    length = tirx.const(int(loop.annotations[CHUNKS]), "int32")
    (store,) = found(loop.body, tirx.BufferStore)
    total = store.buffer
    part = tirx.decl_buffer(total.shape, total.dtype, f"{total.name}_part", scope=total.scope())
    nest = [inner for inner in found(loop.body, tirx.For) if any(uses(i, inner.loop_var) for i in store.indices)]

    def over_tile(buffer: Any, value: Any) -> Any:
        """A loop over the elements of the tile that stores ``value(indices)`` in a buffer."""
        fresh = [tirx.Var(inner.loop_var.name, str(inner.loop_var.ty.dtype)) for inner in nest]
        indices = list(store.indices)
        for inner, var in zip(nest, fresh, strict=True):
            indices = [put(i, inner.loop_var, var) for i in indices]
        made: Any = tirx.BufferStore(buffer, value(indices), indices)
        for inner, var in reversed(list(zip(nest, fresh, strict=True))):
            made = tirx.For(var, inner.min, inner.extent, inner.kind, made)
        return made

    def added(indices: list[Any]) -> Any:
        return tirx.BufferLoad(total, indices) + tirx.BufferLoad(part, indices)

    chunk, step = tirx.Var("chunk", "int32"), tirx.Var(loop.loop_var.name, "int32")
    start = chunk * length
    body = put(put(loop.body, loop.loop_var, start + step), total, part)
    steps = at_least_one(tirx.min(length, loop.extent - start))
    inner = tirx.For(step, tirx.const(0, "int32"), steps, loop.kind, body, None, _without(loop, CHUNKS))
    first = over_tile(part, lambda _: tirx.const(0, str(part.dtype)))
    pieces = [tirx.AllocBuffer(part), first, inner, over_tile(total, added)]
    count = at_least_one(tirx.floordiv(loop.extent + (length - 1), length))
    return tirx.For(chunk, tirx.const(0, "int32"), count, tirx.ForKind.SERIAL, tirx.SeqStmt(pieces))
