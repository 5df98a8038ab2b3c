"""Parallel loops of kernels.

The body of a loop becomes a function of its own, a *part*, which the thread pool calls for ranges of the loop.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tvm
import tvm_ffi
from tvm import tirx
from tvm.ir import PrimType

from convc.ir.errors import CompileError
from convc.ir.sizes import Dim, Size, largest, product
from convc.runtime.offsets import aligned

from ..extents import Variables, size_of
from .abi import (
    ADDRESS_DEFINITION,
    CONTEXT,
    DONE,
    READ_DEFINITION,
    STATUS,
    address_of,
    importing,
    pointer,
    pointer_to,
    read,
)


class ParallelLoops:
    """The parallel loops of one kernel. Each becomes a function that a thread calls for a range of the loop."""

    def __init__(self, kernel: str, context: Any, extents: Variables) -> None:
        self.kernel = kernel
        self.context = context
        self.extents = extents
        self.parts: dict[str, Any] = {}
        self.part: Dim = 0
        """The number of bytes that a thread needs while it works on a part."""
        self.most = 0
        """The number of values in the largest closure."""
        self.closure = tirx.decl_buffer((0,), "int64", "closure")

    def handed_out(self, body: Any) -> Any:
        """The statement with its parallel loops launched on the pool."""
        return tvm_ffi.structural_map(body, (tirx.For, self._visit))

    def with_closures(self, body: Any, scratch: Any, at: Dim) -> tuple[Any, int]:
        """The statement with memory for closures, and the size of that memory in bytes.

        The memory begins ``at`` bytes after the beginning of the scratch memory.
        """
        if not self.parts:
            return body, 0
        binds: list[Any] = []
        held = tirx.DeclBuffer(self.closure, data=pointer(scratch, place(at, self.extents, binds), "int64"))
        body = importing(READ_DEFINITION, importing(ADDRESS_DEFINITION, tirx.SeqStmt([*binds, held, body])))
        return body, aligned(8 * self.most)

    def _visit(self, loop: Any) -> Any:
        if loop.kind != tirx.ForKind.PARALLEL:
            return loop
        name = f"{self.kernel}_part{len(self.parts)}"
        outer = list(tirx.analysis.undefined_vars(loop, []))
        known = self.extents.variables.values()  # the shapes of tensors name them, where no index does
        outer += [v for v in known if not any(v.same_as(o) for o in outer)]
        values = [read(self.context, CONTEXT.index("parts")), *map(_as_integer, outer)]
        self.parts[name], part = _part(loop, outer, self.extents)
        self.part, self.most = largest(self.part, part), max(self.most, len(values))
        stores = [tirx.BufferStore(self.closure, v, [i]) for i, v in enumerate(values)]
        closure, extent = address_of(self.closure.data), tirx.Cast("int64", loop.extent)
        launch = tirx.Evaluate(tirx.call_extern("void", f"{name}_launch", self.context, closure, extent))
        return importing(_launch_definition(name), tirx.SeqStmt([*stores, launch]))


def _part(loop: Any, outer: Sequence[Any], extents: Variables) -> tuple[Any, Dim]:
    """The function ``f(closure, begin, end, worker)`` that runs a range of a loop.

    It is returned with the bytes of memory that each worker needs. The closure holds the address of the memory of all
    workers, and then the outer variables of the loop.
    """
    closure, begin, end, worker = params = [tirx.Var(n, "int64") for n in ("closure", "begin", "end", "worker")]
    memory = tirx.Var("memory", "int64")
    body, size = take_memory(loop.body, memory, extents)
    # TVM must know that the range lies in the loop's: for unknown indices its simplifier makes literals that overflow
    first, count = (
        tirx.min(tirx.max(tirx.Cast(str(loop.loop_var.ty.dtype), n), 0), loop.extent) for n in (begin, end - begin)
    )
    first = loop.min + first
    inner = tirx.For(loop.loop_var, first, count, tirx.ForKind.SERIAL, body, None, loop.annotations)
    bound: list[tuple[Any, Any]] = []
    declared: list[Any] = []
    for i, v in enumerate(outer, 1):
        if is_scalar(v):
            bound.append((v, _from_integer(read(closure, i), str(v.ty.dtype))))
        else:
            declared.append(tirx.DeclBuffer(v, data=pointer_to(read(closure, i), v.dtype)))
    if isinstance(size, Size) or size:
        bound.append((memory, read(closure, 0) + worker * extents.wide().of(size)))
    binds = [tirx.Bind(v, value) for v, value in bound]
    body = importing(READ_DEFINITION, tirx.SeqStmt([*binds, *declared, inner, DONE]))
    return tirx.PrimFunc(params, body, ret_type=STATUS), size


def _launch_definition(part: str) -> str:
    launch, pool, threads = (CONTEXT.index(name) for name in ("launch", "pool", "threads"))
    return f"""declare i32 @{part}(i64, i64, i64, i64)
