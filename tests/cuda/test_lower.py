"""Lowering kernels for GPUs on a machine without one: schedules to CUDA source, and source to machine code."""

from __future__ import annotations

import sys
from importlib import metadata
from typing import Any

import numpy as np
import pytest
from emulator import run as emulate
from support.gpu_code import architecture_of
from support.malformed import raises

import convc
from convc import CompileError, nn
from convc.backends.blocks import all_blocks
from convc.backends.cuda import nvrtc
from convc.backends.cuda.gpu import GPUS
from convc.backends.cuda.launch import Launch
from convc.backends.cuda.lower import lower
from convc.backends.group import Group
from convc.backends.lowered import lowered
from convc.ir.builder import Builder
from convc.ir.dtypes import numpy_dtype
from convc.ir.op import Op, f32
from convc.ir.ops.logical import Not
from convc.ir.ops.transpose import Transpose
from convc.ir.ops.unary import Relu
from convc.ir.types import TensorType

pytestmark = pytest.mark.skipif(sys.platform == "darwin", reason="NVIDIA makes no compiler for macOS")


# -- lowering ----------------------------------------------------------------------------------------------------------


def schedule_of(*ops: Op, type: TensorType) -> Any:
    """The untransformed schedule of a chain of ops."""
    b = Builder("g")
    value = b.input("x", type)
    for op in ops:
        value = b.emit(op, value)
    return lowered(Group(b.finish([value], ["y"]))).schedule()


def bind(sch: Any, block: Any, lanes: int = 1) -> None:
    """Bind a thread to each element, or to each vector of elements."""
    outer, inner, lane = sch.split(sch.fuse(*sch.get_loops(block)), [None, 128, lanes])
    sch.bind(outer, "blockIdx.x")
    sch.bind(inner, "threadIdx.x")
    sch.vectorize(lane)


def test_launches_and_scratch_memory() -> None:
    sch = schedule_of(Relu(), Transpose((1, 0)), type=f32[20, 50])
    for block in all_blocks(sch):
        bind(sch, block)
    code = lower(sch.mod["main"], GPUS["sm_80"], "k3")
    first = Launch("k3_kernel", (8, 1, 1), (128, 1, 1), 0, (0, -1))
    assert code.launches == (first, Launch("k3_kernel_1", (8, 1, 1), (128, 1, 1), 0, (-1, 1)))
    assert 4000 <= code.scratch < 4096
    assert lower(sch.mod["main"], GPUS["sm_80"], "k3") == code


def test_work_that_is_bound_to_no_thread() -> None:
    sch = schedule_of(Relu(), Transpose((1, 0)), type=f32[20, 50])
    bind(sch, all_blocks(sch)[0])
    with raises(CompileError, "kernel k3", "no thread"):
        lower(sch.mod["main"], GPUS["sm_80"], "k3")


def test_vectors_of_bool() -> None:
    sch = schedule_of(Not(), type=TensorType("bool", (1024,)))
    bind(sch, all_blocks(sch)[0], 4)
    with raises(CompileError, "k_kernel", "vectors of bool"):
        lower(sch.mod["main"], GPUS["sm_80"], "k")


@pytest.mark.parametrize(("dtype", "lanes"), [("f16", 8), ("i16", 8), ("u16", 8), ("f16", 4), ("u16", 2)])
def test_vectors_that_are_gathered(dtype: str, lanes: int) -> None:
    """Lowering corrects calls of ``make_uint4`` and the like, which TVM prints with too many arguments."""
    sch = schedule_of(Transpose((1, 0)), type=TensorType(dtype, (32, 64)))
    bind(sch, all_blocks(sch)[0], lanes)
    code = lower(sch.mod["main"], GPUS["sm_80"], "k")
    nvrtc.compile_source(code.source, "sm_80", "k")
    x = np.arange(2048).reshape(32, 64).astype(numpy_dtype(dtype))
    y = np.empty((64, 32), x.dtype)
    emulate(code, [x, y])
    np.testing.assert_array_equal(y, x.T)


@pytest.mark.parametrize(("dtype", "lanes"), [("f16", 8), ("i16", 8), ("i8", 8), ("i8", 16), ("i64", 2)])
def test_vectors_of_one_value_repeated(dtype: str, lanes: int) -> None:
    sch = schedule_of(Relu(), type=TensorType(dtype, (2048,)))
    bind(sch, all_blocks(sch)[0], lanes)
    nvrtc.compile_source(lower(sch.mod["main"], GPUS["sm_80"], "k").source, "sm_80", "k")


# -- the compiler ------------------------------------------------------------------------------------------------------

KERNEL = (
    'extern "C" __global__ void k(float* x) { __shared__ float s[64]; s[threadIdx.x] = x[0]; '
    "__syncthreads(); x[1] = s[63 - threadIdx.x]; }"
)


@pytest.mark.parametrize("arch", GPUS)
def test_machine_code(arch: str) -> None:
    made = nvrtc.compile_source(KERNEL, arch, "k")
    assert architecture_of(made.code) == arch
    figures = made.figures["k"]
    assert 0 < figures.registers <= 32
    assert (figures.shared, figures.spills, figures.stack) == (256, 0, 0)


def test_ptx() -> None:
    made = nvrtc.compile_source(KERNEL, "compute_75", "k")
    assert architecture_of(made.code) == "compute_75"
    assert made.code.endswith(b"\0")
    assert made.figures == {}


def test_spills_are_counted() -> None:
    source = """extern "C" __global__ void __launch_bounds__(1024) k(float* x) {
        float v[96];
        #pragma unroll
        for (int i = 0; i < 96; i++) v[i] = x[i * 1024 + threadIdx.x];
        for (int j = 0; j < 100; j++) {
          #pragma unroll
          for (int i = 0; i < 96; i++) v[i] = v[i] * v[(i + 1) % 96] + x[j];
        }
        #pragma unroll
        for (int i = 0; i < 96; i++) x[i * 1024 + threadIdx.x] = v[i];
    }"""
    assert nvrtc.compile_source(source, "sm_80", "k").figures["k"].spills > 0


def test_source_that_does_not_compile() -> None:
    with raises(CompileError, "kernel k7", "sm_80", 'identifier "y" is undefined'):
        nvrtc.compile_source('extern "C" __global__ void k(float* x) { x[0] = y; }', "sm_80", "k7")


def test_more_shared_memory_than_there_is() -> None:
    source = KERNEL.replace("s[64]", "s[64000]").replace("63 -", "63999 -")
    with raises(CompileError, "kernel k7", "too much shared data"):
        nvrtc.compile_source(source, "sm_80", "k7")


@pytest.mark.parametrize(
    ("version", "parts"),
    [(None, ("not installed",)), ("12.9.86", ("is 12.9.86", "needs 13.0")), ("13.0.1", ("not complete",))],
)
def test_a_package_is_missing(version: str | None, parts: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    def found(package: str) -> str:
        if version is None:
            raise metadata.PackageNotFoundError(package)
        return version

    monkeypatch.setattr(metadata, "version", found)
    monkeypatch.setattr(metadata, "files", lambda package: [])
    nvrtc._nvrtc.cache_clear()
    with raises(
        CompileError,
        "nvidia-cuda-nvrtc",
        *parts,
        "pip install 'nvidia-cuda-nvrtc==13.0.*' 'nvidia-cuda-runtime==13.0.*'",
    ):
        convc.compile(nn.Dense(4), "cuda", {"x": (1, 8)}, arch="sm_80")
    nvrtc._nvrtc.cache_clear()
