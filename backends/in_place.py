"""Which operands of a kernel its result may overwrite in memory."""

from __future__ import annotations

from convc.ir.graph import Graph, Node, Value
from convc.ir.ops.fused import Fused


def replaceable(node: Node) -> list[Value]:
    """The operands that the node's result may overwrite, if nothing reads them afterwards.

    An element of such an operand is read only for the element of the result that takes its place: only elementwise ops
    of the same shape and layout lie between them, as with the sum that ends a residual block. A line of the result is
    then already in cache when it is written.
    """
    if len(node.outputs) != 1 or not node.output.type.is_static:
        return []  # the last tile of an open extent reads again what the one before it may have written over
    out = node.output.type
    return [v for v in dict.fromkeys(node.inputs) if v.type == out and _is_read_in_place(node, v)]


def _is_read_in_place(node: Node, operand: Value) -> bool:
    if not isinstance(node.op, Fused):
        return node.op.elementwise
    body = node.op.body
    places = [i for i, v in enumerate(node.inputs) if v.name == operand.name]
    return all(_leads_elementwise(body, body.inputs[i], operand) for i in places)


def _leads_elementwise(body: Graph, v: Value, operand: Value) -> bool:
    """Whether all that a body computes from a value is elementwise, in the operand's shape and layout."""
    return all(
        n.op.elementwise
        and n.output.type.with_dtype(operand.type.dtype) == operand.type
        and _leads_elementwise(body, n.output, operand)
        for n in body.consumers[v.name]
    )
