"""Code generation for CPUs: from a graph to machine code.

Each distinct group is scheduled once and becomes a kernel. The code exports C functions, each of which takes the
address of its arguments and the address of a context (``lower.py``). ``convc_main`` runs the network; its arguments are
the addresses of inputs, outputs, packed weights and workspace. Each ``convc_load_*`` runs one kernel on constants
alone; these functions run once, at load, in the steps of the ``Plan``. The weights are not part of the code.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import tvm
import tvm_ffi
from tvm import tirx

from convc.ir.errors import CompileError
from convc.ir.graph import Graph, Node, Value
from convc.runtime.cpu.code import LOAD, MAIN
from convc.runtime.cpu.memory import Plan, Step
from convc.runtime.place import Place

from ..group import Group
from ..kernels import Kernel, ask, distinct
from ..memory import aligned
from ..network import Network, check_sizes, computed, operands
from .abi import pointer
from .cost import kernel_cycles
from .loop import loop_subroutine
from .lower import Subroutine, call, exported, generate, lower
from .machine_code import MachineCode
from .rules import RULES
from .target import Target


@dataclass(frozen=True)
class Built:
    """The result of ``build``: machine code, the plan of its memory, and its kernels.

    ``calls`` lists the nodes that ``convc_main`` runs, in order, by the names of their first outputs.
    """

    code: MachineCode
    plan: Plan
    kernels: tuple[Kernel, ...]
    calls: tuple[str, ...]


def build(graph: Graph, target: Target, *, trace: bool = False) -> Built:
    """Compile a graph of static shapes, after all passes, to machine code.

    With ``trace``, ``convc_main`` calls the trace function of the context before each kernel, with the index of the
    kernel in ``calls``, and once more at the end. Raises ``CompileError``.
    """
    check_sizes(graph)
    found = distinct(graph)
    groups = [d for d in found if d.loop is None]
    parallel = sum(d.calls * kernel_cycles(d.group, target.machine) for d in groups) > target.network_cycles
    scheduled = {d.name: d.scheduled(lambda group: schedule(group, target, parallel=parallel)) for d in groups}
    try:
        nodes = {d.name: d.nodes[0].describe() for d in groups}
        lowered = lower({name: func for name, (func, _) in scheduled.items()}, target, nodes)
        kernels: dict[Node, Subroutine] = {}
        for d in found:
            if d.loop is not None:
                lowered[d.name] = loop_subroutine(d.name, d.nodes[0], d.loop, kernels)
            kernels |= dict.fromkeys(d.nodes, lowered[d.name])
        network = Network(graph, {n.output.name: kernels[n].scratch for n in computed(graph)})
        functions = _functions(network, kernels, trace)
        code = MachineCode(generate(list(lowered.values()), functions, target), tuple(functions), target, parallel)
    except tvm.error.InternalError as e:
        raise CompileError(f"TVM failed to compile the network: {e}") from e
    called = tuple(n.output.name for n in network.run)
    plan = _plan(network, kernels, parallel)
    return Built(code, plan, tuple(d.kernel(scheduled[d.name][1] if d.loop is None else "loop") for d in found), called)


def schedule(group: Group, target: Target, *, parallel: bool = True) -> tuple[Any, str]:
    """The scheduled function of a group, and the name of the rule that made it.

    With ``parallel``, its loops are shared out among threads when the kernel is large enough to gain by it.
    """
    func, rule = ask(RULES, group, target)
    return func if parallel and kernel_cycles(group, target.machine) > target.launch_cycles else sequential(func), rule


def sequential(func: Any) -> Any:
    """The function with its parallel loops made serial."""

    def visit(loop: Any) -> Any:
        if loop.kind != tirx.ForKind.PARALLEL:
            return loop
        return tirx.For(loop.loop_var, loop.min, loop.extent, tirx.ForKind.SERIAL, loop.body, None, loop.annotations)

    return func.with_body(tvm_ffi.structural_map(func.body, (tirx.For, visit)))


def _plan(network: Network, kernels: Mapping[Node, Subroutine], parallel: bool) -> Plan:
    """The plan of a network's memory, with the steps that pack its weights."""
    steps = [Step("", (name,), (at,)) for name, at in network.copies]
    for n in network.load:
        at = [place.at for place in network.arguments(n)]
        reads, writes = at[: -len(n.outputs)], at[-len(n.outputs) :]
        kernel = kernels[n].name.name_hint
        steps.append(Step(kernel, tuple(reads), tuple(map(int, writes)), int(network.scratch(n).at)))
    part = max((k.part for k in kernels.values()), default=0)
    return Plan(aligned(network.workspace), network.packed, network.loading, tuple(steps), part, parallel)


def _functions(network: Network, kernels: Mapping[Node, Subroutine], trace: bool) -> dict[str, Any]:
    """The exported functions by name: ``convc_main``, and one for each distinct kernel that runs at load."""
    graph = network.graph
    ports = [("input", i) for i in range(len(graph.inputs))] + [("output", i) for i in range(len(graph.outputs))]

    def run(arguments: Sequence[Any], context: Any) -> list[Any]:
        bases = dict(zip([*ports, "packed", "workspace"], arguments, strict=True))

        def address(place: Place) -> tuple[Any, int]:
            return (bases[place], 0) if place in bases else (bases[place.base], int(place.at))

        calls = []
        for n in network.run:
            placed = zip((*operands(n), *n.outputs), network.arguments(n), strict=True)
            base, offset = address(network.scratch(n))
            pointers = [pointer(*address(place), v.type.tvm_dtype) for v, place in placed]
            calls.append(call(kernels[n], pointers, base + tirx.const(offset, "int64"), context))
        return calls

    functions = exported(MAIN, len(ports) + 2, run, trace)
    for n in network.load:
        kernel = kernels[n]
        name = LOAD + kernel.name.name_hint
        if name not in functions:
            functions[name] = kernel_function(name, kernel, (*operands(n), *n.outputs))
    return functions


def kernel_function(name: str, kernel: Subroutine, values: Sequence[Value]) -> Any:
    """The exported function that runs one kernel.

    Its arguments are the addresses of the values and of the scratch memory.
    """

    def run(arguments: Sequence[Any], context: Any) -> list[Any]:
        pointers = [pointer(a, 0, v.type.tvm_dtype) for a, v in zip(arguments, values, strict=False)]
        return [call(kernel, pointers, arguments[-1], context)]

    return exported(name, len(values) + 1, run)[name]
