"""Measuring the time of each kernel in a running network, and the peak rate of the machine."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tvm
from tvm import te

from convc.ir.errors import CompileError
from convc.ir.graph import Graph
from convc.runtime.cpu.memory import address_of
from convc.runtime.cpu.program import Program

from ..backend import port, weights
from ..group import Group
from ..kernels import Kernel
from .build import Built, build
from .codegen import schedule
from .lower import generate, lower
from .machine_code import MachineCode, object_of
from .target import Target, host_target

SECONDS = 1.0
"""The number of seconds for which a network, or the peak rate, is measured."""


@dataclass(frozen=True)
class Timing:
    """The measurement of one distinct kernel.

    ``uses`` is the number of its calls in a run, and ``ms`` the mean time of one call in milliseconds. ``gflops`` and
    ``gbytes`` are its rates in 10^9 operations and 10^9 bytes a second.
    """

    what: str
    rule: str
    uses: int
    ms: float
    gflops: float
    gbytes: float


def profile(final: Graph, target: Target) -> list[Timing]:
    """Time the kernels of a network on one thread, while the whole network runs.

    ``final`` is the graph after all passes. Kernels that run at load are left out.
    """
    built = build(final, target)
    seconds = node_times(built, final)
    timed = [(k, [seconds[u] for u in k.uses if u in seconds]) for k in built.kernels]
    return [_timing(k, times) for k, times in timed if times]


def node_times(built: Built, final: Graph, threads: int = 1, seconds: float = SECONDS) -> dict[str, float]:
    """The time of each node of a network in seconds, by the name of its output: the least of at least three runs.

    ``final`` is the graph that was built. The network runs for ``seconds`` seconds. Raises ``CompileError`` where data
    decides sizes: a call then runs in segments, and leaves out kernels whose results have no elements.
    """
    if built.plan.later:
        raise CompileError(f"the kernels of '{final.name}' cannot be timed one by one, since data decides sizes in it")
    inputs, outputs = ([port(v.name, v) for v in vs] for vs in (final.inputs, final.outputs))
    stamps: list[float] = []
    mark = ctypes.CFUNCTYPE(None, ctypes.c_int64)(lambda _: stamps.append(time.perf_counter()))
    trace = int(ctypes.cast(mark, ctypes.c_void_p).value or 0)
    program = Program(built.code, built.plan, weights(final), inputs, outputs, threads, trace=trace)
    rng = np.random.default_rng(0)
    shapes = [v.type.at_typical().physical_shape for v in final.inputs]
    data = [rng.standard_normal(shape).astype(p.dtype) for p, shape in zip(inputs, shapes, strict=True)]
    program(data)
    runs: list[np.ndarray] = []
    end = time.perf_counter() + seconds
    while len(runs) < 3 or time.perf_counter() < end:
        stamps.clear()
        program(data)
        runs.append(np.diff(stamps))
    return dict(zip(built.calls, map(float, np.min(runs, axis=0)), strict=True))


def _timing(kernel: Kernel, times: Sequence[float]) -> Timing:
    body = kernel.group.body
    seconds = float(np.mean(times))
    flops = sum(n.flops for n in body.nodes)
    size = sum(v.type.nbytes for v in (*body.inputs, *body.outputs))
    inputs = " ".join(str(v.type) for v in body.inputs[:2])
    return Timing(
        f"{kernel.group.name} {inputs} -> {body.outputs[0].type}",
        kernel.rule,
        len(times),
        seconds * 1e3,
        flops / seconds / 1e9,
        size / seconds / 1e9,
    )


def assembly(group: Group, target: Target) -> tuple[str, str]:
    """The assembly of a group's kernel for any target, and the name of the rule that scheduled it."""
    func, rule = schedule(group, target)
    return str(generate(lower(func, "convc_kernel", target), target).inspect_source("asm")), rule


def best_time(call: Callable[[], Any]) -> float:
    """The shortest time of one call in seconds, out of the calls that ``SECONDS`` allow."""
    call()
    best, end = float("inf"), time.perf_counter() + SECONDS
    while time.perf_counter() < end:
        start = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - start)
    return best


def peak_gflops() -> float:
    """The measured rate of one core for float32 multiply-adds, in GFLOP/s.

    The loop has independent accumulators, and its operands stay in the first-level cache.
    """
    target = host_target()
    lanes, chains, length = target.lanes(), target.vector_registers // 2 + 2, 200_000
    a, b = te.placeholder((chains, lanes), name="a"), te.placeholder((lanes,), name="b")
    k = te.reduce_axis((0, length), "k")
    y = te.compute((chains, lanes), lambda i, j: te.sum(a[i, j] * b[j], axis=k), name="y")
    sch = tvm.s_tir.Schedule(tvm.IRModule({"main": te.create_prim_func([a, b, y])}))
    block = sch.get_sblock("y")
    store = sch.cache_write(block, 0, "local")
    i, j, r = sch.get_loops(block)
    sch.reorder(r, i, j)
    for loop, lane in ((i, j), tuple(sch.get_loops(store))):
        sch.vectorize(lane)
        sch.unroll(loop)
    sch.decompose_reduction(block, r)
    func = sch.mod["main"].with_attr("tirx.is_scheduled", True).without_attr("global_symbol")
    kernel = lower(func, "convc_peak", target)
    code = MachineCode([object_of(generate(kernel, target))], target)
    tensors = [np.full(shape, 1e-3, np.float32) for shape in ((chains, lanes), (lanes,), (chains, lanes))]
    arrays: list[np.ndarray] = [*tensors, np.empty(max(kernel.scratch, 1), np.uint8)]
    arguments = (ctypes.c_int64 * 4)(*(address_of(a) for a in arrays))
    run, at = code.function("convc_peak"), ctypes.addressof(arguments)
    return 2.0 * chains * lanes * length / best_time(lambda: run(at, 0)) / 1e9
