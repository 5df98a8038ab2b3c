"""Code generation for CPUs: from a graph to machine code and a plan.

Each distinct group becomes a kernel (``compiled.py``). The plan says which kernels a call runs, and where their
arguments are (``planning.py``). Kernels that run on constants alone run once, at load. The weights are not part of the
code.
"""

from __future__ import annotations

from dataclasses import dataclass

from convc.ir.graph import Graph
from convc.runtime.cpu.plan import Plan

from ..kernels import Kernel, distinct
from ..network import check_sizes
from ..store import Store
from .carried import SOURCES, carried
from .compiled import kernels
from .cost import kernel_cycles
from .machine_code import MachineCode
from .planning import Calls
from .target import Target


@dataclass(frozen=True)
class Built:
    """The result of ``build``: machine code, the plan, and the kernels.

    ``calls`` lists the nodes that a call runs, in order, by the names of their first outputs.
    """

    code: MachineCode
    plan: Plan
    kernels: tuple[Kernel, ...]
    calls: tuple[str, ...]


def build(graph: Graph, target: Target, store: Store | None = None) -> Built:
    """Compile a graph of static shapes, after all passes, to machine code.

    Kernels are looked up in the store, and kept there. Raises ``CompileError``.
    """
    check_sizes(graph)
    found = distinct(graph)
    groups = [d for d in found if d.loop is None]
    parallel = sum(d.calls * kernel_cycles(d.group, target.machine) for d in groups) > target.network_cycles
    made = kernels(groups, target, parallel, store)
    plan, network = Calls({n: made[d.name] for d in groups for n in d.nodes}).plan(graph)
    sources = [name for name in SOURCES if plan.parallel or name != "pool"]
    objects = [*(k.code for k in made.values()), *(carried(name, target, store) for name in sources)]
    rules = {d.name: "loop" if d.loop is not None else made[d.name].rule for d in found}
    records = tuple(d.kernel(rules[d.name]) for d in found)
    return Built(MachineCode(objects, target), plan, records, tuple(n.output.name for n in network.run))
