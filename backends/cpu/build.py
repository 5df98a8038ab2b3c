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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from convc.ir.graph import Graph
from convc.runtime.cpu.plan import Plan

from ..group import Group, body_of, extents_given
from ..identity import is_own
from ..kernels import Distinct, Kernel, distinct
from ..network import check_sizes
from ..store import Store
from .carried import SOURCES, carried
from .compiled import Compiled, find, keep
from .cost import kernel_cycles
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
    cycles = {d.name: max(kernel_cycles(Group(body_of(n)), target.machine) for n in d.nodes) for d in groups}
    parallel = sum(d.calls * cycles[d.name] for d in groups) > target.network_cycles
    shared = {d.name: parallel and cycles[d.name] > target.launch_cycles for d in groups}
    made = _kernels(groups, target, shared, store)
    nodes = [(n, d) for d in groups for n in d.nodes]
    plan, network = Calls({n: made[d.name] for n, d in nodes}, {n: extents_given(n) for n, _ in nodes}).plan(graph)
    sources = [name for name in SOURCES if plan.parallel or name != "pool"]
    compiled = {k.symbol: k for kernels in made.values() for k in kernels}.values()
    objects = [*(k.code for k in compiled), *(carried(name, target, store) for name in sources)]
    rules = {d.name: "loop" if d.loop is not None else made[d.name][0].rule for d in found}
    records = tuple(d.kernel(rules[d.name]) for d in found)
    return Built(MachineCode(objects, target), plan, records, tuple(n.output.name for n in network.run))


LAST = 1 << 62
"""The cost of a kernel that is called only where the sizes allow no other."""


def _kernels(
    groups: Sequence[Distinct], target: Target, shared: Mapping[str, bool], store: Store | None
) -> dict[str, list[Compiled]]:
    """The kernels of distinct groups, by the groups' names: one for each of a group's variants.

    Where each of them needs planes or rows of some size, there is one more that takes all sizes. ``shared`` says of
    each group whether its kernels share out their loops among threads. Raises ``CompileError`` that names a node.
    """
    wanted = {d.name: [replace(d, group=g) for g in variants(d.group)] for d in groups}
    made = _compiled(wanted, target, shared, store)
    narrow = {d.name: [d] for d in groups if all(k.needs for k in made[d.name])}
    for name, kernels in _compiled(narrow, target, shared, store, plain=True).items():
        made[name] += (replace(k, cost=LAST) for k in kernels)
    return made


def _compiled(
    groups: Mapping[str, Sequence[Distinct]],
    target: Target,
    shared: Mapping[str, bool],
    store: Store | None,
    plain: bool = False,
) -> dict[str, list[Compiled]]:
    """The kernels of groups, in order, by names. With ``plain`` the rule that takes every group schedules them."""
    wanted = {name: {symbol_of(v.group, target, shared[name], plain): v for v in some} for name, some in groups.items()}
    all_wanted = {symbol: v for some in wanted.values() for symbol, v in some.items()}  # groups share small variants
    kept = {symbol for symbol, d in all_wanted.items() if is_own(d.group.body)}
    there = {symbol: k for symbol in all_wanted if symbol in kept and (k := find(store, symbol))}
    new: dict[str, Compiled] = {}
    if len(there) < len(all_wanted):
        from .codegen import made

        missing = {symbol: (v, shared[v.name]) for symbol, v in all_wanted.items() if symbol not in there}
        try:
            for kernel in made(missing, target, plain):
                new[kernel.symbol] = kernel
        finally:  # what was made before an error or an interrupt need not be made again
            keep(store, [k for symbol, k in new.items() if symbol in kept])
    return {name: [there.get(symbol) or new[symbol] for symbol in some] for name, some in wanted.items()}


def symbol_of(group: Group, target: Target, shared: bool, plain: bool = False) -> str:
    """The name of the function of a group's kernel: readable, and with a hash of what determines the kernel."""
    machine = [target.mcpu, target.triple, target.threads, target.without, sorted(target.features)]
    text = json.dumps([group.key, machine, shared, *(["plain"] if plain else [])])
    readable = re.sub(r"\W", "_", group.name, flags=re.ASCII)[:40]
    return f"convc_{readable}_{hashlib.sha256(text.encode()).hexdigest()[:24]}"
