"""Evaluate what follows from constants alone."""

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
"""A result of more bytes than this, and than its operands, is left to be computed at load."""


def fold_constants(graph: Graph) -> Graph:
    """``add(const, const) -> const``, by onnx's reference implementation. Large results are made at load instead.

    A tensor without elements is known too, whatever makes it: no kernel ever computes one.
    """

    folding = Folding()

    def visit(b: Builder, node: Node, inputs: tuple[Value, ...]) -> Sequence[Value] | None:
        if not any(v.type.numel for v in node.outputs):
            return [b.constant(np.zeros(v.type.sizes, v.type.numpy_dtype), v.name) for v in node.outputs]
        arrays = [b.constant_of(v) if v.type.numel else np.zeros(v.type.sizes, v.type.numpy_dtype) for v in inputs]
        size = sum(v.type.nbytes for v in node.outputs)
        # onnx's reference is wrong about some poolings and normalisations; about pointwise ops and moving data it is
        # not
        plain = (node.op.elementwise or node.op.injective) and not isinstance(node.op, Relayout)
        if not plain or not inputs or size > max(LIMIT, sum(v.type.nbytes for v in inputs)):
            return None
        known = [a for a in arrays if a is not None]
        if len(known) < len(arrays):
            return None
        folding.add(node.describe(), sum(a.nbytes for a in known), size)
        try:
            made = evaluate(node.op, known, [v.type for v in node.outputs])
        except UnsupportedOpError:
            return None  # compiled like any other node, and run at load
        return [b.constant(a, v.name) for a, v in zip(made, node.outputs, strict=True)]

    return rebuild(graph, visit)
