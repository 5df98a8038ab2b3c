"""Code generation for CPUs: from a graph to machine code and a plan.

Each distinct group becomes a kernel, which is found in the cache on disk (``compiled.py``) or else compiled
(``codegen.py``) and kept there. A kernel is an object file with one C function, whose name holds a hash of all that
determines the kernel but the compiler. It refers to nothing of the network that it was compiled for, so all networks
share it. When all kernels are found, TVM is not loaded.

The plan says which kernels a call runs, and where their arguments are (``planning.py``). Kernels that run on constants
alone run once, at load. The weights are not part of the code.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from convc.ir.graph import Graph
from convc.runtime.cpu.plan import Plan

from ..group import Group, extents_given
from ..identity import is_own
from ..kernels import Distinct, Kernel, distinct
from ..network import check_sizes
from ..store import Store
from .carried import SOURCES, carried
from .compiled import Compiled, find, keep
from .cost import is_worth_sharing, kernel_cycles
from .machine_code import MachineCode
from .planning import Calls
from .target import Target
from .variants import variants


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
    """Compile a graph, after all passes, to machine code. Its sizes may be open.

    Kernels are looked up in the store, and kept there. Raises ``CompileError``.
    """
    check_sizes(graph)
    found = distinct(graph)
    groups = [d for d in found if d.loop is None]
    parallel = sum(d.calls * kernel_cycles(d.group, target.machine) for d in groups) > target.network_cycles
    made = _kernels(groups, target, parallel, store)
    nodes = [(n, d) for d in groups for n in d.nodes]
    plan, network = Calls({n: made[d.name] for n, d in nodes}, {n: extents_given(n) for n, _ in nodes}).plan(graph)
    sources = [name for name in SOURCES if plan.parallel or name != "pool"]
    objects = [
        *(k.code for kernels in made.values() for k in kernels),
        *(carried(name, target, store) for name in sources),
    ]
    rules = {d.name: "loop" if d.loop is not None else made[d.name][0].rule for d in found}
    records = tuple(d.kernel(rules[d.name]) for d in found)
    return Built(MachineCode(objects, target), plan, records, tuple(n.output.name for n in network.run))


def _kernels(
    groups: Sequence[Distinct], target: Target, parallel: bool, store: Store | None
) -> dict[str, list[Compiled]]:
    """The kernels of distinct groups, by the groups' names: one for each of a group's variants.

    With ``parallel``, large ones share out their loops. Raises ``CompileError`` that names a node.
    """
    named = {d.name: {f"{d.name}_{i}": g for i, g in enumerate(variants(d.group))} for d in groups}
    found = [replace(d, name=name, group=group) for d in groups for name, group in named[d.name].items()]
    shared = {d.name: parallel and is_worth_sharing(d.group, target) for d in found}
    symbols = {d.name: symbol_of(d.group, target, shared[d.name]) for d in found}
    kept = {d.name for d in found if is_own(d.group.body)}
    there = {name: k for name, symbol in symbols.items() if name in kept and (k := find(store, symbol))}
    new: dict[str, Compiled] = {}
    if len(there) < len(found):
        from .codegen import made

        try:
            for name, kernel in made([d for d in found if d.name not in there], target, shared, symbols):
                new[name] = kernel
        finally:  # what was made before an error or an interrupt need not be made again
            keep(store, [k for name, k in new.items() if name in kept])
    return {d.name: [there.get(name) or new[name] for name in named[d.name]] for d in groups}


def symbol_of(group: Group, target: Target, shared: bool) -> str:
    """The name of the function of a group's kernel: readable, and with a hash of what determines the kernel."""
    machine = [target.mcpu, target.triple, target.threads, target.without, sorted(target.features)]
    text = json.dumps([group.key, machine, shared])
    readable = re.sub(r"\W", "_", group.name, flags=re.ASCII)[:40]
    return f"convc_{readable}_{hashlib.sha256(text.encode()).hexdigest()[:24]}"
