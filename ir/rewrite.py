"""The rewrite driver: it rebuilds a graph node by node and applies rules, which match a node together with its
producers.

A rule is a class whose docstring shows the graph before and after, with two methods. ``match(graph, node)`` returns a
``Match``, or the reason why the rule does not fire as a string, or ``None`` when the node has nothing to do with the
rule. ``rewrite(b, match, env)`` emits the replacement. The driver, not the rule, checks that nothing inside the match
is used outside it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from .builder import Builder
from .data_sizes import defined, used
from .errors import GraphError, lacking
from .graph import Graph, Node, Value
from .sizes import names

Visit = Callable[[Builder, Node, tuple[Value, ...]], "Sequence[Value] | None"]


@dataclass(frozen=True)
class Match:
    """The place where a rule fires: the root, the inner nodes that are dropped with it, and data for ``rewrite``."""

    root: Node
    inner: tuple[Node, ...] = ()
    data: Any = None


class Rule(Protocol):
    """A rewrite rule."""

    def match(self, graph: Graph, node: Node) -> Match | str | None: ...

    def rewrite(self, b: Builder, match: Match, env: Callable[[Value], Value]) -> Sequence[Value]: ...


@dataclass
class Report:
    """A record of rules that fired or did not: ``(rule, node, reason)``. An empty reason means that the rule fired."""

    entries: list[tuple[str, str, str]] = field(default_factory=list)

    def add(self, rule: str, node: Node, reason: str = "") -> None:
        self.entries.append((rule, node.output.name, reason))

    def __str__(self) -> str:
        return "\n".join(f"{rule} at '{node}': {reason or 'fired'}" for rule, node, reason in self.entries)


def rebuild(graph: Graph, visit: Visit) -> Graph:
    """Copy a graph node by node.

    ``visit`` may emit replacements of a node and return the values that take the place of its outputs.

    The node is kept when ``visit`` returns ``None``. Dead nodes and constants are dropped at the end.
    """
    b = Builder.of(graph)
    env: dict[str, Value] = {}

    for node in graph.nodes:
        inputs = tuple(env.get(v.name, v) for v in node.inputs)
        made = visit(b, node, inputs)
        if made is None:
            made = b.again(node, inputs)
        for old, new in zip(node.outputs, made, strict=True):
            if old != new:
                env[old.name] = new
    outputs = [env.get(v.name, v) for v in graph.outputs]
    return drop_dead(b.finish(outputs, graph.output_names))


def drop_dead(graph: Graph) -> Graph:
    """The graph without nodes and constants that no output depends on."""
    live = {v.name for v in graph.outputs}
    sizes: set[str] = set()
    gone: set[str] = set()
    kept: list[Node] = []
    for node in reversed(graph.nodes):
        decided = {n.name for n in defined(node)}
        if any(v.name in live for v in node.outputs) or not sizes.isdisjoint(decided):
            kept.append(node)
            live.update(v.name for v in node.inputs)
            sizes.update(used(node))
        else:
            gone |= decided
    constants = {name: c for name, c in graph.constants.items() if name in live}
    assumed = {a: about for a, about in graph.assumptions.items() if gone.isdisjoint(n.name for n in names(a.size))}
    return replace(graph, nodes=tuple(reversed(kept)), constants=constants, assumptions=assumed)


def cut(graph: Graph, outputs: Sequence[str]) -> Graph:
    """The graph that returns these of its values, which may be outputs by their names, without the inputs that they do
    not need.

    Raises ``GraphError`` for a value that the graph lacks.
    """
    known = {v.name: v for v in graph.values()} | dict(zip(graph.output_names, graph.outputs, strict=True))
    for i, name in enumerate(outputs):
        if name not in known:
            raise GraphError(f"outputs names the value {lacking(name, known)}")
        if name in outputs[:i]:
            raise GraphError(f"outputs names '{name}' twice")
    made = drop_dead(replace(graph, outputs=tuple(known[name] for name in outputs), output_names=tuple(outputs)))
    read = {v.name for n in made.nodes for v in n.inputs} | {v.name for v in made.outputs}
    return replace(made, inputs=tuple(v for v in made.inputs if v.name in read))


def apply_rules(graph: Graph, rules: Sequence[Rule], report: Report | None = None, limit: int = 20) -> Graph:
    """Apply the rules in order at every node, again and again until none fires."""
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
                made = b.again(node, inputs)
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
