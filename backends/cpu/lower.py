"""Lowering of scheduled kernels to LLVM modules, one for each.

A kernel is a C function of two addresses: that of its arguments, and that of the *context* of the call. The arguments
are the addresses of the tensors that it reads and writes, and of scratch memory. The context is an array of 64-bit
integers, which ``abi.CONTEXT`` names. The module refers to no symbol of TVM.

The kernel passes its parallel loops to the thread pool of the process through the context (``parallel.py``). All memory
of a kernel comes from its caller: its scratch memory, and a piece for each thread that works on a part of a loop.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import tvm
import tvm_ffi
from tvm import s_tir, tirx
from tvm.ir import GlobalVar, PointerType, PrimType

from convc.ir.errors import CompileError
from convc.ir.sizes import Dim
from convc.runtime.offsets import MAX_ELEMENTS

from ..extents import Variables
from ..flatten import flatten_buffers
from ..guards import body_pass, found, keep_guards
from ..intrinsics import BYTES, used
from ..overflow import wrap_data
from ..zero_bits import zero_bits
from . import byte_math
from .abi import DONE, READ_DEFINITION, STATUS, importing, pointer_to, read
from .chunks import sum_chunks
from .overlap import cost_of, needs_of, overlap_tiles
from .parallel import ParallelLoops, allocated, elements, is_scalar, take_memory
from .strips import strip_mine
from .target import Target
from .unroll import add_steps_last
from .vector_math import definitions

_build = tvm_ffi.get_global_func("target.build.llvm")


@dataclass(frozen=True)
class Lowered:
    """A lowered kernel: the functions of its module by name, the first of which is the one to call.

    ``scratch`` is the size of its scratch memory in bytes. ``part`` is the number of bytes for each thread that works
    on one of its parallel loops, and ``parallel`` tells whether it has any. Of its extents it ``needs`` sizes with the
    least value of each, and ``cost`` compares it with other kernels of its group.
    """

    functions: Mapping[GlobalVar, Any]
    scratch: Dim
    part: Dim
    parallel: bool
    needs: Sequence[tuple[Dim, int]]
    cost: Dim
    is_open: bool
    """Whether it takes extents."""


def _block_passes() -> Any:
    """The passes that turn the blocks of a scheduled kernel into loops and allocations."""
    return tvm.transform.Sequential(
        [
            wrap_data(),
            keep_guards(),
            s_tir.transform.CanonicalizeLoop(),
            s_tir.transform.LowerInitBlock(),
            s_tir.transform.PlanAndUpdateBufferAllocationLocation(),
            s_tir.transform.ConvertBlocksToOpaque(),
            s_tir.transform.CompactBufferAllocation(),
            s_tir.transform.LowerMatchBuffer(),
            s_tir.transform.StmtSimplify(),
            s_tir.transform.LowerOpaqueBlock(),
            body_pass("convc.NoScopes", _without_scopes),
        ]
    )


def open_pass() -> Any:
    """The pass that makes the last tile along each open axis end where the axis does, vectors along such axes, and
    chunks of long sums.
    """

    def lowered(func: Any, *_: Any) -> Any:
        return sum_chunks(strip_mine(overlap_tiles(func)))

    return tirx.transform.prim_func_pass(lowered, opt_level=0, name="convc.OpenExtents")


def _flat_passes() -> Any:
    """The passes that make tensors flat, and vectors of loops."""
    return tvm.transform.Sequential(
        [
            flatten_buffers(),
            tirx.transform.BF16ComputeLegalize(),
            tirx.transform.NarrowDataType(32),
            s_tir.transform.LoopPartition(),
            tirx.transform.VectorizeLoop(True),
            tirx.transform.StorageRewrite(),
        ]
    )


def _loop_passes(func: Any) -> Any:
    """The passes that then lower the loops of a kernel: with the former, TVM's pipeline without those for accelerators.

    With open extents, and where nothing is decided by the index of an unrolled loop, loops are unrolled when all is
    simple, so that TVM simplifies their bodies once and not once for each step. LLVM adds up the constants.
    """
    hoist = [s_tir.transform.HoistIfThenElse()] if found(func.body, tirx.IfThenElse) else []
    unroll = [body_pass("convc.AddStepsLast", add_steps_last), tirx.transform.UnrollLoop()]
    once = any(map(is_scalar, func.params)) and not _is_decided_by_step(func.body)
    first, last = ([], unroll) if once else (unroll, [])
    return tvm.transform.Sequential(
        [
            *hoist,
            *first,
            s_tir.transform.RenormalizeSplitPattern(),
            tirx.transform.StmtSimplify(),
            tirx.transform.RemoveNoOp(),
            *last,
            s_tir.transform.RewriteUnsafeSelect(),
            zero_bits(),
        ]
    )


def _is_decided_by_step(body: Any) -> bool:
    """Whether a statement has a condition on the index of an unrolled loop."""
    steps = [loop.loop_var for loop in found(body, tirx.For) if loop.kind == tirx.ForKind.UNROLLED]
    tests = [e.condition for e in found(body, (tirx.Select, tirx.IfThenElse))]
    tests += [c.args[0] for c in found(body, tvm.ir.Call) if getattr(c.op, "name", "").endswith("if_then_else")]
    used = {v for test in tests for v in found(test, tirx.Var)}
    return any(step in used for step in steps)


def _without_scopes(body: Any) -> Any:
    """The body without the marks of TVM's script builder around sequences of statements.

    Its LLVM generator knows no such mark, and prints a warning about each.
    """

    def visit(mark: Any) -> Any:
        return mark.body if mark.attr_key == "pragma_scope" else mark

    return tvm_ffi.structural_map(body, (tirx.AttrStmt, visit))


def _spread_bits(vector: Any) -> Any:
    """A bfloat16 in all lanes of a vector as its bits in all lanes, which is the form that TVM's legalization knows."""
    if vector.ty.dtype.split("x")[0] != "bfloat16":
        return vector
    bits = tirx.Broadcast(tirx.reinterpret("uint16", vector.value), vector.lanes)
    return tirx.reinterpret(str(vector.ty.dtype), bits)


