"""Lowering of scheduled kernels to one LLVM module.

Each kernel becomes a subroutine that takes pointers. Exported functions call the subroutines. An exported function is a
C function of two addresses: that of its arguments, and that of the *context* of the call. The context is an array of
64-bit integers, which ``abi.CONTEXT`` names. The module refers to no symbol of TVM.

The kernel passes its parallel loops to the thread pool of the process through the context (``parallel.py``). All memory
of a kernel comes from its caller: its scratch memory, and a piece for each thread that works on a part of a loop.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

import tvm
import tvm_ffi
from tvm import s_tir, tirx
from tvm.ir import GlobalVar, PointerType, PrimType

from convc.ir.errors import CompileError

from ..flatten import flatten_buffers
from ..guards import body_pass, keep_guards
from ..intrinsics import BYTES, used
from ..network import MAX_ELEMENTS
from ..zero_bits import zero_bits
from . import byte_math
from .abi import ADDRESS_DEFINITION, CONTEXT, DONE, READ_DEFINITION, STATUS, address_of, importing, read
from .parallel import ParallelLoops, take_memory
from .target import Target
from .vector_math import definitions

_BARRIER = "convc_barrier"
_BARRIER_DEFINITION = f"""define void @{_BARRIER}() alwaysinline nounwind {{
  call void asm sideeffect "", "~{{memory}}"()
  ret void
}}"""
"""A compiler barrier between kernels, some of which LLVM inlines.

Two tensors may share memory at different times. Type-based alias analysis takes them for separate memory, so that LLVM
would move stores of one kernel before loads of the previous one.
"""
DIRECTORY = "convc_directory"
"""The name under which ``tvm_ffi`` finds the function that returns the addresses of the others."""
_TRACE = "convc_trace"
_TRACE_DEFINITION = f"""define void @{_TRACE}(i64 %context, i64 %index) alwaysinline {{
  %record = inttoptr i64 %context to ptr
  %at = getelementptr i64, ptr %record, i64 {CONTEXT.index("trace")}
  %trace = load ptr, ptr %at
  call void %trace(i64 %index)
  ret void
}}"""
_build = tvm_ffi.get_global_func("target.build.llvm")


@dataclass(frozen=True)
class Subroutine:
    """A lowered kernel ``f(*inputs, *outputs, scratch, context)``, which takes pointers and two addresses.

    ``scratch`` is the size of its scratch memory in bytes. ``part`` is the number of bytes for each thread that works
    on one of its parallel loops.
    """

    name: GlobalVar
    func: Any
    scratch: int
    part: int = 0
    parts: Mapping[str, Any] = field(default_factory=dict)
    """The functions of its parallel loops, by name."""


def _block_passes() -> Any:
    """The passes that turn the blocks of a scheduled kernel into loops and allocations."""
    return tvm.transform.Sequential(
        [
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


def _loop_passes() -> Any:
    """The passes that lower the loops of a kernel: with the former, TVM's pipeline without those for accelerators."""
    return tvm.transform.Sequential(
        [
            flatten_buffers(),
            tirx.transform.BF16ComputeLegalize(),
            tirx.transform.NarrowDataType(32),
            s_tir.transform.LoopPartition(),
            tirx.transform.VectorizeLoop(True),
            tirx.transform.StorageRewrite(),
            s_tir.transform.HoistIfThenElse(),
            tirx.transform.UnrollLoop(),
            s_tir.transform.RenormalizeSplitPattern(),
            tirx.transform.StmtSimplify(),
            tirx.transform.RemoveNoOp(),
            s_tir.transform.RewriteUnsafeSelect(),
            zero_bits(),
        ]
    )


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


def _module_passes() -> Any:
    """The passes that turn subroutines and exported functions into what the code generator takes."""
    return tvm.transform.Sequential(
        [
            tirx.transform.CommonSubexprElim(),  # within a part, whose closure holds no vectors
            body_pass("convc.SpreadBits", lambda body: tvm_ffi.structural_map(body, (tirx.Broadcast, _spread_bits))),
            tirx.transform.BF16StorageLegalize(),
            tirx.transform.LowerIntrin(),
        ]
    )


