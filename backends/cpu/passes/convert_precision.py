"""Compute in float32 what a graph computes in float16 or bfloat16, in which few processors compute."""

from __future__ import annotations

from collections.abc import Sequence

from convc.ir.assumptions import Assumptions
from convc.ir.builder import Builder, infer_types
from convc.ir.dtypes import numpy_dtype
from convc.ir.errors import ShapeError
from convc.ir.graph import Graph, Node, Value
from convc.ir.ops.cast import Cast
from convc.ir.ops.fused import Fused
from convc.ir.passes.recognise_activations import recognise_activations
from convc.ir.rewrite import drop_dead
from convc.ir.types import TensorType

NARROW = ("f16", "bf16")
WIDE = "f32"
FEW = 4
"""An op that takes at most one element in so many is done before the conversion."""
UNCOMPUTED = ("bool", "f8e4m3fn")
"""Dtypes that no arithmetic takes: an op that takes both, and gives them as results, only moves elements."""
EXACT = ("bool", "i8", "u8")
"""The dtypes whose every value float16 and bfloat16 hold."""


def convert_precision(graph: Graph) -> Graph:
    """``y: f16 = conv(x: f16, w) -> y = cast(conv(cast(x), w'))``: f16 and bf16 become f32.

    Inputs and outputs keep their dtypes. A value that is computed is held in float32 alone, so that all of its readers
    see the same number; it is rounded where the graph returns it, and where a ``cast`` of the graph says so. Values of
    which nothing is computed are moved as they are, and so are constants, and operands of which few elements are taken,
    such as a table of embeddings. An op that takes no float32, such as ``bit_cast``, gets rounded operands.

    Activations are recognised before, while the dtype of their constants tells how far these may be off.

    A graph that has layouts or groups already, as the text of a later stage does, is returned as it is.
    """
    types = [v.type for v in graph.values()]
    if all(t.dtype not in NARROW for t in types) or any(t.layout for t in types):
        return graph
    if any(isinstance(n.op, Fused) for n in graph.nodes):
        return graph
    return _Converter(recognise_activations(graph)).run()


class _Converter:
    """The state of one run: the value of the new graph that holds each value of the old one."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.b = Builder.of(graph)
        self.held: dict[str, Value] = {}
        """By the name of an old value: the new one that was made for it, in float32 or in the dtype of the old one.

        Inputs and constants hold themselves.
        """
        self.made: dict[tuple[str, str], Value] = {}
        """Conversions, by the name of the new value that is converted and the dtype."""
        self.known = graph.at_load | set(graph.constants)
        self.used = _used(graph)
        self.exact: dict[str, Value] = {}
        """By the name of a new value that is narrow: the value of an exact dtype that it was converted from."""

    def run(self) -> Graph:
        for node in self.graph.nodes:
            made = self.visit(node)
            self.held |= {old.name: new for old, new in zip(node.outputs, made, strict=True)}
        outputs = [self.converted(self.held.get(v.name, v), v.type.dtype) for v in self.graph.outputs]
        return drop_dead(self.b.finish(outputs, self.graph.output_names))

    def visit(self, node: Node) -> Sequence[Value]:
        """The values of the new graph that hold the results of a node."""
        inputs = [self.held.get(v.name, v) for v in node.inputs]
        if isinstance(node.op, Cast):
            return [self.cast(node, node.op, inputs[0])]
        stated = [v.type.dtype for v in node.inputs]
        held = [v.type.dtype for v in inputs]
        if not set(NARROW) & set(stated) or (held == stated and self.stays(node)):
            return self.b.again(node, inputs)
        wanted = [WIDE if dtype in NARROW else dtype for dtype in stated] if _takes(node, WIDE) else stated
        return self.b.reinfer(node, [self.converted(v, dtype) for v, dtype in zip(inputs, wanted, strict=True)])

    def stays(self, node: Node) -> bool:
        """Whether a node on values in 16 bits moves them as they are."""
        if not _moves(node):
            return False
        moved = [v for v in node.inputs if v.type.dtype in NARROW]
        if all(v.name in self.known for v in moved) or not any(v.name in self.used for v in node.outputs):
            return True
        return FEW * _elements(node.outputs) <= _elements(moved)

    def cast(self, node: Node, op: Cast, x: Value) -> Value:
        """A conversion that the graph spells out. One to float32 does nothing where the operand is held in it."""
        narrow = node.inputs[0].type.dtype in NARROW
        if narrow and op.to == WIDE:
            return self.converted(x, WIDE)
        (made,) = self.b.reinfer(node, [x])
        if x.type.dtype in EXACT:
            self.exact[made.name] = x
        return made

    def converted(self, v: Value, dtype: str) -> Value:
        """A value of the new graph in another dtype; the value itself if it has that dtype."""
        if v.type.dtype == dtype:
            return v
        key = (v.name, dtype)
        if key not in self.made:
            name, array = f"{v.name}.{dtype}", self.b.constant_of(v)
            if array is not None:
                self.made[key] = self.b.constant(array.astype(numpy_dtype(dtype)), name)
            else:
                self.made[key] = self.b.emit(Cast(dtype), self.exact.get(v.name, v), names=[name])
        return self.made[key]


def _elements(values: Sequence[Value]) -> int:
    return sum(v.type.at_typical().numel for v in values)


def _used(graph: Graph) -> set[str]:
    """The names of the values of which, once they are moved, something is computed."""
    used: set[str] = set()
    for node in reversed(graph.nodes):
        narrow = [v.name for v in node.inputs if v.type.dtype in NARROW]
        if narrow and (any(v.name in used for v in node.outputs) or not _moves(node)):
            used.update(narrow)
    return used


def _moves(node: Node) -> bool:
    """Whether the narrow results of a node consist of elements of its narrow operands."""
    return all(_takes(node, dtype) for dtype in UNCOMPUTED)


def _takes(node: Node, dtype: str) -> bool:
    """Whether the op takes ``dtype`` in place of float16 and bfloat16 and gives it in place of them."""

    def replaced(t: TensorType) -> TensorType:
        return t.with_dtype(dtype) if t.dtype in NARROW else t

    try:
        with Assumptions().noted("another dtype"):  # what inference assumes of sizes does not depend on dtypes
            made = infer_types(node.op, [Value(v.name, replaced(v.type)) for v in node.inputs])
    except ShapeError:
        return False
    return made == tuple(replaced(v.type) for v in node.outputs)
