"""From a graph to machine code: every distinct group scheduled once, and the network as a function that calls them.

The code exports ``main(*inputs, *outputs, packed, workspace)``, all of them addresses, which runs the network, and a
function for each kernel that runs on constants alone: those run once, at load, in the steps of the ``Plan``. The weights
themselves are not part of the code.
"""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tvm
import tvm_ffi
from tvm import tirx

from convc.ir.errors import ArtifactError, CompileError, ConvcError
from convc.ir.graph import Graph, Node, Value
from convc.ir.limits import check, check_made

from .cpu.rules import RULES
from .group import Group
from .in_place import replaceable
from .lower import Subroutine, call, exported, generate, lower, pointer
from .memory import Lifetime, Plan, Step, aligned, plan
from .target import Target

MAX_ELEMENTS = (1 << 31) - 1
"""Generated code indexes a tensor with 32 bits."""


LAUNCH_CYCLES = 8000
"""A kernel of fewer cycles than this is not shared out: waking another thread and waiting for it takes half of that."""


@dataclass(frozen=True)
class Kernel:
    """One compiled group: its name in the module, the rule that scheduled it, and the nodes that call it."""

    name: str
    rule: str
    group: Group
    uses: tuple[str, ...]


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
    for v in graph.values():
        check_made(v.type, f"'{v.name}'")
        if math.prod(v.type.physical_shape) > MAX_ELEMENTS:
            raise CompileError(f"'{v.name}' ({v.type}) is too large: a tensor holds at most {MAX_ELEMENTS} elements")
    scheduler = _Scheduler(target)
    names = {n.output.name: scheduler.kernel(n) for n in graph.nodes}
    known = _depends_on_constants(graph)
    work = sum(_flops(n) for n in graph.nodes if n.output.name in known)
    check("constant_flops", work, f"what '{graph.name}' computes of its weights")
    try:
        lowered = lower(scheduler.functions(), target)
        network = _Network(graph, known, {output: lowered[name] for output, name in names.items()})
        check("workspace_bytes", network.plan.workspace, f"a call of '{graph.name}'")
        check("constant_bytes", network.plan.loading, f"'{graph.name}', its weights as the code reads them,")
        module = generate(list(lowered.values()), network.functions(trace), target)
    except tvm.error.InternalError as e:
        raise CompileError(f"TVM failed to compile the network: {e}") from e
    return Built(module, network.plan, scheduler.kernels(), tuple(n.output.name for n in network.run))


def _depends_on_constants(graph: Graph) -> set[str]:
    """The names of values that follow from constants alone."""
    known = set(graph.constants)
    for node in graph.nodes:
        if all(v.name in known for v in node.inputs) and not any(v.name in graph.output_set for v in node.outputs):
            known.update(v.name for v in node.outputs)
    return known - set(graph.constants)


