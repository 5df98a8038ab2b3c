"""Divide ops of very many operands, and tensors of which very many slices are taken, into groups.

A kernel of a thousand operands takes long to compile, and so do a thousand kernels that each read another place of one
tensor. In groups of a few dozen, most kernels are equal to others.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from ..builder import Builder
from ..graph import Graph, Node, Value
from ..ops._axes import axis_of
from ..ops.concat import Concat
from ..ops.slice import Slice
from ..rewrite import rebuild

MOST = 64
"""The most operands of a Concat, or slices of one tensor along one axis, that are left as they are."""
GROUP = 32
"""How many of them make a group."""


def divide(graph: Graph) -> Graph:
    """``concat(a, b, ...) -> concat(concat(a, ...), ...)``, and ``slice(x, i) -> slice(slice(x, i / 32), i % 32)``."""
    groups = _groups(graph)
    pieces: dict[tuple[str, int, range], Value] = {}

    def visit(b: Builder, node: Node, inputs: tuple[Value, ...]) -> Sequence[Value] | None:
        if isinstance(node.op, Concat) and len(inputs) > MOST:
            return [_joined(b, node, inputs)]
        if node.output.name not in groups:
            return None
        axis, kept, group = groups[node.output.name]
        key = (inputs[0].name, axis, group)
        if key not in pieces:
            pieces[key] = b.emit(Slice((axis,), (group.start,), (group.stop,)), inputs[0])
        start = kept.start - group.start
        return [b.emit(Slice((axis,), (start,), (start + len(kept),)), pieces[key], names=[node.output.name])]

    return rebuild(graph, visit)


def _joined(b: Builder, node: Node, parts: Sequence[Value]) -> Value:
    while len(parts) > MOST:
        parts = [b.emit(node.op, *parts[i : i + GROUP]) for i in range(0, len(parts), GROUP)]
    made: Value = b.emit(node.op, *parts, names=[node.output.name])
    return made


def _groups(graph: Graph) -> dict[str, tuple[int, range, range]]:
    """For each slice out of many of one tensor, by the name of its result: its axis, the positions that it keeps, and
    those that its group keeps.
    """
    found: dict[tuple[str, int], list[tuple[range, str]]] = defaultdict(list)
    for node in graph.nodes:
        kept = _contiguous(node)
        if kept is not None:
            found[node.inputs[0].name, kept[0]].append((kept[1], node.output.name))
    groups: dict[str, tuple[int, range, range]] = {}
    for (_, axis), slices in found.items():
        if len(slices) <= MOST:
            continue
        slices.sort(key=lambda s: (s[0].start, s[0].stop))
        for i in range(0, len(slices), GROUP):
            members = slices[i : i + GROUP]
            group = range(members[0][0].start, max(kept.stop for kept, _ in members))
            if len(group) <= 2 * sum(len(kept) for kept, _ in members):  # else most of what it reads is in no slice
                groups |= {name: (axis, kept, group) for kept, name in members}
    return groups


def _contiguous(node: Node) -> tuple[int, range] | None:
    """The axis of a slice along one axis, and the positions that it keeps, which follow each other."""
    if not isinstance(node.op, Slice) or len(node.op.axes) != 1:
        return None
    axis = axis_of(node.op.axes[0], node.inputs[0].type.rank)
    if not node.is_static or not isinstance(node.inputs[0].type.shape[axis], int):
        return None
    kept = node.op.places(node.inputs[0].type, axis)
    return None if kept is None or kept.step != 1 or not kept else (axis, kept)
