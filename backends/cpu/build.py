"""From a graph to machine code: every distinct group scheduled once, and the network as a function that calls them.

The code exports ``main(*inputs, *outputs, packed, workspace)``, all of them addresses, which runs the network, and a
function for each kernel that runs on constants alone: those run once, at load, in the steps of the ``Plan``. The weights
themselves are not part of the code.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import tvm
import tvm_ffi
from tvm import tirx

from convc.ir.errors import CompileError
from convc.ir.graph import Graph
from convc.runtime.cpu.memory import Plan, Step
from convc.runtime.place import Place

from ..group import Group
from ..kernels import Kernel, ask, distinct
from ..network import Network, check_sizes, operands
from .lower import Subroutine, call, exported, generate, lower, pointer
from .rules import RULES
from .target import Target

NETWORK_CYCLES = 400_000
"""A network of fewer cycles than this runs on the calling thread: to hand a call to a thread that may share it out, and the kernels
to others, takes longer than they save (LeNet: 54 us alone, 80 on two threads whose processors share no cache).
"""
LAUNCH_CYCLES = 8000
"""A kernel of fewer cycles than this is not shared out: waking another thread and waiting for it takes half of that."""


@dataclass(frozen=True)
class Built:
    """Machine code, the plan of the memory it runs in, the kernels it is made of, and the nodes that ``main`` runs."""

    module: Any
    plan: Plan
    kernels: tuple[Kernel, ...]
    calls: tuple[str, ...]


def build(graph: Graph, target: Target, *, trace: str = "") -> Built:
    """Compile a graph of static shapes.

    With ``trace``, ``main`` calls the global function of that name before each kernel, with its place in ``calls``, and at
    the end.
    """
    check_sizes(graph)
    found = distinct(graph)
    calls = {d.name: sum(n.output.name not in graph.at_load for n in d.nodes) for d in found}
    parallel = sum(calls[d.name] * d.group.cycles(target.machine) for d in found) > NETWORK_CYCLES
    scheduled = {d.name: d.scheduled(lambda group: schedule(group, target, parallel=parallel)) for d in found}
    try:
        lowered = lower({name: func for name, (func, _) in scheduled.items()}, target)
        kernels = {n.output.name: lowered[d.name] for d in found for n in d.nodes}
        network = Network(graph, {output: kernel.scratch for output, kernel in kernels.items()})
        module = generate(list(lowered.values()), _functions(network, kernels, trace), target)
    except tvm.error.InternalError as e:
        raise CompileError(f"TVM failed to compile the network: {e}") from e
    called = tuple(n.output.name for n in network.run)
    return Built(
        module, _plan(network, kernels, parallel), tuple(d.kernel(scheduled[d.name][1]) for d in found), called
    )


def schedule(group: Group, target: Target, *, parallel: bool = True) -> tuple[Any, str]:
    """The scheduled function of a group, sharing its loops out where that is ``parallel`` and worth it, and the name of the rule
    that made it.
    """
    func, rule = ask(RULES, group, target)
    return func if parallel and group.cycles(target.machine) > LAUNCH_CYCLES else sequential(func), rule


def sequential(func: Any) -> Any:
    """The function with its parallel loops run by the calling thread alone."""

    def visit(loop: Any) -> Any:
        if loop.kind != tirx.ForKind.PARALLEL:
            return loop
        return tirx.For(loop.loop_var, loop.min, loop.extent, tirx.ForKind.SERIAL, loop.body, None, loop.annotations)

    return func.with_body(tvm_ffi.structural_map(func.body, (tirx.For, visit)))


def _plan(network: Network, kernels: Mapping[str, Subroutine], parallel: bool) -> Plan:
    """How the weights are packed, and the sizes of memory."""
    steps = [Step("", (name,), (at,)) for name, at in network.copies]
    for n in network.load:
        at = [place.at for place in network.arguments(n)]
        reads, writes = at[: -len(n.outputs)], at[-len(n.outputs) :]
        kernel = kernels[n.output.name].name.name_hint
        steps.append(Step(kernel, tuple(reads), tuple(map(int, writes)), int(network.scratch(n).at)))
    return Plan(network.workspace, network.packed, network.loading, tuple(steps), parallel)


def _functions(network: Network, kernels: Mapping[str, Subroutine], trace: str) -> dict[str, Any]:
    """``main``, and a function for each kernel that runs at load."""
    graph = network.graph
    ports = [f"input{i}" for i in range(len(graph.inputs))] + [f"output{i}" for i in range(len(graph.outputs))]
    bases = {name: tirx.Var(name, "int64") for name in (*ports, "packed", "workspace")}

    def address(place: Place) -> tuple[Any, int]:
        if place.base in bases:
            return bases[place.base], int(place.at)
        return bases[f"{place.base}{place.at}"], 0

    calls = []
    for n in network.run:
        placed = zip((*operands(n), *n.outputs), network.arguments(n), strict=True)
        base, offset = address(network.scratch(n))
        pointers = [pointer(*address(place), v.type.tvm_dtype) for v, place in placed]
        calls.append(call(kernels[n.output.name], pointers, base + tirx.const(offset, "int64")))
    functions = {"main": exported("main", list(bases.values()), calls, trace)}
    for n in network.load:
        kernel = kernels[n.output.name]
        name, values = kernel.name.name_hint, (*operands(n), *n.outputs)
        params = [tirx.Var(f"p{i}", "int64") for i in range(len(values) + 1)]
        pointers = [pointer(p, 0, v.type.tvm_dtype) for p, v in zip(params, values, strict=False)]
        functions.setdefault(f"load_{name}", exported(f"load_{name}", params, [call(kernel, pointers, params[-1])]))
    return functions