def lower(kernels: Mapping[str, Any], target: Target, nodes: Mapping[str, str] | None = None) -> dict[str, Subroutine]:
    """Lower scheduled functions, given by name, to subroutines.

    ``nodes`` says which node each computes, for errors. Raises ``CompileError`` for one that needs a tensor of more
    elements than code can index.
    """
    host = target.tvm.with_host(target.tvm)
    module = tirx.transform.BindTarget(host)(tvm.IRModule(dict(kernels)))
    module = _block_passes()(module)
    for name in kernels:
        most = max(_allocated(module[name].body), default=0)
        if most > MAX_ELEMENTS:
            raise CompileError(
                f"{(nodes or {}).get(name, name)} needs {most} elements of working memory at once, and code indexes at "
                f"most {MAX_ELEMENTS}: give it smaller data"
            )
    module = _loop_passes()(module)
    return {name: _subroutine(GlobalVar(name), module[name]) for name in kernels}


def _allocated(body: Any) -> list[int]:
    """The numbers of elements of the tensors that a statement allocates, in integers that do not overflow."""
    found: list[int] = []
    tvm_ffi.structural_walk(
        body, (tirx.AllocBuffer, lambda s: found.append(prod(int(n) for n in s.buffer.shape))), order="pre"
    )
    return found


def _subroutine(name: GlobalVar, func: Any) -> Subroutine:
    """The function as a subroutine.

    Tensors become pointers, allocations use ``scratch``, and parallel loops run on the pool.
    """
    pointers = [tirx.Var(p.name, PointerType(PrimType(p.dtype))) for p in func.params]
    scratch, context = tirx.Var("scratch", "int64"), tirx.Var("context", "int64")
    declared: list[Any] = [tirx.DeclBuffer(p, data=q) for p, q in zip(func.params, pointers, strict=True)]
    loops = ParallelLoops(name.name_hint, context)
    body, size = take_memory(loops.handed_out(func.body), scratch)
    body, closures = loops.with_closures(body, scratch, size)
    names = used(func.body)
    if bytes_too := [name for name in names if name in BYTES]:
        body = importing(byte_math.definitions(), body)
    if floats := [name for name in names if name not in bytes_too]:
        body = importing(definitions(floats), body)
    made = tirx.PrimFunc(
        [*pointers, scratch, context], tirx.SeqStmt([*declared, body, DONE]), ret_type=STATUS, attrs=func.attrs
    )
    return Subroutine(name, made, size + closures, loops.part, loops.parts)


PIECE = 512
"""How many arguments the calls in one function have together, at most, where it makes several. LLVM inlines small
kernels, and takes much longer for a large function than for several small ones.
"""


def exported(
    name: str, count: int, calls: Callable[[Sequence[Any], Any], Sequence[Any]], trace: bool = False
) -> dict[str, Any]:
    """The exported C function ``name(arguments, context)`` that makes calls in turn, and the functions that make some
    of the calls for it where there are many, by name.

    ``arguments`` is the address of an array of ``count`` addresses. ``calls`` makes the call expressions from these
    addresses and the context. With ``trace``, the function also calls the trace function of the context, with the index
    of each call before it, and with their number at the end.
    """
    arguments, context = tirx.Var("arguments", "int64"), tirx.Var("context", "int64")

    def function(name: str, body: Sequence[Any]) -> Any:
        stmt = importing(READ_DEFINITION, importing(_BARRIER_DEFINITION, _sequence([*body, DONE])))
        stmt = importing(_TRACE_DEFINITION, stmt) if trace else stmt
        return tirx.PrimFunc([arguments, context], stmt, ret_type=STATUS).with_attr("global_symbol", name)

    # each address is read where it is used: thousands of variables in one function take LLVM long
    made = calls([read(arguments, i) for i in range(count)], context)
    pieces: list[list[Any]] = [[]]
    size = 0
    for i, call in enumerate(made):
        size += len(call.args)
        if pieces[-1] and size > PIECE:
            pieces.append([])
            size = len(call.args)
        pieces[-1].append(_step(call, [_mark(context, i)] if trace else []))
    end = [_mark(context, len(made))] if trace else []
    if len(pieces) == 1:
        return {name: function(name, [*pieces[0], *end])}
    parts = {f"{name}_{i}": function(f"{name}_{i}", piece) for i, piece in enumerate(pieces)}
    steps = [_step(tirx.call_extern("int32", part, arguments, context)) for part in parts]
    return {name: function(name, [*steps, *end])} | parts


def _step(call: Any, before: Sequence[Any] = ()) -> Any:
    """The statement that makes a call, followed by a barrier."""
    return tirx.SeqStmt([*before, tirx.Evaluate(call), tirx.Evaluate(tirx.call_extern("void", _BARRIER))])


