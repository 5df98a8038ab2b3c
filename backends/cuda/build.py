"""Code generation for GPUs: from a graph to compiled modules and the plan of their launches.

Each distinct group is scheduled once for each GPU.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from convc.ir.graph import Graph, Node
from convc.ir.limits import check
from convc.runtime.cuda.plan import Plan, Start
from convc.runtime.offsets import Lifetime, assign_offsets
from convc.runtime.place import Place

from ..group import Group
from ..kernels import Kernel, ask, distinct
from ..network import Live, Network, check_sizes
from .arch import Architecture
from .gpu import Gpu
from .launch import DeviceCode
from .lower import lower
from .nvrtc import Compiled, compile_source, require
from .rules import RULES


@dataclass(frozen=True)
class Variant:
    """A network scheduled for one GPU: the plan of its launches, the source of each module, and its kernels."""

    plan: Plan
    sources: tuple[str, ...]
    kernels: tuple[Kernel, ...]


@dataclass(frozen=True)
class Code:
    """A network compiled for one architecture: its variant, and the compiled module of each source."""

    variant: Variant
    modules: tuple[Compiled, ...]


def build(graph: Graph, architectures: Sequence[Architecture]) -> dict[str, Code]:
    """Compile a graph of static shapes, after all passes, for each architecture; returns the code by architecture name.

    NVRTC compiles one group while the next is scheduled. Raises ``CompileError`` when no rule takes a group, or when a
    package is missing.
    """
    check_sizes(graph)
    require()  # raises before minutes of scheduling
    variants: dict[str, Variant] = {}
    pending: dict[str, list[Future[Compiled]]] = {}
    with ThreadPoolExecutor(1) as compiler:
        try:
            for gpu in dict.fromkeys(a.gpu for a in architectures):
                same = [a.name for a in architectures if a.gpu == gpu]
                for name in same:
                    pending[name] = []

                def submit(name: str, source: str, archs: Sequence[str] = tuple(same)) -> None:
                    for arch in archs:
                        pending[arch].append(compiler.submit(compile_source, source, arch, name))

                variants |= dict.fromkeys(same, variant(graph, gpu, submit))
            return {a.name: Code(variants[a.name], tuple(f.result() for f in pending[a.name])) for a in architectures}
        except BaseException:
            compiler.shutdown(cancel_futures=True)
            raise


def variant(graph: Graph, gpu: Gpu, ready: Callable[[str, str], object] = lambda name, source: None) -> Variant:
    """Schedule a graph for one GPU.

    ``ready`` is called with the name and the source of each module as soon as it is made.
    """
    codes: dict[str, DeviceCode] = {}
    modules: dict[str, int] = {}
    sources: list[str] = []
    kernels: list[Kernel] = []
    for found in distinct(graph):

        def scheduled(group: Group, name: str = found.name) -> tuple[DeviceCode, str]:
            func, rule = ask(RULES, group, gpu)
            return lower(func, gpu, name), rule

        code, rule = found.attempt(scheduled)
        kernels.append(found.kernel(rule))
        codes |= {n.output.name: code for n in found.nodes}
        if code.launches:
            modules |= {n.output.name: len(sources) for n in found.nodes}
            sources.append(code.source)
            ready(found.name, code.source)
    return Variant(_plan(graph, codes, modules), tuple(sources), tuple(kernels))


def _plan(graph: Graph, codes: Mapping[str, DeviceCode], modules: Mapping[str, int]) -> Plan:
    network = Network(graph)

    def starts(nodes: Sequence[Node], values: Sequence[Live], start: Place) -> tuple[tuple[Start, ...], int]:
        """The launches of nodes whose values lie after a place, and the size of all values and scratch memory."""
        found = []
        scratch = [Lifetime(codes[n.output.name].scratch, i, i) for i, n in enumerate(nodes)]
        offsets, size = assign_offsets([*(v.lifetime() for v in values), *scratch])
        for n, scratch_at in zip(nodes, offsets[len(values) :], strict=True):
            arguments = [start.after(offsets[int(p.at)]) if p.base == "value" else p for p in network.arguments(n)]
            for launch in codes[n.output.name].launches:
                places = tuple(_place(i, arguments, start.after(scratch_at)) for i in launch.arguments)
                module = modules[n.output.name]
                found.append(Start(module, launch.kernel, launch.grid, launch.block, launch.shared, places))
        return tuple(found), size

    load, loading = starts(network.load, network.at_load, Place("packed", network.packed))
    run, workspace = starts(network.run, network.in_call, Place("workspace", 0))
    check("workspace_bytes", workspace, f"a call of '{graph.name}'")
    check("constant_bytes", network.packed + loading, f"'{graph.name}', its weights as the code reads them,")
    return Plan(workspace, network.packed, network.packed + loading, tuple(network.copies), load, run)


def _place(argument: int, arguments: Sequence[Place], scratch: Place) -> Place:
    """The place of a parameter of a launch; see ``Launch.arguments``."""
    return arguments[argument] if argument >= 0 else scratch.after(-1 - argument)
