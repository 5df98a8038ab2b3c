"""From a graph to machine code: every distinct group scheduled once, and the network as a Relax function that calls them.

The executable has two functions. ``pack(weights) -> packed`` runs what depends on constants alone, once, at load.
``main(*inputs, packed)`` runs the rest. The weights themselves are not part of the executable.
"""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tvm
from tvm import relax

from convc.ir.errors import ArtifactError, CompileError, ConvcError
from convc.ir.graph import Graph, Node, Value

from .cpu.rules import RULES
from .group import Group
from .target import Target

MAX_ELEMENTS = (1 << 31) - 1
"""Generated code indexes a tensor with 32 bits."""


@dataclass(frozen=True)
class Kernel:
    """One compiled group: its name in the module, the rule that scheduled it, and the nodes that call it."""

    name: str
    rule: str
    group: Group
    uses: tuple[str, ...]


@dataclass(frozen=True)
class Built:
    """Machine code with what it needs to run: the names of the constants in the order ``pack`` takes them."""

    executable: Any
    constants: tuple[str, ...]
    kernels: tuple[Kernel, ...]


def build(graph: Graph, target: Target) -> Built:
    """Compile a graph of static shapes."""
    for v in graph.values():
        if math.prod(v.type.physical_shape) > MAX_ELEMENTS:
            raise CompileError(f"'{v.name}' ({v.type}) is too large: a tensor holds at most {MAX_ELEMENTS} elements")
    scheduler = _Scheduler(target)
    load_time = _depends_on_constants(graph)
    main = [n for n in graph.nodes if n.output.name not in load_time]
    pack = [n for n in graph.nodes if n.output.name in load_time]
    read = {v.name for n in main for v in n.inputs}
    packed = [Value(name, c.type) for name, c in graph.constants.items() if name in read]
    packed += [v for n in pack for v in n.outputs if v.name in read]
    constants = [Value(name, c.type) for name, c in graph.constants.items()]
    bb = relax.BlockBuilder()
    _function(bb, "pack", scheduler, [], constants, pack, packed)
    _function(bb, "main", scheduler, list(graph.inputs), packed, main, list(graph.outputs))
    try:
        executable = tvm.compile(bb.get(), target=target.tvm, relax_pipeline=lower_network)
    except tvm.error.InternalError as e:
        raise CompileError(f"TVM failed to compile the network: {e}") from e
    return Built(executable, tuple(v.name for v in constants), scheduler.kernels())


def _lower_network(mod: Any, _: Any) -> Any:
    """From calls of scheduled kernels to the virtual machine's instructions, with memory planned.

    This is TVM's own order less what would rewrite kernels (fusion, reshapes as views) and less the checks of every
    argument's shape on every call: ``CompiledModel`` checks the inputs, and weights are our own.
    """
    steps = (
        relax.transform.ToNonDataflow(),
        relax.transform.RemovePurityChecking(),
        relax.transform.CallTIRRewrite(),
        relax.transform.StaticPlanBlockMemory(),
        relax.transform.LowerAllocTensor(),
        relax.transform.KillAfterLastUse(),
        relax.transform.LowerRuntimeBuiltin(),
        relax.transform.ComputePrimValue(),
        relax.transform.AttachGlobalSymbol(),
    )
    return tvm.transform.Sequential(steps)(mod)


lower_network: Any = tvm.transform.module_pass(_lower_network, opt_level=0)


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
        self.found: dict[str, tuple[Any, str, Group, list[str]]] = {}

    def kernel(self, bb: Any, node: Node) -> Any:
        """The global function of the kernel that computes ``node``."""
        group = Group.of(node)
        if group.key not in self.found:
            try:
                func, rule = schedule(group, self.target)
            except ConvcError:
                raise
            except Exception as e:  # TVM raises errors of many kinds
                raise CompileError(f"{node.describe()} could not be compiled: {e}") from e
            self.found[group.key] = (bb.add_func(func, f"k{len(self.found)}_{group.name}"), rule, group, [])
        var, _, _, uses = self.found[group.key]
        uses.append(node.output.name)
        return var

    def kernels(self) -> tuple[Kernel, ...]:
        return tuple(
            Kernel(str(var.name_hint), rule, group, tuple(uses)) for var, rule, group, uses in self.found.values()
        )


def schedule(group: Group, target: Target) -> tuple[Any, str]:
    """The scheduled function of a group and the name of the rule that made it."""
    for rule in RULES:
        sch = rule(group, target)
        if sch is not None:
            func = sch.mod["main"].with_attr("tirx.is_scheduled", True).without_attr("global_symbol")
            return func, rule.__name__
    raise CompileError(f"no schedule rule takes {group.name}")


def _relax_type(v: Value) -> Any:
    return relax.TensorType(v.type.physical_shape, v.type.tvm_dtype)


def _function(
    bb: Any,
    name: str,
    scheduler: _Scheduler,
    inputs: Sequence[Value],
    bundle: Sequence[Value],
    nodes: Sequence[Node],
    outputs: Sequence[Value],
) -> None:
    """Emit ``name(*inputs, bundle) -> outputs``: one kernel call a node."""
    params = [relax.Var(f"x{i}", _relax_type(v)) for i, v in enumerate(inputs)]
    weights = relax.Var("weights", relax.TupleType([_relax_type(v) for v in bundle]))
    with bb.function(name, [*params, weights]):
        with bb.dataflow():
            env: dict[str, Any] = {v.name: p for v, p in zip(inputs, params, strict=True)}
            env |= {v.name: bb.emit(relax.TupleGetItem(weights, i)) for i, v in enumerate(bundle)}
            returned = {v.name for v in outputs}
            for node in nodes:
                # what leaves the block keeps its kernel; inside, TVM makes a kernel that only copies a view of its input
                emit = bb.emit_output if returned & {v.name for v in node.outputs} else bb.emit
                args = [env[name] for name in dict.fromkeys(v.name for v in node.inputs)]
                types = [_relax_type(v) for v in node.outputs]
                made = emit(relax.call_tir(scheduler.kernel(bb, node), args, types if len(types) > 1 else types[0]))
                for i, v in enumerate(node.outputs):
                    env[v.name] = emit(relax.TupleGetItem(made, i)) if len(types) > 1 else made
            result = bb.emit_output(relax.Tuple([env[v.name] for v in outputs]))
        bb.emit_func_output(result)


def export_library(executable: Any, path: Path) -> None:
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
        executable.export_library(str(path), cc=compiler)
    except RuntimeError as e:
        raise ArtifactError(f"{compiler} failed to link the artifact: {e}") from e
