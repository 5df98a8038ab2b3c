"""Move data as integers where it is dequantized, moved, and quantized again."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ..builder import Builder
from ..graph import Graph, Node, Value
from ..ops.concat import Concat
from ..ops.quantize import Dequantize, Quantize
from ..rewrite import Match, Report, apply_rules

LEAST_SCALE = 2.0**-100
"""The least scale whose products with integers of 8 bits are exact, being no subnormal numbers."""


def quantized_moves(graph: Graph, report: Report | None = None) -> Graph:
    """Apply the rules until none fires."""
    return apply_rules(graph, (QuantizedAgain(), MovedQuantized(), QuantizedConcat()), report)


class QuantizedAgain:
    """``quantize(dequantize(x, s, z), s, z) => x`` for 8-bit x.

    ``(x - z) * s / s`` is rounded twice, and off by less than a half.
    """

    def match(self, graph: Graph, node: Node) -> Match | str | None:
        held = graph.producers.get(node.inputs[0].name) if isinstance(node.op, Quantize) else None
        if held is None or not isinstance(held.op, Dequantize):
            return None
        return Match(node, data=held) if _alike(graph, node, held) else "they have other scales or zero points"

    def rewrite(self, b: Builder, match: Match, env: Callable[[Value], Value]) -> Sequence[Value]:
        return [env(match.data.inputs[0])]


class MovedQuantized:
    """``move(dequantize(x, s, z)) => dequantize(move(x), s, z)`` for an op that only moves or chooses elements
    (``Op.moves_elements``).

    All readers must quantize the result with the same scale and zero point.
    """

    def match(self, graph: Graph, node: Node) -> Match | str | None:
        if not node.op.moves_elements or len(node.outputs) > 1:
            return None
        held = graph.producers.get(node.inputs[0].name)
        readers = graph.consumers[node.output.name]
        if held is None or not isinstance(held.op, Dequantize) or not readers or node.output.name in graph.output_set:
            return None
        alike = all(isinstance(n.op, Quantize) and _alike(graph, n, held) for n in readers)
        return Match(node, data=held) if alike else "it is not quantized alike"

    def rewrite(self, b: Builder, match: Match, env: Callable[[Value], Value]) -> Sequence[Value]:
        x, *how = map(env, match.data.inputs)
        return [b.emit(match.data.op, b.emit(match.root.op, x), *how)]


class QuantizedConcat:
    """``quantize(concat(dequantize(x), ...)) => concat(quantize(dequantize(x)), ...)`` for a single scale."""

    def match(self, graph: Graph, node: Node) -> Match | str | None:
        joined = graph.producers.get(node.inputs[0].name) if isinstance(node.op, Quantize) else None
        if joined is None or not isinstance(joined.op, Concat):
            return None
        held = [graph.producers.get(v.name) for v in joined.inputs]
        if not node.inputs[1].type.is_single or not all(n is not None and isinstance(n.op, Dequantize) for n in held):
            return "not all that it joins was quantized, or it has several scales"
        return Match(node, (joined,), joined)

    def rewrite(self, b: Builder, match: Match, env: Callable[[Value], Value]) -> Sequence[Value]:
        how = [env(v) for v in match.root.inputs[1:]]
        return [b.emit(match.data.op, *(b.emit(match.root.op, env(v), *how) for v in match.data.inputs))]


def _alike(graph: Graph, quantize: Node, dequantize: Node) -> bool:
    """Whether ``quantize`` undoes ``dequantize``: both have the same 8-bit dtype, and the same constant scale and zero
    point, a single positive number and a single integer.
    """
    x, y = dequantize.inputs[0], quantize.output
    if x.type.dtype != y.type.dtype or x.type.dtype not in ("i8", "u8") or dequantize.output.type.dtype != "f32":
        return False
    arrays = [[graph.constant_of(v) for v in n.inputs[1:]] for n in (quantize, dequantize)]
    if any(a is None or a.size != 1 for some in arrays for a in some):
        return False
    (s, *z), (t, *w) = ([np.asarray(a).item() for a in some] for some in arrays)
    return bool(s == t >= LEAST_SCALE and (z or [0]) == (w or [0]))
