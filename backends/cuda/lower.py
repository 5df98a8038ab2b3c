"""Lowering of a scheduled group to CUDA source and kernel launches, without a GPU, a driver or the CUDA toolkit.

TVM's own passes split a function with thread bindings into kernels and host code, which allocates scratch memory and
launches the kernels. That host function is read here, and never run.
"""

from __future__ import annotations

import os
import threading
from math import prod
from typing import Any

import tvm
import tvm_ffi
from tvm import s_tir, tirx
from tvm.ir import GlobalVar

from convc.ir.errors import CompileError
from convc.runtime.offsets import aligned

from ..flatten import flatten_buffers
from ..intrinsics import used
from ..zero_bits import zero_bits
from .device_math import definitions
from .gpu import Gpu
from .launch import DeviceCode, Launch

WARP_BUFFERS = 8
"""The most buffers of warp scope that a kernel may have: TVM's pass lowers one of them each time it runs."""

_DYNAMIC_SHARED = "tirx.use_dyn_shared_memory"
_build = tvm_ffi.get_global_func("target.build.cuda")
_lock = threading.Lock()


def lower(func: Any, gpu: Gpu, name: str) -> DeviceCode:
    """Lower a scheduled function ``func(*inputs, *outputs)`` to device code whose kernels' names begin with ``name``.

    A function of empty tensors launches nothing. Raises ``CompileError`` when some work is bound to no thread.
    """
    target = tvm.target.Target({"kind": "cuda", "arch": gpu.name}, host="llvm")
    main = GlobalVar(name)
    func = func.with_attr("global_symbol", name)
    with target:
        module = _split_passes(gpu)(tirx.transform.BindTarget(target)(tvm.IRModule({main: func})))
    kernels = {gv.name_hint: f for gv, f in module.functions.items() if gv.name_hint != name}
    launches, scratch = _launches(module[name], name)
    launched = {launch.kernel: kernels[launch.kernel] for launch in launches}
    return DeviceCode(_source(launched, target) if launched else "", launches, scratch)


def _split_passes(gpu: Gpu) -> Any:
    """TVM's own pipeline up to the split into kernels and host code, without common subexpression elimination.

    NVRTC does that itself, and TVM's pass gets in the way of lowering warp memory.
    """
    t, s = tirx.transform, s_tir.transform
    return tvm.transform.Sequential(
        [
            s.CanonicalizeLoop(),
            s.LowerCrossThreadReduction(),
            s.LowerInitBlock(),
            s.PlanAndUpdateBufferAllocationLocation(),
            s.ConvertBlocksToOpaque(),
            s.LiftThreadBinding(),
            s.ManifestSharedMemoryLocalStage(),
            s.CompactBufferAllocation(),
            s.LowerAutoCopy(),
            s.UnifyThreadBinding(),
            s.LowerMatchBuffer(),
            s.StmtSimplify(),
            s.InjectPermutedLayout(),
            s.AnnotateIrregularLoop(),
            s.InjectSoftwarePipeline(),
            s.TransformMmaBufferLayout(),
            s.LowerOpaqueBlock(),
            flatten_buffers(),
            t.BF16ComputeLegalize(),
            t.NarrowDataType(32),
            s.LoopPartition(),
            t.VectorizeLoop(True),
            s.InjectVirtualThread(),
            s.InjectDoubleBuffer(),
            t.StorageRewrite(),
            s.HoistIfThenElse(),
            t.UnrollLoop(),
            s.RenormalizeSplitPattern(),
            t.StmtSimplify(),
            t.RemoveNoOp(),
            s.RewriteUnsafeSelect(),
            zero_bits(),
            t.AnnotateEntryFunc(),
            s.ThreadSync("shared"),
            s.ThreadSync("shared.dyn"),
            s.ThreadSync("warp"),
            s.InferFragment(),
            s.LowerThreadAllreduce(),
            *([s.InjectPTXAsyncCopy()] if gpu.has_async_copy else []),
            s.MergeSharedMemoryAllocations(),
            t.SplitHostDevice(),
        ]
    )


def _launches(host: Any, name: str) -> tuple[tuple[Launch, ...], int]:
    """The launches of a host function in order, and the bytes of scratch memory that it allocates for them."""
    places: dict[Any, int] = {p: i for i, p in enumerate(host.params)}
    launches, size = [], 0
    for s in host.body.seq if isinstance(host.body, tirx.SeqStmt) else [host.body]:
        if isinstance(s, tirx.AllocBuffer):
            places[s.buffer] = -1 - size
            size = aligned(size + _bytes(s.buffer))
        elif isinstance(s, tirx.DeclBuffer):
            places[s.buffer] = places[s.data.args[0]]
        elif isinstance(s, tirx.Evaluate) and getattr(getattr(s.value, "op", None), "name", "") == _LAUNCH:
            launches.append(_launch(s.value, places))
        elif not (isinstance(s, tirx.Evaluate) and isinstance(s.value, tvm.ir.IntImm)):
            raise CompileError(f"kernel {name} leaves work to the host, as its schedule binds it to no thread:\n{s}")
    return tuple(launches), size


