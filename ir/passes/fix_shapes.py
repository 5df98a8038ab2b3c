"""Put other sizes, such as numbers, in the place of a graph's named sizes."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from operator import index

from ..assumptions import Assumption, check_assumptions
from ..builder import Builder
from ..errors import ShapeError, lacking
from ..graph import Constant, Graph, Node, Value
from ..ops.fused import Fused
from ..ops.loop import Loop
from ..ops.while_loop import While
from ..rewrite import rebuild
from ..shapes import Bound, mismatch
from ..sizes import Dim, at, names


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

    Raises ``ShapeError`` for an unknown input, a shape that contradicts the graph or what was assumed of its sizes, or
    a size that stays open.
    """
    known = {v.name: v for v in graph.inputs}
    bound: Bound = {}
    given = checked_shapes(shapes)
    check_names(given, known)
    for name, shape in given.items():
        if why := mismatch(f"input '{name}'", known[name].type.stated, shape, bound):
            raise ShapeError(f"the shape {list(shape)} given for input '{name}' does not fit the model: {why}")
    values = {size: number for size, (number, _) in bound.items() if isinstance(number, int)}
    for v in graph.inputs:
        for d in v.type.shape:
            if missing := next((n.name for n in names(d) if n.name not in values), None):
                raise ShapeError(
                    f"size '{missing}' of input '{v.name}' is open; fix it with shapes={{'{v.name}': ...}} "
                    f"(--shape {v.name}=...)"
                )
    fixed = with_sizes(graph, values)
    for v in fixed.inputs:
        if v.type.sizes != given.get(v.name, v.type.sizes):
            raise ShapeError(
                f"the shape {list(given[v.name])} given for input '{v.name}' does not fit the model: it takes "
                f"{known[v.name].type}, which is {v.type} here"
            )
    return fixed


def with_sizes(graph: Graph, values: Mapping[str, Dim]) -> Graph:
    """The graph with named sizes replaced by others, and every type derived anew.

    Raises ``ShapeError`` when the graph was inferred for other sizes, or when an op does not take these.
    """
    if not any(n.name in values for v in graph.values() for d in v.type.shape for n in names(d)):
        return graph
    check_assumptions(graph.assumptions, values)
    return _moved(graph, values, fold=True)


def _moved(graph: Graph, values: Mapping[str, Dim], fold: bool) -> Graph:
    """``fold`` makes constants of tensors that follow from known sizes, which a kernel cannot hold."""

    def moved(v: Value) -> Value:
        return Value(v.name, v.type.with_shape([at(d, values) for d in v.type.shape]))

    inputs = {v.name: moved(v) for v in graph.inputs}
    nodes = tuple(replace(n, inputs=tuple(inputs.get(v.name, v) for v in n.inputs)) for n in graph.nodes)
    kept = {a.at(values): about for a, about in graph.assumptions.items()}
    whole = replace(
        graph,
        inputs=tuple(inputs.values()),
        nodes=nodes,
        outputs=tuple(inputs.get(v.name, v) for v in graph.outputs),
        assumptions={a: about for a, about in kept.items() if isinstance(a, Assumption)},
    )

    def visit(b: Builder, node: Node, operands: tuple[Value, ...]) -> Sequence[Value]:
        op = node.op.at(values)
        if isinstance(op, Loop | Fused | While):
            op = replace(op, body=_moved(op.body, values, fold and not isinstance(op, Fused)))
        if fold and (array := op.known()) is not None:
            constant = Constant.of(array)
            b.constants[node.output.name] = constant
            return (Value(node.output.name, constant.type),)
        return b.reinfer(replace(node, op=op), operands)

    return rebuild(whole, visit)
