"""The distinct kernels of a network, and asking the rules of a backend for the schedule of each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from convc.ir.errors import CompileError, ConvcError
from convc.ir.graph import Graph, Node

from .group import Group

Target = TypeVar("Target")


@dataclass(frozen=True)
class Kernel:
    """One compiled group: its name in the code, the rule that scheduled it, and the nodes that call it by their outputs."""

    name: str
    rule: str
    group: Group
    uses: tuple[str, ...]


@dataclass(frozen=True)
class Distinct:
    """A group that differs from all others of the network, a name for its kernel, and the nodes it computes."""

    name: str
    group: Group
    nodes: tuple[Node, ...]

    def scheduled(self, schedule: Callable[[Group], Any]) -> Any:
        """What ``schedule`` makes of the group; what it raises names the node."""
        try:
            return schedule(self.group)
        except ConvcError as e:
            if self.nodes[0].describe() not in str(e):
                e.args = (f"{self.nodes[0].describe()}: {e}",)
            raise
        except Exception as e:  # TVM raises errors of many kinds
            raise CompileError(f"{self.nodes[0].describe()} could not be compiled: {e}") from e

    def kernel(self, rule: str) -> Kernel:
        """The record of it for people to read."""
        return Kernel(self.name, rule, self.group, tuple(n.output.name for n in self.nodes))


def distinct(graph: Graph) -> list[Distinct]:
    """The distinct groups of a graph, in the order of their first use."""
    found: dict[str, tuple[Group, list[Node]]] = {}
    for node in graph.nodes:
        group = Group.of(node)
        found.setdefault(group.key, (group, []))[1].append(node)
    return [Distinct(f"k{i}_{group.name}", group, tuple(nodes)) for i, (group, nodes) in enumerate(found.values())]


def ask(rules: Sequence[Callable[[Group, Target], Any]], group: Group, target: Target) -> tuple[Any, str]:
    """The scheduled function of a group by the first rule that takes it, and the name of that rule."""
    for rule in rules:
        sch = rule(group, target)
        if sch is not None:
            return sch.mod["main"].with_attr("tirx.is_scheduled", True).without_attr("global_symbol"), rule.__name__
    raise CompileError(f"no schedule rule takes {group.name}")
