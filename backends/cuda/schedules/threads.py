"""Binding the loops of a block to the threads of a GPU, as every schedule rule needs it."""

from __future__ import annotations

from typing import Any

import tvm
import tvm_ffi
from tvm import s_tir, tirx

from ...blocks import elements
from ...schedule import Schedule
from ..gpu import Gpu

THREADS = 256
"""Threads per block, where a kernel has no reason for another number."""
VECTOR_BYTES = 16
"""The most bytes that a thread loads or stores at once."""


def axes(sch: Any, block: Any) -> tuple[list[Any], list[Any]] | None:
    """The spatial and the reduction loops of a block; ``None`` for an opaque block, such as a scatter."""
    kinds, loops = [iv.iter_type for iv in sch.get(block).iter_vars], sch.get_loops(block)
    if not loops:
        return ([], []) if isinstance(sch.get(block).body, tirx.BufferStore) else None  # a scalar
    if len(loops) != len(kinds) or any(k not in (tirx.IterVar.DataPar, tirx.IterVar.CommReduce) for k in kinds):
        return None
    spatial = [loop for loop, kind in zip(loops, kinds, strict=True) if kind == tirx.IterVar.DataPar]
    reduction = [loop for loop, kind in zip(loops, kinds, strict=True) if kind == tirx.IterVar.CommReduce]
    return spatial, reduction


def extent(sch: Any, loop: Any) -> int:
    """The number of iterations of a loop."""
    return int(sch.get(loop).extent)


def fused(sch: Any, block: Any, spatial: list[Any], reduction: list[Any]) -> Any:
    """One loop over the elements of a block, around its reduction loops."""
    if not spatial:
        return sch.add_unit_loop(reduction[0] if reduction else block)
    sch.reorder(*spatial, *reduction)
    return sch.fuse(*spatial)


def spread(sch: Any, loop: Any, gpu: Gpu, lanes: int = 1) -> Any:
    """Share a loop out to threads, each with ``lanes`` vectorised iterations; returns the loop over threads.

    Blocks are smaller where there are few iterations, so that every multiprocessor gets some.
    """
    count = -(-extent(sch, loop) // lanes)
    share = 1 << max(0, (count // gpu.sms)).bit_length()
    threads = min(max(share, gpu.warp), THREADS, count)
    block, thread, vector = sch.split(loop, [None, threads, lanes])
    sch.bind(block, "blockIdx.x")
    sch.bind(thread, "threadIdx.x")
    if lanes > 1:
        sch.vectorize(vector)
    return thread


def vector_lanes(sch: Any, block: Any, gpu: Gpu) -> int:
    """How many neighbouring elements of a pointwise block each thread should compute.

    It is as many as fit 16 bytes in the widest type that the block computes with (for floats, at least float32), and
    fewer where they would not be neighbours in every tensor, or would leave multiprocessors idle.
    """
    b = sch.get(block)
    types = [tvm.DataType(r.source.dtype) for r in (*b.reads, *b.writes)]
    if any(t == "bool" for t in types) or len(b.writes) != 1 or not b.iter_vars:
        return 1
    count = elements(sch, block)
    in_place = all(_same_place(r, b) for r in b.reads)
    widest = max(max(int(t.bits), 32 if "float" in str(t) else 0) for t in types)
    lanes = max(1, VECTOR_BYTES * 8 // widest)
    while lanes > 1:
        together = (
            count % lanes == 0 if in_place else all(_together(r, b.iter_vars[-1], lanes) for r in (*b.reads, *b.writes))
        )
        if together and count // lanes >= gpu.sms * gpu.warp:
            break
        lanes //= 2
    return int(lanes)


def _together(access: Any, axis: Any, lanes: int) -> bool:
    """Whether each ``lanes`` neighbours along an axis are one vector of a tensor, or one and the same element."""
    shape = [int(n) for n in access.source.shape]
    *outer, last = [r.min for r, n in zip(access.region, shape, strict=True) if n > 1] or [0]
    if any(_depends(i, axis.var) for i in outer):
        return False
    if not _depends(last, axis.var):
        return True
    offset = tvm.sym.Analyzer().simplify(last - axis.var)
    whole = next(n for n in reversed(shape) if n > 1) % lanes == 0 and int(axis.dom.extent) % lanes == 0
    return whole and isinstance(offset, tirx.IntImm) and int(offset) % lanes == 0


def _depends(expr: Any, var: Any) -> bool:
    found: list[Any] = []
    if not isinstance(expr, int):
        tvm_ffi.structural_walk(expr, (tirx.Var, found.append), order="post")
    return any(v.same_as(var) for v in found)


def _same_place(read: Any, block: Any) -> bool:
    """Whether a block reads a tensor at the same index that it writes."""
    written = block.writes[0]
    return (
        len(read.region) == len(written.region)
        and all(tvm_ffi.structural_equal(a, b) for a, b in zip(read.region, written.region, strict=True))
        and tuple(map(int, read.source.shape)) == tuple(map(int, written.source.shape))
    )


def with_threads(sch: Any, *, distinct: bool = False) -> Any:
    """The schedule with each parallel loop of its opaque blocks, such as a scatter, made a kernel.

    ``distinct`` says that no two iterations of any of those loops write the same element: then a serial loop inside a
    parallel loop of a single iteration is shared out too.
    """

    def visit(realize: Any) -> Any:
        block = realize.block
        if block.iter_vars or block.name_hint == "root" or isinstance(block.body, tirx.BufferStore):
            return realize
        body = block.body.body if isinstance(block.body, tirx.AttrStmt) else block.body
        parts = body.seq if isinstance(body, tirx.SeqStmt) else [body]
        parts = [s_tir.SBlock([], [], [], f"{block.name_hint}_{i}", _threads(p, distinct)) for i, p in enumerate(parts)]
        made = [s_tir.SBlockRealize([], True, part) for part in parts]
        return made[0] if len(made) == 1 else tirx.SeqStmt(made)

    func = sch.mod["main"]
    body = tvm_ffi.structural_map(func.body, (s_tir.SBlockRealize, visit))
    if body.same_as(func.body):
        return sch
    return Schedule(func.with_body(body))


def _threads(loop: Any, distinct: bool) -> Any:
    """A parallel loop as a loop over thread blocks and threads."""
    count = int(loop.extent)
    if distinct and count == 1 and isinstance(loop.body, tirx.For):
        body = tvm_ffi.structural_map(loop.body, (tirx.Var, lambda v: loop.min if v.same_as(loop.loop_var) else v))
        return _threads(body, distinct)
    threads = min(count, THREADS)
    block, thread = tirx.Var("b", "int32"), tirx.Var("t", "int32")
    at = block * threads + thread
    body = tvm_ffi.structural_map(loop.body, (tirx.Var, lambda v: at if v.same_as(loop.loop_var) else v))
    if count % threads:
        body = tirx.IfThenElse(at < count, body, None)
    for var, size, tag in ((thread, threads, "threadIdx.x"), (block, -(-count // threads), "blockIdx.x")):
        axis = tirx.IterVar(None, tirx.Var("", "int32"), tirx.IterVar.ThreadIndex, tag)
        body = tirx.For(var, tirx.const(0, "int32"), tirx.const(size, "int32"), tirx.ForKind.THREAD_BINDING, body, axis)
    return body