def _module_passes(is_open: bool) -> Any:
    """The passes that turn subroutines and exported functions into what the code generator takes.

    In kernels of open extents, LLVM finds common subexpressions by itself, in less time and to smaller code.
    """
    common = [] if is_open else [tirx.transform.CommonSubexprElim()]  # within a part, whose closure holds no vectors
    return tvm.transform.Sequential(
        [
            *common,
            body_pass("convc.SpreadBits", lambda body: tvm_ffi.structural_map(body, (tirx.Broadcast, _spread_bits))),
            tirx.transform.BF16StorageLegalize(),
            tirx.transform.LowerIntrin(),
        ]
    )


def lower(func: Any, symbol: str, target: Target) -> Lowered:
    """Lower a scheduled function to the C function ``symbol(arguments, context)``.

    Raises ``CompileError`` when it needs a tensor of more elements than code can index.
    """
    host = target.tvm.with_host(target.tvm)
    module = tirx.transform.BindTarget(host)(tvm.IRModule({symbol: func}))
    module = _block_passes()(module)
    module = open_pass()(module)
    sizes = map(elements, allocated(module[symbol].body))
    most = max((size for size in sizes if isinstance(size, int)), default=0)
    if most > MAX_ELEMENTS:
        raise CompileError(
            f"needs {most} elements of working memory at once, and code indexes at most {MAX_ELEMENTS}: give it "
            "smaller data"
        )
    module = _flat_passes()(module)
    module = _loop_passes(module[symbol])(module)
    return _functions(symbol, module[symbol], needs_of(func), cost_of(func))


def _functions(symbol: str, func: Any, needs: Sequence[tuple[Dim, int]], cost: Dim) -> Lowered:
    """The function as functions of C.

    A subroutine takes tensors as pointers, of which it may assume that they are apart. The exported function reads them
    from memory. Allocations use the scratch memory, and parallel loops run on the pool.
    """
    tensors = [p for p in func.params if not is_scalar(p)]
    extents = Variables(tirx, {p.name: p for p in func.params if is_scalar(p)})
    pointers = [tirx.Var(p.name, PointerType(PrimType(p.dtype))) for p in tensors]
    scratch, context = tirx.Var("scratch", "int64"), tirx.Var("context", "int64")
    declared: list[Any] = [tirx.DeclBuffer(p, data=q) for p, q in zip(tensors, pointers, strict=True)]
    loops = ParallelLoops(symbol, context, extents)
    body, size = take_memory(loops.handed_out(func.body), scratch, extents)
    body, closures = loops.with_closures(body, scratch, size)
    names = used(func.body)
    if bytes_too := [name for name in names if name in BYTES]:
        body = importing(byte_math.definitions(), body)
    if floats := [name for name in names if name not in bytes_too]:
        body = importing(definitions(floats), body)
    subroutine = tirx.PrimFunc(
        [*pointers, scratch, *extents.variables.values(), context],
        tirx.SeqStmt([*declared, body, DONE]),
        ret_type=STATUS,
        attrs=func.attrs,
    )
    functions = {GlobalVar(n): f.with_attr("global_symbol", n) for n, f in loops.parts.items()}
    inner = GlobalVar(f"{symbol}_body")
    exported = _exported(symbol, inner, [p.dtype for p in tensors], len(extents.variables))
    return Lowered(
        {GlobalVar(symbol): exported, inner: subroutine} | functions,
        size + closures,
        loops.part,
        bool(functions),
        needs,
        cost,
        bool(extents.variables),
    )


def _exported(symbol: str, inner: GlobalVar, dtypes: Sequence[str], extents: int) -> Any:
    """The C function that calls a subroutine with what it reads: addresses of tensors and scratch memory, extents."""
    arguments, context = tirx.Var("arguments", "int64"), tirx.Var("context", "int64")
    pointers = [pointer_to(read(arguments, i), dtype) for i, dtype in enumerate(dtypes)]
    numbers = [tirx.Cast("int32", read(arguments, len(dtypes) + 1 + i)) for i in range(extents)]
    call = tvm.ir.Call(inner, [*pointers, read(arguments, len(dtypes)), *numbers, context], ret_ty="int32")
    body = importing(READ_DEFINITION, tirx.SeqStmt([tirx.Evaluate(call), DONE]))
    return tirx.PrimFunc([arguments, context], body, ret_type=STATUS).with_attr("global_symbol", symbol)


def generate(lowered: Lowered, target: Target) -> Any:
    """Generate the module of machine code of a kernel. This needs no lock of Python for most of its time."""
    host = target.tvm.with_host(target.tvm)
    module = tirx.transform.BindTarget(host)(tvm.IRModule(dict(lowered.functions)))
    return _build(_module_passes(lowered.is_open)(module), host)
