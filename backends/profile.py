"""Where the time of a network goes: every kernel timed by itself, and the machine's peak to hold it against."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import tvm
from tvm import te

from convc.ir.graph import Graph

from .build import schedule
from .group import Group
from .runtime import configure_threads
from .target import Target, host_target

SECONDS = 0.15
"""How long each kernel is timed."""


@dataclass(frozen=True)
class Timing:
    """One distinct kernel: how often a run calls it, the best time of one call, and its rates."""

    what: str
    rule: str
    uses: int
    ms: float
    gflops: float
    gbytes: float


def profile(final: Graph, target: Target) -> list[Timing]:
    """Time the kernels of a network, its passes run, on one thread, data in cache as far as it fits.

    What runs at load is left out.
    """
    configure_threads(1)
    known = set(final.constants)
    groups: dict[str, tuple[Group, int, int]] = {}
    for node in final.nodes:
        if all(v.name in known for v in node.inputs):
            known.update(v.name for v in node.outputs)
            continue
        group = Group.of(node)
        flops = node.op.flops([v.type for v in node.inputs], [v.type for v in node.outputs])
        _, _, uses = groups.get(group.key, (group, flops, 0))
        groups[group.key] = (group, flops, uses + 1)
    return [_time(group, flops, uses, target) for group, flops, uses in groups.values()]


def _time(group: Group, flops: int, uses: int, target: Target) -> Timing:
    func, rule = schedule(group, target)
    kernel = _compiled(func.with_attr("global_symbol", "main"), target)
    rng = np.random.default_rng(0)
    values = [*group.body.inputs, *group.body.outputs]
    args = [
        tvm.runtime.tensor((rng.standard_normal(v.type.physical_shape) * 0.1).astype(v.type.numpy_dtype))
        for v in values
    ]
    seconds = best_time(lambda: kernel(*args))
    size = sum(v.type.nbytes for v in values)
    inputs = " ".join(str(v.type) for v in group.body.inputs[:2])
    return Timing(
        f"{group.name} {inputs} -> {group.body.outputs[0].type}",
        rule,
        uses,
        seconds * 1e3,
        flops / seconds / 1e9,
        size / seconds / 1e9,
    )


def _compiled(func: Any, target: Target) -> Any:
    return tvm.compile(tvm.IRModule({"main": func}), target=target.tvm)["main"]


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
    configure_threads(1)
    kernel = _compiled(sch.mod["main"], target)
    args = [
        tvm.runtime.tensor(np.full(shape, 1e-3, np.float32)) for shape in ((chains, lanes), (lanes,), (chains, lanes))
    ]
    return 2.0 * chains * lanes * length / best_time(lambda: kernel(*args)) / 1e9