define void @{part}_launch(i64 %context, i64 %closure, i64 %extent) alwaysinline {{
  %record = inttoptr i64 %context to ptr
  %at_launch = getelementptr i64, ptr %record, i64 {launch}
  %launch = load ptr, ptr %at_launch
  %at_pool = getelementptr i64, ptr %record, i64 {pool}
  %pool = load ptr, ptr %at_pool
  %at_threads = getelementptr i64, ptr %record, i64 {threads}
  %threads = load i64, ptr %at_threads
  call void %launch(ptr %pool, i64 %threads, ptr @{part}, i64 %closure, i64 %extent)
  ret void
}}"""


def is_scalar(v: Any) -> bool:
    """Whether a variable of TVM is a number, and not a tensor."""
    return isinstance(v.ty, PrimType)


def _as_integer(v: Any) -> Any:
    """A variable as a 64-bit integer: the value of a scalar, or the address of a tensor."""
    if not is_scalar(v):
        return address_of(v.data)
    dtype = tvm.DataType(str(v.ty.dtype))
    if dtype.lanes > 1:
        raise CompileError(f"a parallel loop uses the vector {v}, which no closure holds")
    is_float = str(dtype).startswith(("float", "bfloat"))
    return tirx.Cast("int64", tirx.reinterpret(f"int{dtype.bits}", v) if is_float else v)


def _from_integer(value: Any, dtype: str) -> Any:
    """The scalar that ``_as_integer`` made an integer of."""
    if not dtype.startswith(("float", "bfloat")):
        return tirx.Cast(dtype, value)
    return tirx.reinterpret(dtype, tirx.Cast(f"int{tvm.DataType(dtype).bits}", value))


def take_memory(body: Any, base: Any, extents: Variables) -> tuple[Any, Dim]:
    """The statement with its allocations placed in memory at ``base``, and the bytes that they take."""
    size: Dim = 0
    binds: list[Any] = []
    declared: list[tuple[Any, Any]] = []
    for buffer in allocated(body):
        if buffer.scope() != "global":
            continue
        made = tirx.DeclBuffer(buffer, data=pointer(base, place(size, extents, binds), buffer.dtype))
        declared.append((buffer, made))
        dtype = tvm.DataType(buffer.dtype)
        size = size + aligned(elements(buffer) * -(-dtype.bits * dtype.lanes // 8))

    def visit(s: Any) -> Any:
        return next((made for buffer, made in declared if buffer.same_as(s.buffer)), s)

    body = tvm_ffi.structural_map(body, (tirx.AllocBuffer, visit))
    return tirx.SeqStmt([*binds, body]) if binds else body, size


def place(offset: Dim, extents: Variables, binds: list[Any]) -> Any:
    """An offset as an expression; where it is open, as a variable whose definition is added to ``binds``.

    TVM's elimination of common subexpressions loses the definition of one in the address of a buffer.
    """
    made = extents.wide().of(offset)
    if not isinstance(offset, Size):
        return made
    binds.append(tirx.Bind(tirx.Var("offset", "int64"), made))
    return binds[-1].var


def allocated(body: Any) -> list[Any]:
    """The buffers that a statement allocates."""
    buffers: list[Any] = []
    tvm_ffi.structural_walk(body, (tirx.AllocBuffer, lambda s: buffers.append(s.buffer)), order="pre")
    return buffers


def elements(buffer: Any) -> Dim:
    """The number of elements of a buffer."""
    return product(size_of(n, tirx) for n in buffer.shape)
