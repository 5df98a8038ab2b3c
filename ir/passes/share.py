"""Eliminate common subexpressions: of equal constants and equal nodes, one is kept."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ..builder import Builder
from ..graph import Constant, Graph, Node, Value
from ..rewrite import rebuild


def share(graph: Graph) -> Graph:
    """``%a = tanh(%x); %b = tanh(%x)`` keeps one of the two; so do constants of equal type and content."""
    glances = Counter(c.glance for c in graph.constants.values())
    first: dict[Constant, str] = {}
    same = {name: first.setdefault(c, name) for name, c in graph.constants.items() if glances[c.glance] > 1}
    swap = {name: Value(to, graph.constants[to].type) for name, to in same.items() if to != name}
    if swap:
        nodes = tuple(replace(n, inputs=tuple(swap.get(v.name, v) for v in n.inputs)) for n in graph.nodes)
        graph = replace(graph, nodes=nodes, outputs=tuple(swap.get(v.name, v) for v in graph.outputs))
    seen: dict[Any, tuple[Value, ...]] = {}

    def visit(b: Builder, node: Node, inputs: tuple[Value, ...]) -> Sequence[Value] | None:
        key = (node.op, inputs)
        if key in seen:
            return seen[key]
        if all(a.type == c.type for a, c in zip(inputs, node.inputs, strict=True)):
            seen[key] = node.outputs
        return None

    return rebuild(graph, visit)
