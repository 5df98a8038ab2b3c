"""Replace dynamic sizes by numbers."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from operator import index

from ..builder import Builder
from ..errors import ShapeError, lacking
from ..graph import Graph, Node, Value
from ..ops.loop import Loop
from ..rewrite import rebuild
from ..sizes import Bound, Dim, mismatch


def checked_shapes(shapes: Mapping[str, Sequence[int]]) -> dict[str, tuple[int, ...]]:
    """The shapes as tuples of integers. Raises ``ShapeError`` when they are something else."""
    try:
        return {name: tuple(index(size) for size in shape) for name, shape in dict(shapes).items()}
    except (TypeError, ValueError):
        raise ShapeError(
            f"shapes must give each input's sizes by its name, as {{'x': (1, 3, 224, 224)}}, not {shapes!r}"
        ) from None


def check_names(shapes: Collection[str], known: Collection[str], whose: str = "the model") -> None:
    """Raise ``ShapeError`` when ``shapes`` gives a shape to an input that is not known."""
    for name in shapes:
        if name not in known:
            raise ShapeError(f"shapes names input {lacking(name, known, whose)}")


def fix_shapes(graph: Graph, shapes: Mapping[str, Sequence[int]]) -> Graph:
    """The graph with its inputs of these shapes, and every type derived anew.

    Raises ``ShapeError`` for an unknown input, a shape that contradicts the graph, or a size that stays dynamic.
    """
    known = {v.name: v for v in graph.inputs}
    bound: Bound = {}
    given = checked_shapes(shapes)
    check_names(given, known)
    for name, shape in given.items():
        if why := mismatch(f"input '{name}'", known[name].type.shape, shape, bound):
            raise ShapeError(f"the shape {list(shape)} given for input '{name}' does not fit the model: {why}")
    sizes: dict[Dim, Dim] = {size: given for size, (given, _) in bound.items()}

    def fixed(d: Dim, owner: str) -> Dim:
        if isinstance(d, str) and d not in sizes:
            raise ShapeError(
                f"size '{d}' of input '{owner}' is dynamic; fix it with shapes={{'{owner}': ...}} (--shape {owner}=...)"
            )
        return sizes.get(d, d)

    inputs = {v.name: Value(v.name, v.type.with_shape([fixed(d, v.name) for d in v.type.shape])) for v in graph.inputs}
    if list(inputs.values()) == list(graph.inputs):
        return graph
    nodes = tuple(replace(n, inputs=tuple(inputs.get(v.name, v) for v in n.inputs)) for n in graph.nodes)
    outputs = tuple(inputs.get(v.name, v) for v in graph.outputs)
    moved = Graph(graph.name, tuple(inputs.values()), nodes, outputs, graph.constants, graph.output_names)
    return rebuild(moved, _visit)


def _visit(b: Builder, node: Node, inputs: tuple[Value, ...]) -> Sequence[Value]:
    if isinstance(node.op, Loop):
        node = replace(node, op=node.op.on_types(*(v.type for v in inputs)))
    return b.reinfer(node, inputs)
