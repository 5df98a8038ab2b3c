"""Compute variances that a model spells out as a difference of large numbers in a way that keeps their digits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from ..builder import Builder
from ..graph import Graph, Node, Value
from ..ops.binary import Mul, Pow, Sub
from ..ops.reduce import ReduceMean
from ..rewrite import Match, Report, apply_rules


def recognise_variance(graph: Graph, report: Report | None = None) -> Graph:
    """Apply the rule until it fires no more. ``report`` records where it fired, and why it did not elsewhere."""
    return apply_rules(graph, (VarianceOfSquares(),), report)


class VarianceOfSquares:
    """``mean(x * x) - mean(x) * mean(x) => mean((x - mean(x)) * (x - mean(x)))``.

    Both are the variance. The first has no digits left where the mean is large. Normalizations that other programs
    wrote out are often of this form, such as the bodies of functions of older ONNX versions.
    """

    def match(self, graph: Graph, node: Node) -> Match | str | None:
        if not isinstance(node.op, Sub) or not node.output.type.is_float:
            return None
        whole, root = graph.producers.get(node.inputs[0].name), _root(graph, node.inputs[1])
        mean = graph.producers.get(root.name) if root else None
        if whole is None or mean is None or not isinstance(whole.op, ReduceMean) or not isinstance(mean.op, ReduceMean):
            return None
        x = _root(graph, whole.inputs[0])
        if x is None:
            return None
        if x != mean.inputs[0] or whole.op != mean.op:
            return f"'{mean.output.name}' is not the mean of '{x.name}' over the same axes"
        return Match(node, (), (x, whole.op))

    def rewrite(self, b: Builder, match: Match, env: Callable[[Value], Value]) -> Sequence[Value]:
        x, op = match.data
        centred = b.emit(Sub(), env(x), b.emit(replace(op, keepdims=True), env(x)))
        return [b.emit(op, b.emit(Mul(), centred, centred), names=[match.root.output.name])]


def _root(graph: Graph, value: Value) -> Value | None:
    """The value whose square this value is."""
    node = graph.producers.get(value.name)
    if node is None:
        return None
    if isinstance(node.op, Mul) and node.inputs[0] == node.inputs[1]:
        return node.inputs[0]
    if isinstance(node.op, Pow):
        exponent = graph.constant_of(node.inputs[1])
        return node.inputs[0] if exponent is not None and exponent.size and (exponent == 2).all() else None
    return None