_LAUNCH = "tirx.call_ffi_kernel"


def _launch(call: Any, places: dict[Any, int]) -> Launch:
    """A launch, from the call of a kernel by name: its buffers, then the extents that ``launch_params`` names."""
    tags = [str(t) for t in call.attrs.launch_params]
    kernel, *arguments = call.args
    split = len(arguments) - len(tags)
    extents = {tag: int(n) for tag, n in zip(tags, arguments[split:], strict=True)}
    grid, block = (
        (extents.get(f"{what}.x", 1), extents.get(f"{what}.y", 1), extents.get(f"{what}.z", 1))
        for what in ("blockIdx", "threadIdx")
    )
    buffers = tuple(places[a.args[0]] for a in arguments[:split])
    return Launch(str(kernel.value), grid, block, extents.get(_DYNAMIC_SHARED, 0), buffers)


def _bytes(buffer: Any) -> int:
    dtype = tvm.DataType(buffer.dtype)
    return prod(int(n) for n in buffer.shape) * -(-int(dtype.bits) * int(dtype.lanes) // 8)


def _source(kernels: dict[str, Any], target: Any) -> str:
    """The CUDA source of the kernels, including the intrinsics that they call."""
    defined = definitions({intrinsic for f in kernels.values() for intrinsic in used(f.body)})
    module = tvm.IRModule({GlobalVar(name): f for name, f in kernels.items()})
    t = tirx.transform
    passes = [t.BF16StorageLegalize(), *([t.LowerWarpMemory()] * WARP_BUFFERS), t.StmtSimplify(), t.LowerIntrin()]
    module = tvm.transform.Sequential(passes)(module)
    for name, f in kernels.items():
        _check_vectors(f, name)
    with _lock:  # all threads of the process share its environment
        before = os.environ.get(_FALLBACK)
        os.environ[_FALLBACK] = "1"
        try:
            return defined + _without_toolkit(str(_build(module, target).inspect_source()))
        finally:
            if before is None:
                del os.environ[_FALLBACK]
            else:
                os.environ[_FALLBACK] = before


def _check_vectors(kernel: Any, name: str) -> None:
    """Raise ``CompileError`` for vectors of bool, which TVM prints as vectors of sixteen bits: twice as long."""
    found = []

    def visit(element: Any) -> None:
        dtype = tvm.DataType(element.ty.dtype)
        if dtype.lanes > 1 and str(dtype).startswith("bool"):
            found.append(element)

    def visit_store(store: Any) -> None:
        visit(store.value)

    tvm_ffi.structural_walk(kernel.body, [(tvm.ir.TensorLoad, visit), (tirx.BufferStore, visit_store)], order="post")
    if found:
        raise CompileError(f"kernel {name} has vectors of bool in memory, which TVM prints wrong: do not vectorise it")


_FALLBACK = "TVM_COMPILE_FORCE_FALLBACK"
"""When this variable is set, TVM prints source instead of looking for a driver and compiling."""


def _supports_bfloat16(_version: str) -> bool:
    """Answer no, so that TVM keeps bfloat16 as bits and computes in float32, which every architecture can."""
    return False


tvm_ffi.register_global_func("tvm.support.nvcc.supports_bf16", _supports_bfloat16, override=True)


def _without_toolkit(source: str) -> str:
    """The source without the toolkit's headers, which no kernel here reads: it compiles in a twentieth of the time."""
    _, cut, rest = source.partition("#include <cuda.h>\n#endif\n")
    if not cut:
        raise CompileError("TVM's CUDA source does not begin as that of the version convc was written for")
    preamble, begin, kernels = rest.replace("#include <mma.h>\n", "").partition('extern "C" __global__')
    vectors = [_gathered(*v) for v in _GATHERED if f"make_{v[0]}(" in kernels]
    return "".join((_TYPES, preamble, *vectors, begin, kernels))


_GATHERED = (
    *((vector, 8) for vector in ("int2", "uint2", "int4", "uint4", "longlong4", "ulonglong4")),
    *((vector, 16) for vector in ("int4", "uint4")),
)
"""The vector types that TVM builds from many scalars, each with the number of those scalars."""


def _gathered(vector: str, count: int) -> str:
    """A ``make_`` function that builds a vector from scalars, where CUDA's own takes whole words."""
    names = [f"x{i}" for i in range(count)]
    return (
        f"template <typename T> static __device__ __forceinline__ {vector} make_{vector}"
        f"({', '.join(f'T {x}' for x in names)}) {{\n"
        f"  alignas({vector}) T all[] = {{{', '.join(names)}}};\n  return *({vector}*)all;\n}}\n"
    )


_TYPES = """#ifdef __CUDACC_RTC__
typedef signed char int8_t;
typedef unsigned char uint8_t;
typedef short int16_t;
typedef unsigned short uint16_t;
typedef int int32_t;
typedef unsigned int uint32_t;
typedef long long int64_t;
typedef unsigned long long uint64_t;
#define __asm__ asm
#define __volatile__ volatile
#else
#include <cstdint>
#endif
"""
"""Replaces <cstdint> and the rest of the preamble of TVM's source: headers that NVRTC does not bring with it."""
