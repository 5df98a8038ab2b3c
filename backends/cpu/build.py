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
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from operator import index

from convc.ir.graph import Graph, Node
from convc.ir.sizes import Sizes
from convc.runtime.cpu.plan import Plan

from ..group import Group, body_of, extents_given
from ..identity import is_own
from ..kernels import Distinct, Kernel, distinct
from ..network import check_sizes
from ..store import Store
from .carried import SOURCES, carried
from .compiled import Compiled, chosen, find, keep, overlaps
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
    found, shared = _by_worth(distinct(graph), target)
    groups = [d for d in found if d.loop is None]
    given = {n: extents_given(n) for d in groups for n in d.nodes}
    made = _kernels(groups, target, shared, store, given)
    called = {n: _called(made[d.name], given[n]) for d in groups for n in d.nodes}
    plan, network = Calls(called, given, lambda n: n in called and _overlaps(called[n], given[n])).plan(graph)
    sources = [name for name in SOURCES if plan.parallel or name != "pool"]
    compiled = {k.symbol: k for kernels in called.values() for k in kernels}.values()
    objects = [*(k.code for k in compiled), *(carried(name, target, store) for name in sources)]
    rules = {d.name: "loop" if d.loop is not None else made[d.name][0].rule for d in found}
    records = tuple(d.kernel(rules[d.name]) for d in found)
    return Built(MachineCode(objects, target), plan, records, tuple(n.output.name for n in network.run))


def _by_worth(found: Sequence[Distinct], target: Target) -> tuple[list[Distinct], dict[str, bool]]:
    """The groups, and of each whether its kernels share out their loops among threads, by name.

    A group becomes two where some of its nodes are large enough for that and others are not.
    """
    groups = [d for d in found if d.loop is None]
    cycles = {n: kernel_cycles(Group(body_of(n)), target.machine) for d in groups for n in d.nodes}
    total = sum(d.calls / len(d.nodes) * sum(cycles[n] for n in d.nodes) for d in groups)
    split: list[Distinct] = []
    shared: dict[str, bool] = {}
    for d in found:
        if d.loop is not None:
            split.append(d)
            continue
        least = target.launch_cycles if total > target.network_cycles else math.inf
        large, small = ([n for n in d.nodes if (cycles[n] > least) is worth] for worth in (True, False))
        parts = [(d.name, large, True), (f"{d.name}_small" if large else d.name, small, False)]
        for name, nodes, worth in parts:
            if nodes:
                split.append(replace(d, name=name, nodes=tuple(nodes)))
                shared[name] = worth
    return split, shared


LAST = 1 << 62
"""The cost of a kernel that is called only where the sizes allow no other."""


def _called(kernels: Sequence[Compiled], extents: Sizes) -> Sequence[Compiled]:
    """The kernels of which a call with these extents runs one: a single one where the extents are known."""
    if not all(isinstance(e, int) for e in extents):
        return kernels
    best = chosen(kernels, tuple(map(index, extents)))
    return kernels if best is None else [best]


def _overlaps(kernels: Sequence[Compiled], extents: Sizes) -> bool:
    known = all(isinstance(e, int) for e in extents)
    return known and any(overlaps(k, tuple(map(index, extents))) for k in kernels)


def _kernels(
    groups: Sequence[Distinct],
    target: Target,
    shared: Mapping[str, bool],
    store: Store | None,
    given: Mapping[Node, Sizes],
) -> dict[str, list[Compiled]]:
    """The kernels of distinct groups, by the groups' names: one for each of a group's variants.

    Where each of them needs planes or rows of some size that a node, with the extents that it is ``given``, may lack,
    there is one more that takes all sizes. ``shared`` says of each group whether its kernels share out their loops
    among threads. Raises ``CompileError`` that names a node.
    """
    wanted = {d.name: [replace(d, group=g) for g in variants(d.group, d.nodes, target)] for d in groups}
    made = _compiled(wanted, target, shared, store)
    narrow = {d.name: [d] for d in groups if any(_may_need_more(made[d.name], given[n]) for n in d.nodes)}
    for name, kernels in _compiled(narrow, target, shared, store, plain=True).items():
        made[name] += (replace(k, cost=LAST) for k in kernels)
    return made


def _may_need_more(kernels: Sequence[Compiled], extents: Sizes) -> bool:
    """Whether a call with these extents may need a kernel that takes all sizes."""
    if all(isinstance(e, int) for e in extents):
        return chosen(kernels, tuple(map(index, extents))) is None
    return all(k.needs for k in kernels)


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
