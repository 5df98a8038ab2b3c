"""Evaluate nodes that depend on constants only."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..builder import Builder
from ..errors import UnsupportedOpError
from ..evaluate import evaluate
from ..graph import Graph, Node, Value
from ..limits import Folding
from ..ops.relayout import Relayout
from ..rewrite import rebuild

LIMIT = 1 << 20
"""A result of more bytes than this is computed at load, unless it has fewer bytes than its operands."""


def fold_constants(graph: Graph) -> Graph:
    """``add(const, const) -> const``, by onnx's reference implementation. Large results are computed at load instead.

    A tensor without elements is a constant whatever its producer: no kernel computes it.
    """

    folding = Folding()

    def visit(b: Builder, node: Node, inputs: tuple[Value, ...]) -> Sequence[Value] | None:
        if not all(v.type.is_static for v in node.outputs):
            return None
        if all(v.type.is_empty for v in node.outputs):
            return [b.constant(np.zeros(v.type.sizes, v.type.numpy_dtype), v.name) for v in node.outputs]
        size = sum(v.type.nbytes for v in node.outputs)
        # onnx's reference is wrong for some poolings and normalizations, but right for pointwise ops and data movement
        plain = (node.op.elementwise or node.op.injective) and not isinstance(node.op, Relayout)
        if not plain or not inputs or not node.is_static:
            return None
        known = [a for v in inputs if (a := _array(b, v)) is not None]
        if len(known) < len(inputs) or size > max(LIMIT, sum(v.type.nbytes for v in inputs)):
            return None
        folding.add(node.describe(), sum(a.nbytes for a in known), size)
        try:
            made = evaluate(node.op, known, [v.type for v in node.outputs])
        except UnsupportedOpError:
            return None  # compiled like any other node, and run at load
        return [b.constant(a, v.name) for a, v in zip(made, node.outputs, strict=True)]

    return rebuild(graph, visit)


def _array(b: Builder, v: Value) -> np.ndarray | None:
    """The elements of a value that is constant, as one without elements is; ``None`` for others."""
    if v.type.is_static and v.type.is_empty:
        return np.zeros(v.type.sizes, v.type.numpy_dtype)
    return b.constant_of(v)
