"""Tensors whose size along one axis is known only when the model runs: held as the most there can be, with a count.

What makes such a tensor (``Op.counted``) gives the whole of it and how many elements count, and a ``Trim`` says so to what reads
it. Trims move to the outputs as a graph is built, past ops that compute each element along the axis by itself
(``Op.counted_axes``): memory, layouts and schedules know nothing of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .errors import GraphError, UnsupportedOpError
from .graph import Graph, Node, Value
from .op import REGISTRY, Op

if TYPE_CHECKING:
    from .builder import Builder

TRIM = "trim"
"""The name of the op, which cannot be imported here: every op depends on this module."""


def is_trim(node: Node) -> bool:
    """Whether a node says how much of a tensor counts."""
    return node.op.name == TRIM


def axis_of_trim(node: Node) -> int:
    """The axis that is counted."""
    axis: int = node.op.axis  # type: ignore[attr-defined]
    return axis % node.output.type.rank


def trimmed(b: Builder, whole: Value, count: Value, axis: int, name: str) -> Value:
    """The value of which only the first elements along an axis count."""
    made: Value = b.emit(REGISTRY[TRIM](axis), whole, count, names=[name])  # type: ignore[call-arg]
    return made


def emit_behind(b: Builder, op: Op, inputs: Sequence[Value], trims: Mapping[str, Node], names: Sequence[str]) -> Any:
    """An op on operands some of which are trimmed: it computes on the whole ones, and its results are trimmed.

    Raises ``UnsupportedOpError`` when it depends on the size of what is counted.
    """
    found = [trims.get(v.name) for v in inputs]
    axes = tuple(None if t is None else axis_of_trim(t) for t in found)
    counts = {t.inputs[1].name: t.inputs[1] for t in found if t is not None}
    moved = op.counted_axes([v.type for v in inputs], axes) if len(counts) == 1 else None
    if moved is None:
        which = next(v for v, t in zip(inputs, found, strict=True) if t is not None)
        raise UnsupportedOpError(
            f"{op.name} of '{which.name}', whose size follows from data when the model runs, is not supported: let the model end "
            "there, and do the rest outside"
        )
    made = b.emit(op, *(v if t is None else t.inputs[0] for v, t in zip(inputs, found, strict=True)))
    whole = made if isinstance(made, tuple) else (made,)
    hints = [*names, *[op.name] * (len(whole) - len(names))]
    (count,) = counts.values()
    results = tuple(trimmed(b, v, count, axis, hint) for v, axis, hint in zip(whole, moved, hints, strict=True))
    return results[0] if len(results) == 1 else results


def counted_outputs(graph: Graph) -> tuple[int | None, ...]:
    """The counted axis of each output that has one."""
    makers = [graph.producers.get(v.name) for v in graph.outputs]
    return tuple(axis_of_trim(n) if n is not None and is_trim(n) else None for n in makers)


def separate_counts(graph: Graph) -> Graph:
    """A pass: trims go, and the graph returns their counts behind its outputs, in order.

    Raises ``GraphError`` for a trim that is not before an output.
    """
    trims = {n.output.name: n for n in graph.nodes if is_trim(n)}
    if not trims:
        return graph
    for node in graph.nodes:
        for v in node.inputs:
            if v.name in trims:
                raise GraphError(f"{node.describe()} reads '{v.name}', but a trim node stands before outputs alone")
    outputs = [trims[v.name].inputs[0] if v.name in trims else v for v in graph.outputs]
    counts = [trims[v.name].inputs[1] for v in graph.outputs if v.name in trims]
    names = [*graph.output_names, *(f"count {i}" for i in range(len(counts)))]
    nodes = tuple(n for n in graph.nodes if n.output.name not in trims)
    return Graph(graph.name, graph.inputs, nodes, (*outputs, *counts), graph.constants, tuple(names))


def check_trimmed(graph: Graph) -> None:
    """Raise ``UnsupportedOpError`` when an output depends on what is not trimmed: an ONNX model's tensors hold what counts alone."""
    whole: set[str] = set()
    for node in graph.nodes:
        if node.op.counted is not None or (not is_trim(node) and any(v.name in whole for v in node.inputs)):
            whole.update(v.name for v in node.outputs)
    for v in graph.outputs:
        if v.name in whole:
            raise UnsupportedOpError(f"output '{v.name}' has more elements than count, which ONNX cannot say: trim it")
