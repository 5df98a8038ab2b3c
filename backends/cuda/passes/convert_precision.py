"""Compute in float16 what a graph computes in float32; the ops themselves keep their sums in float32."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from convc.ir.builder import Builder, infer_types
from convc.ir.errors import ShapeError
from convc.ir.graph import Constant, Graph, Node, Value
from convc.ir.op import Op
from convc.ir.ops.binary import Mul
from convc.ir.ops.cast import Cast
from convc.ir.rewrite import drop_dead

WIDE, NARROW = "f32", "f16"
LARGEST = float(np.finfo(np.float16).max)
"""The largest finite float16."""


def convert_precision(graph: Graph) -> Graph:
    """``y = conv(x, w) -> y = cast(conv(cast(x), w'))``: f32 becomes f16, except in the graph's inputs and outputs.

    Ops that need the range of float32 stay in it, as does what is computed from their results up to the next
    convolution or matrix product, so that a norm or a softmax written out in many ops is computed in float32 as a
    whole. Constants are rounded here. An op with a constant too large for float16 stays in float32, as does one that
    does not take float16.
    """
    return _Converter(graph).run()


class _Converter:
    """The state of one run: each value in the dtypes it exists in, and the values that only float32 holds safely."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.b = Builder.of(graph)
        self.made: dict[tuple[str, str], Value] = {}
        """The value of the new graph by the name of an old value and a dtype."""
        self.held: dict[str, Value] = {v.name: v for v in graph.values() if v.name in graph.constants}
        """The value of the new graph that was made first for an old value, by its name."""
        self.held |= {v.name: v for v in graph.inputs}
        self.wide: set[str] = set()
        """The names of values that float16 may not hold."""

    def run(self) -> Graph:
        for node in self.graph.nodes:
            self.visit(node)
        outputs = [self.value(v, v.type.dtype) for v in self.graph.outputs]
        return drop_dead(self.b.finish(outputs, self.graph.output_names))

    def visit(self, node: Node) -> None:
        narrow = tuple(self.value(v, NARROW) for v in node.inputs) if self.narrows(node) else ()
        if narrow and _fits(node.op, narrow):
            made: Sequence[Value] = self.b.reinfer(node, narrow)
        else:
            made = self.b.reinfer(node, [self.value(v, v.type.dtype) for v in node.inputs])
            if _needs_range(node) or any(v.name in self.wide for v in node.inputs) or self.overflows(node):
                self.wide.update(v.name for v in node.outputs)
        self.held |= {old.name: new for old, new in zip(node.outputs, made, strict=True)}

    def narrows(self, node: Node) -> bool:
        """Whether a node should be computed in float16, if its op takes that."""
        if not any(v.type.dtype == WIDE for v in node.inputs) or self.overflows(node) or isinstance(node.op, Cast):
            return False
        if node.op.contraction:
            return True
        return not _needs_range(node) and not any(v.name in self.wide for v in node.inputs)

    def overflows(self, node: Node) -> bool:
        """Whether a constant of a node holds a finite number that float16 does not."""
        constants = [self.graph.constants[v.name] for v in node.inputs if v.name in self.graph.constants]
        return any(_largest(c) > LARGEST for c in constants if c.type.dtype == WIDE)

    def value(self, v: Value, dtype: str) -> Value:
        """The new graph's value for an old one, in ``dtype`` if the old one is float32."""
        held = self.held[v.name]
        if v.type.dtype != WIDE or held.type.dtype == dtype:
            return held
        key = (v.name, dtype)
        if key not in self.made:
            constant = self.graph.constants.get(v.name)
            if constant is not None and constant.has_data:
                self.made[key] = self.b.constant(_narrowed(constant), f"{v.name}.{dtype}")
            else:
                self.made[key] = self.b.emit(Cast(dtype), held, names=[f"{v.name}.{dtype}"])
        return self.made[key]


def _needs_range(node: Node) -> bool:
    """Whether results of a node may leave the range of float16, as squares do."""
    return node.op.needs_range or (isinstance(node.op, Mul) and node.inputs[0] == node.inputs[1])


def _fits(op: Op, inputs: Sequence[Value]) -> bool:
    """Whether an op takes these operands and gives no float32 result for them."""
    try:
        return all(t.dtype != WIDE for t in infer_types(op, inputs))
    except ShapeError:
        return False


def _largest(constant: Constant) -> float:
    """The largest magnitude of the finite elements; 0 where the data is absent or empty."""
    if not constant.has_data or not constant.array.size:
        return 0.0
    array = constant.array
    return float(np.max(np.abs(array), where=np.isfinite(array), initial=0.0))


def _narrowed(constant: Constant) -> np.ndarray:
    return constant.array.astype(np.float16)
