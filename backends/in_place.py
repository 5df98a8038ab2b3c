"""Results written over an operand: which operands of a kernel its result may replace in memory."""

from __future__ import annotations

from convc.ir.graph import Graph, Node, Value
from convc.ir.ops.fused import Fused


def replaceable(node: Node) -> list[Value]:
    """The operands that the node's result may lie over, when nobody reads them afterwards.

    An element of such an operand is read for the element of the result that takes its place and for no other: only
    elementwise ops of its own shape and layout stand between them, as with the sum that ends a residual block. A line
    of the result is then in cache already when it is written.
    """
    if len(node.outputs) != 1:
        return []
    out = node.output.type
    return [v for v in dict.fromkeys(node.inputs) if v.type == out and _is_read_in_place(node, v)]


def _is_read_in_place(node: Node, operand: Value) -> bool:
    if not isinstance(node.op, Fused):
        return node.op.elementwise
    body = node.op.body
    places = [i for i, v in enumerate(node.inputs) if v.name == operand.name]
    return all(_leads_elementwise(body, body.inputs[i], operand) for i in places)


def _leads_elementwise(body: Graph, v: Value, operand: Value) -> bool:
    """Whether what a body computes from a value is elementwise, and of the operand's shape and layout, to the end."""
    return all(
        n.op.elementwise
        and n.output.type.with_dtype(operand.type.dtype) == operand.type
        and _leads_elementwise(body, n.output, operand)
        for n in body.consumers[v.name]
    )
