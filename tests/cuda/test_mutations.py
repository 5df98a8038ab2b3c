"""The emulator detects missing synchronisation.

Every barrier, wait and commit of a kernel is dropped in turn, and each time the emulator must report an error.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from emulator import EmulationError
from emulator.check import check_code, code_of

from convc.backends.cuda.gpu import GPUS, Gpu
from convc.backends.cuda.rules import Rule
from convc.backends.cuda.schedules.implicit_gemm import implicit_gemm
from convc.backends.cuda.schedules.reduce import reduce
from convc.backends.cuda.schedules.tensor_core import tensor_core
from convc.backends.group import Group
from convc.ir.builder import Builder
from convc.ir.graph import Graph
from convc.ir.layout import Layout
from convc.ir.op import f16, f32
from convc.ir.ops.conv import Conv
from convc.ir.ops.global_pool import GlobalAveragePool
from convc.ir.ops.softmax import Softmax
from convc.ir.ops.unary import Relu

SYNCHRONISES = re.compile(r"^\s*((?:__syncthreads|__syncwarp|\w*(?:wait_group|commit_group)\w*)\(\);)\n", re.MULTILINE)
"""Matches a statement that orders memory accesses. TVM writes it on a line of its own."""


def convolution(dtype: str, channels: int, outputs: int) -> Graph:
    b = Builder("k")
    t = {"f16": f16, "f32": f32}[dtype]
    x = b.input("x", t[1, channels, 13, 15].with_layout(Layout("NHWC")))
    w = b.input("w", t[outputs, channels, 3, 3].with_layout(Layout("HWIO")))
    y = b.emit(Conv((2, 2), ((1, 1), (1, 1))), x, w, b.input("b", t[outputs]))
    return b.finish([b.emit(Relu(), y)])


def softmax(rows: int, columns: int) -> Graph:
    b = Builder("k")
    return b.finish([b.emit(Softmax(-1), b.input("x", f32[rows, columns]))])


def global_average(channels: int, size: int) -> Graph:
    b = Builder("k")
    x = b.input("x", f32[1, channels, size, size].with_layout(Layout("NHWC")))
    return b.finish([b.emit(GlobalAveragePool(), x)])


AMPERE = GPUS["sm_80"]
TF32 = replace(AMPERE, tf32=True, sms=1)  # with more, CUDA cores would be as fast for so small a convolution
KERNELS: dict[str, tuple[Graph, Rule, Gpu]] = {
    "tensor cores, float16": (convolution("f16", 24, 40), tensor_core, AMPERE),
    "tensor cores, TF32": (convolution("f32", 24, 40), tensor_core, TF32),
    "tensor cores, sm_75": (convolution("f16", 24, 40), tensor_core, GPUS["sm_75"]),
    "CUDA cores": (convolution("f32", 24, 40), implicit_gemm, AMPERE),
    "softmax": (softmax(3, 1000), reduce, AMPERE),
    "global average": (global_average(20, 28), reduce, AMPERE),
    "CUDA cores, sm_75": (convolution("f32", 24, 40), implicit_gemm, GPUS["sm_75"]),
}


READ_BY_ITS_WRITER = "the thread that wrote the result alone reads it; TVM puts a barrier between all the same"
FIRST_USE = "nothing was in that memory before; TVM's reduction does not know"
REDUNDANT: dict[str, dict[int, str]] = {
    "softmax": {1: READ_BY_ITS_WRITER, 3: READ_BY_ITS_WRITER},
    "global average": {0: FIRST_USE, 5: READ_BY_ITS_WRITER},
}
"""For each kernel, the statements (by index) that may be dropped without effect, with the reason."""


def mutants(source: str) -> Iterator[tuple[str, str]]:
    """For each statement that orders memory: the statement and its line, and the source without it."""
    for found in SYNCHRONISES.finditer(source):
        line = source[: found.start()].count("\n") + 1
        yield f"{found[1]} in line {line}", source[: found.start()] + "\n" + source[found.end() :]


@pytest.mark.parametrize("name", KERNELS)
def test_what_is_dropped_is_missed(name: str) -> None:
    graph, rule, gpu = KERNELS[name]
    group = Group(graph)
    code = code_of(group, rule, gpu)
    check_code(group, code, name)
    found = list(mutants(code.source))
    assert found, "the kernel synchronises nowhere"
    with ThreadPoolExecutor() as pool:
        missed = list(pool.map(lambda m: fails(lambda: check_code(group, replace(code, source=m[1]), name)), found))
    survived = {i: found[i][0] for i, failed in enumerate(missed) if not failed}
    assert survived.keys() == REDUNDANT.get(name, {}).keys(), f"of {len(found)} these could be dropped: {survived}"


def fails(run: Callable[[], object]) -> bool:
    try:
        run()
    except (EmulationError, AssertionError):
        return True
    return False
