"""Tensor intrinsics for the warp-level matrix instructions of tensor cores, on fragments of 16x16 sums.

A fragment is a buffer of scope ``warp``, ``[32 lanes, registers]``. Which element a register of a lane holds is defined
by the PTX ISA ("Matrix fragments for mma.m16n8k16", ".m16n8k8"); sums of 16x16 are two results of 16x8 side by side.
TVM matches the description of an intrinsic by how it indexes, so the same maps are used in the schedule
(``transform_layout``) and here. The description of the right factor in half precision uses an order of its own:
``ldmatrix`` puts the elements where ``mma`` expects them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

from tvm.backend.cuda.op import cuda_func_call
from tvm.s_tir import TensorIntrin
from tvm.script import tirx as T

from .product_blocks import SHARED

TILE = 16
"""Rows and columns of a fragment of sums."""
Map = Callable[[Any, Any], tuple[Any, Any]]
"""A function from a row and a column to a lane and a register."""

_ROUND = """__device__ __forceinline__ float convc_tf32(float x) {
  unsigned int y;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(y) : "f"(x));
  return __uint_as_float(y);
}
"""
"""CUDA source that rounds a float32 to TF32, to nearest with ties away from zero."""


@dataclass(frozen=True)
class Fragments:
    """The layouts of fragments as maps from (row, column) to (lane, register), and the names of their intrinsics.

    ``depth`` is the number of terms that one multiplication sums. ``left`` is 16 rows by ``depth``; ``right`` is
    ``depth`` by 16 columns, or 16 columns by ``depth`` where the factor lies transposed in shared memory.
    """

    depth: int
    transposed: bool
    left: Map
    right: Map
    load_left: str
    load_right: str
    fill: str
    multiply: str
    store: str


def sums_at(i: Any, j: Any) -> tuple[Any, Any]:
    """The lane and register of an element of the sums, and of a 16x16 factor in half precision."""
    return 4 * (i % 8) + j % 8 // 2, 4 * (j // 8) + i // 8 * 2 + j % 2


@cache
def half_fragments(m16n8k16: bool, transposed: bool, scope: str) -> Fragments:
    """The intrinsics for float16 with float32 sums: one mma.m16n8k16, or two mma.m16n8k8 in its place.

    ``scope`` is the memory scope that the sums are stored to.
    """
    name = f"convc_f16_{m16n8k16:d}{transposed:d}"
    register(f"{name}_left", *ldmatrix(trans=False, columns_first=False))
    register(f"{name}_right", *ldmatrix(trans=not transposed, columns_first=transposed))
    by = multiply("m16n8k16", "fp16", 8) if m16n8k16 else multiply("m16n8k8", "fp16", 8, steps=2)
    register(f"{name}_multiply", multiply_description(16, "float16", sums_at, sums_at, transposed), by)
    return Fragments(
        16, transposed, sums_at, sums_at, f"{name}_left", f"{name}_right", fill(), f"{name}_multiply", store(scope)
    )


@cache
def tf32_fragments(transposed: bool, scope: str) -> Fragments:
    """The intrinsics for float32 with factors rounded to TF32 (mma.m16n8k8), to nearest with ties away from zero."""
    name = f"convc_tf32_{transposed:d}"

    def left(i: Any, j: Any) -> tuple[Any, Any]:
        return 4 * (i % 8) + j % 4, j // 4 * 2 + i // 8

    def from_left(lane: Any, r: Any) -> tuple[Any, Any]:
        return lane // 4 + 8 * (r % 2), lane % 4 + 4 * (r // 2)

    def right(i: Any, j: Any) -> tuple[Any, Any]:
        k, n = (j, i) if transposed else (i, j)
        return 4 * (n % 8) + k % 4, n // 8 * 2 + k // 4

    def from_right(lane: Any, r: Any) -> tuple[Any, Any]:
        k, n = lane % 4 + 4 * (r % 2), lane // 4 + 8 * (r // 2)
        return (n, k) if transposed else (k, n)

    register(f"{name}_left", *load_rounded(16, 8, left, from_left))
    register(f"{name}_right", *load_rounded(*((16, 8) if transposed else (8, 16)), right, from_right))
    description = multiply_description(8, "float32", left, right, transposed)
    register(f"{name}_multiply", description, multiply("m16n8k8", "tf32", 4))
    return Fragments(
        8, transposed, left, right, f"{name}_left", f"{name}_right", fill(), f"{name}_multiply", store(scope)
    )


def register(name: str, description: Any, implementation: Any) -> None:
    """Register a tensor intrinsic with TVM."""
    TensorIntrin.register(name, description, implementation, override=True)


def load_description(rows: int, columns: int, registers: int, dtype: str, place: Map) -> Any:
    """The description of loading a tile of shared memory to a fragment."""

    @T.prim_func(s_tir=True)
    def description(f: T.handle, s: T.handle) -> None:
        shared = T.match_buffer(s, (rows, columns), dtype, align=64, offset_factor=1, scope=SHARED)
        held = T.match_buffer(f, (32, registers), dtype, align=64, offset_factor=1, scope="warp")
        with T.sblock("root"):
            T.reads(shared[0:rows, 0:columns])
            T.writes(held[0:32, 0:registers])
            for a, b in T.grid(rows, columns):
                with T.sblock("load"):
                    i, j = T.axis.remap("SS", [a, b])
                    lane, r = T.meta_var(place(i, j))
                    T.reads(shared[i, j])
                    T.writes(held[lane, r])
                    held[lane, r] = shared[i, j]

    return description


def ldmatrix(trans: bool, columns_first: bool) -> tuple[Any, Any]:
    """The description and implementation of loading 16x16 halves by one ldmatrix.x4.

    Each group of eight lanes gives the addresses of the rows of one 8x8 matrix. ``columns_first``: the second matrix is
    the one to the right of the first, not the one below.
    """

    def offset(lane: Any, stride: Any) -> Any:
        if columns_first:
            return stride * 8 * (lane // 16) + stride * (lane % 8) + 8 * (lane % 16 // 8)
        return stride * (lane % 16) + 8 * (lane // 16)

    @T.prim_func(s_tir=True)
    def implementation(f: T.handle, s: T.handle) -> None:
        s0 = T.int32()
        s1 = T.int32()
        shared = T.match_buffer(s, (16, 16), "float16", align=64, offset_factor=1, scope=SHARED, strides=[s0, s1])
        held = T.match_buffer(f, (32, 8), "float16", align=64, offset_factor=1, scope="warp")
        with T.sblock("root"):
            T.reads(shared[0:16, 0:16])
            T.writes(held[0:32, 0:8])
            for lane in T.thread_binding(0, 32, "threadIdx.x"):
                T.evaluate(
                    T.ptx_legacy.ldmatrix(
                        trans, 4, ".b16", held.data, held.elem_offset + 8 * lane,
                        shared.access_ptr("r"), offset(lane, s0), dtype="float16",
                    )
                )  # fmt: skip

    return load_description(16, 16, 8, "float16", sums_at), implementation


def load_rounded(rows: int, columns: int, place: Map, element: Map) -> tuple[Any, Any]:
    """The description and implementation of loading a tile of float32 to a fragment, rounded to TF32.

    ``element`` is the inverse of ``place``.
    """

    def rounded(x: Any) -> Any:
        return cuda_func_call("convc_tf32", x, source_code=_ROUND, return_type="float32")

    @T.prim_func(s_tir=True)
    def implementation(f: T.handle, s: T.handle) -> None:
        s0 = T.int32()
        s1 = T.int32()
        shared = T.match_buffer(
            s, (rows, columns), "float32", align=64, offset_factor=1, scope=SHARED, strides=[s0, s1]
        )
        held = T.match_buffer(f, (32, 4), "float32", align=64, offset_factor=1, scope="warp")
        with T.sblock("root"):
            T.reads(shared[0:rows, 0:columns])
            T.writes(held[0:32, 0:4])
            for lane in T.thread_binding(0, 32, "threadIdx.x"):
                for r in T.unroll(4):
                    i, j = T.meta_var(element(lane, r))
                    held[lane, r] = rounded(shared[i, j])

    return load_description(rows, columns, 4, "float32", place), implementation


def multiply_description(depth: int, dtype: str, left: Map, right: Map, transposed: bool) -> Any:
    """The description of ``sums += left @ right`` on fragments."""
    registers = depth // 2

    @T.prim_func(s_tir=True)
    def description(a: T.handle, b: T.handle, c: T.handle) -> None:
        A = T.match_buffer(a, (32, registers), dtype, align=64, offset_factor=1, scope="warp")
        B = T.match_buffer(b, (32, registers), dtype, align=64, offset_factor=1, scope="warp")
        C = T.match_buffer(c, (32, 8), "float32", align=64, offset_factor=1, scope="warp")
        with T.sblock("root"):
            T.reads(C[0:32, 0:8], A[0:32, 0:registers], B[0:32, 0:registers])
            T.writes(C[0:32, 0:8])
            for i0, j0, k0 in T.grid(16, 16, depth):
                with T.sblock("multiply"):
                    i, j, k = T.axis.remap("SSR", [i0, j0, k0])
                    tc, rc = T.meta_var(sums_at(i, j))
                    ta, ra = T.meta_var(left(i, k))
                    tb, rb = T.meta_var(right(j, k) if transposed else right(k, j))
                    T.reads(C[tc, rc], A[ta, ra], B[tb, rb])
                    T.writes(C[tc, rc])
                    C[tc, rc] = C[tc, rc] + T.Cast("float32", A[ta, ra]) * T.Cast("float32", B[tb, rb])

    return description


def multiply(instruction: str, kind: str, registers: int, steps: int = 1) -> Any:
    """The implementation of a multiplication: an ``mma`` per half of the columns and per part of the terms.

    There are ``steps`` parts.
    """
    dtype = {"fp16": "float16", "tf32": "float32"}[kind]

    @T.prim_func(s_tir=True)
    def implementation(a: T.handle, b: T.handle, c: T.handle) -> None:
        A = T.match_buffer(a, (32, registers), dtype, align=64, offset_factor=1, scope="warp")
        B = T.match_buffer(b, (32, registers), dtype, align=64, offset_factor=1, scope="warp")
        C = T.match_buffer(c, (32, 8), "float32", align=64, offset_factor=1, scope="warp")
        with T.sblock("root"):
            T.reads(C[0:32, 0:8], A[0:32, 0:registers], B[0:32, 0:registers])
            T.writes(C[0:32, 0:8])
            for lane in T.thread_binding(0, 32, "threadIdx.x"):
                for part in T.unroll(2 * steps):
                    T.evaluate(
                        T.ptx_legacy.mma(
                            instruction, "row", "col", kind, kind, "fp32",
                            A.data, A.elem_offset + lane * registers + part % steps * (registers // steps),
                            B.data, B.elem_offset + lane * registers + part * (registers // 2 // steps),
                            C.data, C.elem_offset + lane * 8 + part // steps * 4,
                            False, dtype="float32",
                        )
                    )  # fmt: skip

    return implementation


@cache
def fill() -> str:
    """Register the intrinsic that sets sums to zero; returns its name."""

    @T.prim_func(s_tir=True)
    def description(c: T.handle) -> None:
        C = T.match_buffer(c, (32, 8), "float32", align=64, offset_factor=1, scope="warp")
        with T.sblock("root"):
            T.reads()
            T.writes(C[0:32, 0:8])
            for a, b in T.grid(16, 16):
                with T.sblock("fill"):
                    i, j = T.axis.remap("SS", [a, b])
                    lane, r = T.meta_var(sums_at(i, j))
                    T.reads()
                    T.writes(C[lane, r])
                    C[lane, r] = T.float32(0)

    @T.prim_func(s_tir=True)
    def implementation(c: T.handle) -> None:
        C = T.match_buffer(c, (32, 8), "float32", align=64, offset_factor=1, scope="warp")
        with T.sblock("root"):
            T.reads()
            T.writes(C[0:32, 0:8])
            for lane in T.thread_binding(0, 32, "threadIdx.x"):
                for r in T.unroll(8):
                    C[lane, r] = T.float32(0)

    register("convc_fill", description, implementation)
    return "convc_fill"


@cache
def store(scope: str) -> str:
    """Register the intrinsic that writes sums to a tile of a buffer of this scope; returns its name."""

    @T.prim_func(s_tir=True)
    def description(c: T.handle, t: T.handle) -> None:
        C = T.match_buffer(c, (32, 8), "float32", align=64, offset_factor=1, scope="warp")
        to = T.match_buffer(t, (16, 16), "float32", align=64, offset_factor=1, scope=scope)
        with T.sblock("root"):
            T.reads(C[0:32, 0:8])
            T.writes(to[0:16, 0:16])
            for a, b in T.grid(16, 16):
                with T.sblock("store"):
                    i, j = T.axis.remap("SS", [a, b])
                    lane, r = T.meta_var(sums_at(i, j))
                    T.reads(C[lane, r])
                    T.writes(to[i, j])
                    to[i, j] = C[lane, r]

    @T.prim_func(s_tir=True)
    def implementation(c: T.handle, t: T.handle) -> None:
        s0 = T.int32()
        s1 = T.int32()
        C = T.match_buffer(c, (32, 8), "float32", align=64, offset_factor=1, scope="warp")
        to = T.match_buffer(t, (16, 16), "float32", align=64, offset_factor=1, scope=scope, strides=[s0, s1])
        with T.sblock("root"):
            T.reads(C[0:32, 0:8])
            T.writes(to[0:16, 0:16])
            for lane in T.thread_binding(0, 32, "threadIdx.x"):
                for r in T.unroll(8):
                    to[lane // 4 + 8 * (r // 2 % 2), lane % 4 * 2 + r % 2 + 8 * (r // 4)] = C[lane, r]

    name = f"convc_store_{scope}"
    register(name, description, implementation)
    return name
