"""From scheduled kernels to one LLVM module: kernels become plain subroutines that take pointers, called by exported functions.

A kernel called this way costs a jump: no checks of its arguments, no tensor objects. Addresses come in as integers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import tvm
import tvm_ffi
from tvm import s_tir, tirx
from tvm.ir import GlobalVar, PointerType, PrimType

from ..flatten import flatten_buffers
from ..guards import keep_guards
from ..intrinsics import BYTES, used
from ..memory import aligned
from . import byte_math
from .target import Target
from .vector_math import definitions

_STATUS = PrimType("int32")
_BARRIER = "convc_barrier"
_BARRIER_DEFINITION = f"""define void @{_BARRIER}() alwaysinline nounwind {{
  call void asm sideeffect "", "~{{memory}}"()
  ret void
}}"""
"""Stands between kernels, which LLVM inlines where they are small: tensors that take turns in one piece of memory are told
apart by type-based alias analysis, so that it would move the stores of one kernel before the loads of the last.
"""
_build = tvm_ffi.get_global_func("target.build.llvm")


@dataclass(frozen=True)
class Subroutine:
    """A lowered kernel ``f(*inputs, *outputs, scratch) -> status`` of pointers, and how much scratch memory it needs."""

    name: GlobalVar
    func: Any
    scratch: int


def _kernel_passes() -> Any:
    """What TVM's own pipeline does to a scheduled kernel, less what only accelerators need."""
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
            tirx.transform.CommonSubexprElim(),
        ]
    )


def _module_passes() -> Any:
    """From subroutines and exported functions to what the code generator takes."""
    return tvm.transform.Sequential(
        [
            tirx.transform.MakePackedAPI(),
            tirx.transform.BF16StorageLegalize(),
            tirx.transform.LowerTVMBuiltin(),
            tirx.transform.LowerIntrin(),
        ]
    )


def lower(kernels: Mapping[str, Any], target: Target) -> dict[str, Subroutine]:
    """Scheduled functions, by name, as subroutines."""
    host = target.tvm.with_host(target.tvm)
    module = tirx.transform.BindTarget(host)(tvm.IRModule(dict(kernels)))
    module = _kernel_passes()(module)
    return {name: _subroutine(GlobalVar(name), module[name]) for name in kernels}


def _subroutine(name: GlobalVar, func: Any) -> Subroutine:
    """The function with pointers for tensors, and what it allocates at its top taken from ``scratch`` instead."""
    pointers = [tirx.Var(p.name, PointerType(PrimType(p.dtype))) for p in func.params]
    scratch = tirx.Var("scratch", "int64")
    declared: list[Any] = [tirx.DeclBuffer(p, data=q) for p, q in zip(func.params, pointers, strict=True)]
    body, size = _take_scratch(func.body, scratch)
    for key, value in (("device_id", 0), ("device_type", tvm.cpu().dlpack_device_type())):
        body = tirx.AttrStmt(tvm.ir.StringImm("default"), key, tirx.const(value, "int32"), body)  # where to allocate
    names = used(body)
    if bytes_too := [name for name in names if name in BYTES]:
        body = _importing(byte_math.definitions(), body)
    if floats := [name for name in names if name not in bytes_too]:
        body = _importing(definitions(floats), body)
    body = tirx.SeqStmt([*declared, body, tirx.Return(tirx.const(0, "int32"))])
    made = tirx.PrimFunc([*pointers, scratch], body, ret_type=_STATUS, attrs=func.attrs)
    return Subroutine(name, made, size)


def _take_scratch(body: Any, scratch: Any) -> tuple[Any, int]:
    """The statement with its outermost allocations made views of ``scratch``, and the bytes they take."""
    if isinstance(body, tirx.AttrStmt):
        inner, size = _take_scratch(body.body, scratch)
        return tirx.AttrStmt(body.node, body.attr_key, body.value, inner), size
    if not isinstance(body, tirx.SeqStmt):
        return body, 0
    size, seq = 0, []
    for s in body.seq:
        if isinstance(s, tirx.AllocBuffer) and s.buffer.scope() == "global":
            dtype = tvm.DataType(s.buffer.dtype)
            seq.append(tirx.DeclBuffer(s.buffer, data=pointer(scratch, size, s.buffer.dtype)))
            nbytes = prod(int(n) for n in s.buffer.shape) * -(-dtype.bits * dtype.lanes // 8)
            size = aligned(size + nbytes)
        else:
            seq.append(s)
    return tirx.SeqStmt(seq), size


def pointer(base: Any, offset: int, dtype: str = "void") -> Any:
    """The pointer to ``offset`` bytes after an address."""
    return tirx.reinterpret(PointerType(PrimType(dtype)), base + tirx.const(offset, "int64"))


def exported(name: str, params: Sequence[Any], calls: Sequence[Any], trace: str = "") -> Any:
    """A function that makes the calls in turn and returns 0, or -1 as soon as one fails.

    With ``trace``, the global function of that name is called before each with its index, and at the end.
    """
    failed = tirx.Return(tirx.const(-1, "int32"))
    body = []
    for call in calls:
        body += [tirx.IfThenElse(call != 0, failed, None), tirx.Evaluate(tirx.call_extern("void", _BARRIER))]
    if trace:
        marks = [tirx.Evaluate(tirx.call_packed(trace, i)) for i in range(len(calls) + 1)]
        body = [s for i, mark in enumerate(marks) for s in (mark, *body[2 * i : 2 * i + 2])]
    body.append(tirx.Return(tirx.const(0, "int32")))
    func = tirx.PrimFunc(list(params), _importing(_BARRIER_DEFINITION, tirx.SeqStmt(body)), ret_type=_STATUS)
    return func.with_attr("global_symbol", name)


def _importing(text: str, body: Any) -> Any:
    """The statement, with functions given as LLVM IR for it to call."""
    return tirx.AttrStmt(tvm.ir.StringImm("default"), "pragma_import_llvm", tvm.ir.StringImm(text), body)


def call(subroutine: Subroutine, pointers: Sequence[Any], scratch: Any) -> Any:
    """The expression that calls a subroutine; it gives 0 when all went well."""
    return tvm.ir.Call(subroutine.name, [*pointers, scratch], ret_ty="int32")


def generate(subroutines: Sequence[Subroutine], functions: Mapping[str, Any], target: Target) -> Any:
    """Machine code: a module with the exported functions."""
    host = target.tvm.with_host(target.tvm)
    module = tvm.IRModule({s.name: s.func for s in subroutines} | {GlobalVar(n): f for n, f in functions.items()})
    return _build(_module_passes()(tirx.transform.BindTarget(host)(module)), host)
