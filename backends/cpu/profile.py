"""Where the time of a network goes: every kernel timed as the network runs, and the machine's peak to hold it against."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tvm
import tvm_ffi
from tvm import te, tirx

from convc.ir.graph import Graph
from convc.runtime.cpu.pool import with_threads
from convc.runtime.cpu.program import Program

from ..group import Group
from ..kernels import Kernel
from .build import Built, build, schedule
from .lower import call, exported, generate, lower, pointer
from .target import Target, host_target

SECONDS = 1.0
"""How long a network, or the peak, is timed."""
_TRACE = "convc.trace"


@dataclass(frozen=True)
class Timing:
    """One distinct kernel: how often a run calls it, what one call takes in place, and its rates."""

    what: str
    rule: str
    uses: int
    ms: float
    gflops: float
    gbytes: float


def profile(final: Graph, target: Target) -> list[Timing]:
    """Time the kernels of a network, its passes run, on one thread, weights and data where the network leaves them.

    What runs at load is left out.
    """
    built = build_traced(final, target)
    seconds = node_times(built, final)
    timed = [(k, [seconds[u] for u in k.uses if u in seconds]) for k in built.kernels]
    return [_timing(k, times) for k, times in timed if times]


def build_traced(final: Graph, target: Target) -> Built:
    """Compile a network for ``node_times``."""
    return build(final, target, trace=_TRACE)


def node_times(built: Built, final: Graph, threads: int = 1, seconds: float = SECONDS) -> dict[str, float]:
    """What each node takes in place, by the name of its output: the least of at least three runs of the network."""
    inputs, outputs = ([(v.type.sizes, v.type.numpy_dtype) for v in vs] for vs in (final.inputs, final.outputs))
    weights = {name: c.array for name, c in final.constants.items()}
    program = Program(built.module, built.plan, weights, inputs, outputs, threads)
    rng = np.random.default_rng(0)
    data = [rng.standard_normal(shape).astype(dtype) for shape, dtype in inputs]
    program(data)
    runs: list[np.ndarray] = []
    end = time.perf_counter() + seconds
    while len(runs) < 3 or time.perf_counter() < end:
        _stamps.clear()
        program(data)
        runs.append(np.diff(_stamps))
    return dict(zip(built.calls, map(float, np.min(runs, axis=0)), strict=True))


_stamps: list[float] = []


def _stamp(_: int) -> None:
    """Called before each node, and at the end of a run."""
    _stamps.append(time.perf_counter())


tvm_ffi.register_global_func(_TRACE, _stamp, override=True)


def _timing(kernel: Kernel, times: Sequence[float]) -> Timing:
    body = kernel.group.body
    seconds = float(np.mean(times))
    flops = sum(n.op.flops([v.type for v in n.inputs], [v.type for v in n.outputs]) for n in body.nodes)
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


def _compiled(func: Any, target: Target) -> Any:
    return tvm.compile(tvm.IRModule({"main": func}), target=target.tvm)["main"]


def assembly(group: Group, target: Target) -> tuple[str, str]:
    """The machine code of a group as text, and the rule that scheduled it; the processor need not be this one."""
    func, rule = schedule(group, target)
    kernel = lower({"kernel": func}, target)["kernel"]
    values = (*group.body.inputs, *group.body.outputs)
    params = [tirx.Var(f"p{i}", "int64") for i in range(len(values) + 1)]
    pointers = [pointer(p, 0, v.type.tvm_dtype) for p, v in zip(params, values, strict=False)]
    functions = {"main": exported("main", params, [call(kernel, pointers, params[-1])])}
    return str(generate([kernel], functions, target).inspect_source("asm")), rule


def best_time(call: Callable[[], Any]) -> float:
    """The least time of one call, in seconds, of as many as fit into ``SECONDS``."""
    call()
    best, end = float("inf"), time.perf_counter() + SECONDS
    while time.perf_counter() < end:
        start = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - start)
    return best


def peak_gflops() -> float:
    """The float32 multiply-add rate of one core, measured: independent accumulators, operands in first-level cache."""
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
    kernel = _compiled(sch.mod["main"], target)
    args = [
        tvm.runtime.tensor(np.full(shape, 1e-3, np.float32)) for shape in ((chains, lanes), (lanes,), (chains, lanes))
    ]
    return 2.0 * chains * lanes * length / with_threads(1, best_time, lambda: kernel(*args)) / 1e9
