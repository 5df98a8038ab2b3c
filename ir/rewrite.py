"""The rewrite driver: walks a graph, rebuilding it, and applies rules that match a node with what leads to it.

A rule is a class with a docstring that shows before and after, and two methods: ``match(graph, node)`` returns what it
found, or a reason string why it does not fire (``None``: the node is of no interest); ``rewrite(b, match)`` emits the
replacement. The driver, not the rule, checks that nothing inside the match is used outside it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from .builder import Builder
from .graph import Graph, Node, Value

Visit = Callable[[Builder, Node, tuple[Value, ...]], "Sequence[Value] | None"]


@dataclass(frozen=True)
class Match:
    """What a rule found: the inner nodes it will drop besides the root, and whatever ``rewrite`` needs."""

    root: Node
    inner: tuple[Node, ...] = ()
    data: Any = None


class Rule(Protocol):
    """One rewrite."""

    def match(self, graph: Graph, node: Node) -> Match | str | None: ...

    def rewrite(self, b: Builder, match: Match, env: Callable[[Value], Value]) -> Sequence[Value]: ...


@dataclass
class Report:
    """Why rules fired or did not: ``(rule, node, reason)``; an empty reason means that it fired."""

    entries: list[tuple[str, str, str]] = field(default_factory=list)

    def add(self, rule: str, node: Node, reason: str = "") -> None:
        self.entries.append((rule, node.output.name, reason))

    def __str__(self) -> str:
        return "\n".join(f"{rule} at '{node}': {reason or 'fired'}" for rule, node, reason in self.entries)


def rebuild(graph: Graph, visit: Visit) -> Graph:
    """Copy a graph node by node; ``visit`` may emit replacements and return the values that stand for the outputs.

    Returning ``None`` keeps the node. Dead nodes and constants are dropped at the end.
    """
    b = Builder(graph.name)
    b.reserve([v.name for v in graph.values()])
    b.inputs = list(graph.inputs)
    b.constants = dict(graph.constants)
    env: dict[str, Value] = {}

    for node in graph.nodes:
        inputs = tuple(env.get(v.name, v) for v in node.inputs)
        made = visit(b, node, inputs)
        if made is None:
            made = b.reinfer(node, inputs)
        for old, new in zip(node.outputs, made, strict=True):
            if old != new:
                env[old.name] = new
    outputs = [env.get(v.name, v) for v in graph.outputs]
    return drop_dead(b.finish(outputs, graph.output_names))


def drop_dead(graph: Graph) -> Graph:
    """The graph without nodes and constants that no output depends on."""
    live = {v.name for v in graph.outputs}
    kept: list[Node] = []
    for node in reversed(graph.nodes):
        if any(v.name in live for v in node.outputs):
            kept.append(node)
            live.update(v.name for v in node.inputs)
    constants = {name: c for name, c in graph.constants.items() if name in live}
    return Graph(graph.name, graph.inputs, tuple(reversed(kept)), graph.outputs, constants, graph.output_names)


def apply_rules(graph: Graph, rules: Sequence[Rule], report: Report | None = None, limit: int = 20) -> Graph:
    """Apply rules in order at every node, over and over until none fires."""
    report = report if report is not None else Report()
    for _ in range(limit):
        matches = _find(graph, rules, report)
        if not matches:
            return graph
        dropped = {n.output.name for rule, m in matches.values() for n in m.inner}
        env: dict[str, Value] = {}

        def visit(
            b: Builder,
            node: Node,
            inputs: tuple[Value, ...],
            matches: Any = matches,
            dropped: Any = dropped,
            env: Any = env,
        ) -> Sequence[Value] | None:
            if node.output.name in matches:
                rule, m = matches[node.output.name]
                made: Sequence[Value] = rule.rewrite(b, m, lambda v: env.get(v.name, v))
            elif node.output.name in dropped:
                return node.outputs  # its only readers are rewritten
            else:
                made = b.reinfer(node, inputs)
            env.update({old.name: new for old, new in zip(node.outputs, made, strict=True)})
            return made

        graph = rebuild(graph, visit)
    return graph


def _find(graph: Graph, rules: Sequence[Rule], report: Report) -> dict[str, tuple[Rule, Match]]:
    """Matches that do not overlap, by the name of their root's output."""
    found: dict[str, tuple[Rule, Match]] = {}
    claimed: set[str] = set()
    for node in graph.nodes:
        for rule in rules:
            m = rule.match(graph, node)
            if m is None:
                continue
            name = type(rule).__name__
            if isinstance(m, str):
                report.add(name, node, m)
                continue
            nodes = {n.output.name for n in (m.root, *m.inner)}
            escaped = _used_outside(graph, m, nodes)
            if escaped:
                report.add(name, node, f"'{escaped}' is used outside the match")
            elif nodes & claimed:
                continue  # the next round sees it again
            else:
                report.add(name, node)
                claimed |= nodes
                found[node.output.name] = (rule, m)
                break
    return found


def _used_outside(graph: Graph, m: Match, nodes: set[str]) -> str:
    for n in m.inner:
        for v in n.outputs:
            if v.name in graph.output_set or any(c.output.name not in nodes for c in graph.consumers[v.name]):
                return v.name
    return ""