def repeated(
    name: str, dtypes: Sequence[str], steps: int, calls: Callable[..., Sequence[Any]], scratch: int, part: int
) -> Subroutine:
    """The subroutine that makes calls in turn, again in each of ``steps`` steps.

    Its tensors have these dtypes. ``calls(arguments, scratch, context, step)`` makes the call expressions from the
    addresses of the tensors and of the scratch memory, the context, and the number of the step. ``scratch`` and
    ``part`` are as in ``Subroutine``.
    """
    pointers = [tirx.Var(f"tensor{i}", PointerType(PrimType(dtype))) for i, dtype in enumerate(dtypes)]
    arguments = [tirx.Var(f"argument{i}", "int64") for i in range(len(dtypes))]
    base, context, step = (tirx.Var(n, "int64") for n in ("scratch", "context", "step"))
    binds = [tirx.Bind(a, address_of(p)) for a, p in zip(arguments, pointers, strict=True)]
    body = [_step(made) for made in calls(arguments, base, context, step)]
    first, count = tirx.const(0, "int64"), tirx.const(steps, "int64")
    loop = tirx.For(step, first, count, tirx.ForKind.SERIAL, tirx.SeqStmt(body))
    stmt = importing(ADDRESS_DEFINITION, importing(_BARRIER_DEFINITION, tirx.SeqStmt([*binds, loop, DONE])))
    func = tirx.PrimFunc([*pointers, base, context], stmt, ret_type=STATUS)
    return Subroutine(GlobalVar(name), func, scratch, part)


def _sequence(statements: Sequence[Any]) -> Any:
    """The statements in sequence. A single one is none: a network whose results have no elements makes no calls."""
    return tirx.SeqStmt(list(statements)) if len(statements) > 1 else statements[0]


def directory(functions: Sequence[str]) -> Any:
    """The function that returns the address of each exported function by its number, for code that is not linked yet.

    It follows the calling convention of ``tvm_ffi`` (``TVMFFISafeCallType``). The value of the argument lies 8 bytes
    behind ``arguments``. The result is a type (1, an integer) with the value 8 bytes behind it.
    """
    table = ", ".join(f"ptr @{name}" for name in functions)
    text = "\n".join(f"declare i32 @{name}(i64, i64)" for name in functions)
    text += f"""
@convc_table = private unnamed_addr constant [{len(functions)} x ptr] [{table}]
define void @convc_look_up(i64 %arguments, i64 %result) alwaysinline {{
  %first = inttoptr i64 %arguments to ptr
  %at_number = getelementptr i8, ptr %first, i64 8
  %number = load i64, ptr %at_number
  %at = getelementptr ptr, ptr @convc_table, i64 %number
  %address = load i64, ptr %at
  %kind = inttoptr i64 %result to ptr
  store i32 1, ptr %kind
  %value = getelementptr i8, ptr %kind, i64 8
  store i64 %address, ptr %value
  ret void
}}"""
    params = [
        tirx.Var(n, t) for n, t in (("self", "int64"), ("arguments", "int64"), ("count", "int32"), ("result", "int64"))
    ]
    look_up = tirx.Evaluate(tirx.call_extern("void", "convc_look_up", params[1], params[3]))
    return tirx.PrimFunc(params, importing(text, tirx.SeqStmt([look_up, DONE])), ret_type=STATUS)


def _mark(context: Any, index: int) -> Any:
    return tirx.Evaluate(tirx.call_extern("void", _TRACE, context, tirx.const(index, "int64")))


def call(subroutine: Subroutine, pointers: Sequence[Any], scratch: Any, context: Any) -> Any:
    """The expression that calls a subroutine."""
    return tvm.ir.Call(subroutine.name, [*pointers, scratch, context], ret_ty="int32")


def generate(subroutines: Sequence[Subroutine], functions: Mapping[str, Any], target: Target) -> Any:
    """Generate a module of machine code that exports the functions."""
    host = target.tvm.with_host(target.tvm)
    made = {s.name: s.func for s in subroutines} | {GlobalVar(n): f for n, f in functions.items()}
    made[GlobalVar(DIRECTORY)] = directory(list(functions)).with_attr("global_symbol", f"__tvm_ffi_{DIRECTORY}")
    for s in subroutines:
        made |= {GlobalVar(n): f.with_attr("global_symbol", n) for n, f in s.parts.items()}
    return _build(_module_passes()(tirx.transform.BindTarget(host)(tvm.IRModule(made))), host)
