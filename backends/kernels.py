"""The distinct kernels of a network, and the search for the rule that schedules each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from convc.ir.errors import CompileError, ConvcError
from convc.ir.graph import Graph, Node
from convc.ir.ops.loop import Loop
from convc.ir.ops.while_loop import While
from convc.ir.sizes import typical

from .group import Group
from .network import computed

Target = TypeVar("Target")


@dataclass(frozen=True)
class Kernel:
    """One compiled group: its name in the code, the rule that scheduled it, and the outputs of its nodes."""

    name: str
    rule: str
    group: Group
    uses: tuple[str, ...]

    def __repr__(self) -> str:
        ops = " ".join(dict.fromkeys(n.op.name for n in self.group.body.nodes))
        return f"<Kernel {self.name} ({ops}) by the rule {self.rule}, for {', '.join(self.uses[:3])}{_more(self.uses)}>"


def _more(uses: Sequence[str]) -> str:
    return f" and {len(uses) - 3} more" if len(uses) > 3 else ""


@dataclass(frozen=True)
class Distinct:
    """A group that occurs in a network, with a name for its kernel and all the nodes that it computes."""

    name: str
    group: Group
    nodes: tuple[Node, ...]
    calls: int
    """How often a call of the network runs the kernel."""

    @property
    def loop(self) -> Loop | None:
        """The loop, when that is what the group is: it calls the kernels of its body."""
        op = self.nodes[0].op
        return op if isinstance(op, Loop) else None

    def attempt(self, work: Callable[[Group], Any]) -> Any:
        """The result of some work for the group; errors that it raises are made to name the node.

        Raises ``CompileError`` for errors that are not convc's own.
        """
        try:
            return work(self.group)
        except ConvcError as e:
            e.within(self.nodes[0].describe())
            raise
        except Exception as e:  # TVM raises errors of many kinds
            raise CompileError(f"{self.nodes[0].describe()} could not be compiled: {e}") from e

    def kernel(self, rule: str) -> Kernel:
        """The record of this kernel for people to read."""
        return Kernel(self.name, rule, self.group, tuple(n.output.name for n in self.nodes))


def distinct(graph: Graph) -> list[Distinct]:
    """The distinct groups of a graph and of the bodies of its loops, in the order of their first use.

    The groups of a body come before the loop. Nodes whose results have no elements need none.
    """
    found: dict[str, tuple[Group, list[Node], list[int]]] = {}

    def visit(graph: Graph, times: int) -> None:
        for node in graph.nodes:
            if isinstance(node.op, While):
                visit(node.op.body, times * typical(node.op.sizes[-1]))
        for node in computed(graph):
            calls = 0 if node.output.name in graph.at_load else times
            if isinstance(node.op, Loop):
                visit(node.op.body, calls * typical(node.op.steps))
            group = Group.of(node)
            _, nodes, counts = found.setdefault(group.key, (group, [], []))
            nodes.append(node)
            counts.append(calls)

    visit(graph, 1)
    return [
        Distinct(f"k{i}_{group.name}", group, tuple(nodes), sum(counts))
        for i, (group, nodes, counts) in enumerate(found.values())
    ]


def ask(rules: Sequence[Callable[[Group, Target], Any]], group: Group, target: Target) -> tuple[Any, str]:
    """The scheduled function of a group, by the first rule that takes it, and the name of that rule.

    Raises ``CompileError`` when no rule takes it.
    """
    for rule in rules:
        sch = rule(group, target)
        if sch is not None:
            return sch.mod["main"].with_attr("tirx.is_scheduled", True).without_attr("global_symbol"), rule.__name__
    raise CompileError(f"no schedule rule takes {group.name}")