class _Scheduler:
    """Schedules each distinct group once."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self.found: dict[str, tuple[str, Any, str, Group, list[str]]] = {}

    def kernel(self, node: Node) -> str:
        """The name of the kernel that computes ``node``."""
        group = Group.of(node)
        if group.key not in self.found:
            try:
                func, rule = schedule(group, self.target)
            except ConvcError:
                raise
            except Exception as e:  # TVM raises errors of many kinds
                raise CompileError(f"{node.describe()} could not be compiled: {e}") from e
            self.found[group.key] = (f"k{len(self.found)}_{group.name}", func, rule, group, [])
        name, _, _, _, uses = self.found[group.key]
        uses.append(node.output.name)
        return name

    def functions(self) -> dict[str, Any]:
        """The scheduled functions by name."""
        return {name: func for name, func, _, _, _ in self.found.values()}

    def kernels(self) -> tuple[Kernel, ...]:
        return tuple(Kernel(name, rule, group, tuple(uses)) for name, _, rule, group, uses in self.found.values())


def schedule(group: Group, target: Target) -> tuple[Any, str]:
    """The scheduled function of a group and the name of the rule that made it."""
    for rule in RULES:
        sch = rule(group, target)
        if sch is not None:
            func = sch.mod["main"].with_attr("tirx.is_scheduled", True).without_attr("global_symbol")
            return func if group.cycles(target.machine) > LAUNCH_CYCLES else sequential(func), rule.__name__
    raise CompileError(f"no schedule rule takes {group.name}")


def sequential(func: Any) -> Any:
    """The function with its parallel loops run by the calling thread alone."""

    def visit(loop: Any) -> Any:
        if loop.kind != tirx.ForKind.PARALLEL:
            return loop
        return tirx.For(loop.loop_var, loop.min, loop.extent, tirx.ForKind.SERIAL, loop.body, None, loop.annotations)

    return func.with_body(tvm_ffi.structural_map(func.body, (tirx.For, visit)))


class _Network:
    """A graph's calls of subroutines, and where each value lies.

    What follows from constants (``known``) is computed into the packed weights, which all calls share; the rest of what
    is made on the way into the workspace of the call.
    """

    def __init__(self, graph: Graph, known: set[str], kernels: Mapping[str, Subroutine]) -> None:
        self.graph = graph
        self.kernels = kernels
        self.run = [n for n in graph.nodes if n.output.name not in known]
        self.load = [n for n in graph.nodes if n.output.name in known]
        self.packed = tirx.Var("packed", "int64")
        self.workspace = tirx.Var("workspace", "int64")
        self.places, self.plan = self._place()

    def _place(self) -> tuple[dict[str, tuple[Any, int]], Plan]:
        """Each value's base address and offset."""
        g, places = self.graph, dict[str, tuple[Any, int]]()
        for what, ports in (("input", g.inputs), ("output", g.outputs)):
            places |= {v.name: (tirx.Var(f"{what}{i}", "int64"), 0) for i, v in enumerate(ports)}
        read = {v.name for n in self.run for v in n.inputs}
        constants = [Value(name, c.type) for name, c in g.constants.items() if name in read]
        kept = 0
        for v in [*constants, *(v for n in self.load for v in n.outputs if v.name in read)]:
            places[v.name] = (self.packed, kept)
            kept = aligned(kept + _bytes(v))
        temporary, scratch, loading = self._lay_out(self.load, places)
        places |= {name: (self.packed, kept + at) for name, at in temporary.items()}
        steps = [Step("", (v.name,), (places[v.name][1],)) for v in constants]
        for n, s in zip(self.load, scratch, strict=True):
            reads = [v.name if v.name in g.constants else places[v.name][1] for v in _operands(n)]
            kernel = self.kernels[n.output.name].name.name_hint
            steps.append(Step(kernel, tuple(reads), tuple(places[v.name][1] for v in n.outputs), kept + s))
        inner, self.scratch, workspace = self._lay_out(self.run, places)
        places |= {name: (self.workspace, at) for name, at in inner.items()}
        return places, Plan(workspace, kept, kept + loading, tuple(steps))

    def _lay_out(self, nodes: Sequence[Node], places: Mapping[str, Any]) -> tuple[dict[str, int], list[int], int]:
        """Offsets of what the nodes make that has no place yet, of each node's scratch memory, and the size of it all."""
        last = {v.name: i for i, n in enumerate(nodes) for v in n.inputs}
        made: dict[str, Lifetime] = {}
        owner: dict[str, str] = {}  # of each value, the first that lay in its place
        for i, n in enumerate(nodes):
            over = [v.name for v in replaceable(n) if v.name in owner and last[v.name] == i]
            for v in n.outputs:
                if v.name in places:
                    continue
                owner[v.name] = owner[over[0]] if over else v.name
                first = made[owner[v.name]].first if over else i
                made[owner[v.name]] = Lifetime(_bytes(v), first, last.get(v.name, i))
        scratch = [Lifetime(self.kernels[n.output.name].scratch, i, i) for i, n in enumerate(nodes)]
        offsets, size = plan([*made.values(), *scratch])
        at = dict(zip(made, offsets, strict=False))
        return {name: at[first] for name, first in owner.items()}, offsets[len(made) :], size

    def functions(self, trace: str) -> dict[str, Any]:
        """``main``, and a function for each kernel that runs at load."""
        ports = [self.places[v.name][0] for v in (*self.graph.inputs, *self.graph.outputs)]
        calls = []
        for n, at in zip(self.run, self.scratch, strict=True):
            pointers = [self._pointer(v) for v in (*_operands(n), *n.outputs)]
            calls.append(call(self.kernels[n.output.name], pointers, self.workspace + tirx.const(at, "int64")))
        functions = {"main": exported("main", [*ports, self.packed, self.workspace], calls, trace)}
        for n in self.load:
            kernel = self.kernels[n.output.name]
            name, values = kernel.name.name_hint, (*_operands(n), *n.outputs)
            params = [tirx.Var(f"p{i}", "int64") for i in range(len(values) + 1)]
            pointers = [pointer(p, 0, v.type.tvm_dtype) for p, v in zip(params, values, strict=False)]
            functions.setdefault(f"load_{name}", exported(f"load_{name}", params, [call(kernel, pointers, params[-1])]))
        return functions

    def _pointer(self, v: Value) -> Any:
        base, offset = self.places[v.name]
        return pointer(base, offset, v.type.tvm_dtype)


def _flops(node: Node) -> int:
    return node.op.flops([v.type for v in node.inputs], [v.type for v in node.outputs])


def _operands(node: Node) -> list[Value]:
    """What a node's kernel reads: each value once."""
    return list({v.name: v for v in node.inputs}.values())


def _bytes(v: Value) -> int:
    """The bytes a value takes, layout padding counted."""
    return math.prod(v.type.physical_shape) * v.type.numpy_dtype.itemsize


def export_library(module: Any, path: Path) -> None:
    """Link the machine code to a shared library; raises ``ArtifactError`` when no C compiler is there to link it."""
    compiler = next(
        (
            c
            for c in (os.environ.get("CXX", ""), "g++", "c++", "clang++", "gcc", "cc", "clang")
            if c and shutil.which(c)
        ),
        None,
    )
    if compiler is None:
        raise ArtifactError(
            "saving links a shared library and needs a C compiler, and none is on PATH: install one (Debian, Ubuntu: apt-get install g++; Fedora: dnf install gcc-c++; macOS: xcode-select --install)"
        )
    try:
        module.export_library(str(path), cc=compiler, options=["-s"])  # symbols are half of it
    except RuntimeError as e:
        raise ArtifactError(f"{compiler} failed to link the artifact: {e}") from e
