"""Tensors whose size along one axis is known only when the model runs.

They have the largest possible size, and a count.

An op that makes such a tensor (``Op.counted``) gives the whole tensor and the number of elements in use. A ``Trim``
node joins the two. While a graph is built, trims move towards the outputs, past ops that compute each element along the
axis by itself (``Op.counted_axes``), so that memory planning, layouts and schedules know nothing of them.
"""

from __future__ import annotations

from .errors import UnsupportedOpError
from .graph import Graph, Node

TRIM = "trim"
"""The name of the op ``Trim``, whose class cannot be imported here because it depends on this module."""


def is_trim(node: Node) -> bool:
    """Whether a node says how many elements of a tensor are in use."""
    return node.op.name == TRIM


def axis_of_trim(node: Node) -> int:
    """The axis along which a trim counts elements."""
    axis: int = node.op.axis  # type: ignore[attr-defined]
    return axis % node.output.type.rank


def counted_outputs(graph: Graph) -> tuple[int | None, ...]:
    """The counted axis of each output that has one."""
    makers = [graph.producers.get(v.name) for v in graph.outputs]
    return tuple(axis_of_trim(n) if n is not None and is_trim(n) else None for n in makers)


def check_trimmed(graph: Graph) -> None:
    """Raise ``UnsupportedOpError`` when an output holds elements that do not count, which no ONNX model can express."""
    whole: set[str] = set()
    for node in graph.nodes:
        if node.op.counted is not None:
            whole.update(node.outputs[i].name for i in (1, *node.op.counted_results))
        elif not is_trim(node) and any(v.name in whole for v in node.inputs):
            whole.update(v.name for v in node.outputs)
    for v in graph.outputs:
        if v.name in whole:
            raise UnsupportedOpError(f"output '{v.name}' has more elements than count, which ONNX cannot say: trim it")
