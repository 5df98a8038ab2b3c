"""Choose the nodes that run on data in the layout of convolutions, so that the whole graph spends the least on
conversions.

Every node runs either in that layout or row-major; the choice is a minimum cut. An arc between two nodes weighs the
bytes that the conversion of the tensor between them would move. A convolution on the row-major side costs as much as
the time it would lose there. Nodes that cannot run in the layout, and the graph's inputs and outputs, are tied to the
row-major side.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import networkx as nx

from ..builder import Builder
from ..data_layouts import DataLayouts
from ..graph import Graph, Node, Value
from ..layout import Layout
from ..ops._elementwise import Elementwise
from ..ops.conv import Conv
from ..ops.conv_transpose import ConvTranspose
from ..ops.relayout import Relayout
from ..rewrite import rebuild

FUSED_CONVERSION = 0.25
"""The cost of a conversion next to an op that moves its elements anyway, as a share of the cost of a conversion by
itself.
"""


def assign_layouts(graph: Graph, layouts: DataLayouts) -> Graph:
    """The graph with layouts assigned, and ``relayout`` nodes where data changes its layout; weights are packed to
    match.

    A graph that has layouts already, as the text of a later stage does, is returned as it is.
    """
    if any(v.type.layout for v in graph.values()):
        return graph
    layouts = layouts.of(graph)
    chosen = _choose(graph, layouts)
    converted: dict[tuple[str, Layout | None], Value] = {}

    def visit(b: Builder, node: Node, inputs: tuple[Value, ...]) -> Sequence[Value] | None:
        def held(v: Value, layout: Layout | None) -> Value:
            if v.type.layout == layout:
                return v
            key = (v.name, layout)
            if key not in converted:
                converted[key] = b.emit(Relayout(str(layout or "")), v, names=[f"{v.name}.{layout or 'plain'}"])
            return converted[key]

        if node.output.name not in chosen:
            return b.reinfer(node, inputs if node.op.reads_any_layout() else tuple(held(v, None) for v in inputs))
        if isinstance(node.op, Conv | ConvTranspose):
            x = held(inputs[0], None if layouts.reads_plain(node) else layouts.data(inputs[0].type))
            w = held(inputs[1], layouts.weight(node))
            return b.reinfer(node, (x, w, *(held(v, layouts.bias(node)) for v in inputs[2:])))
        data = layouts.data(node.output.type)
        return b.reinfer(
            node, tuple(held(v, data) if _is_data(v, node) or _is_padded_alike(v, node, data) else v for v in inputs)
        )

    placed = rebuild(graph, visit)
    return _plain_outputs(placed)


def _can_hold(node: Node, layouts: DataLayouts) -> bool:
    """Whether a node runs on data held in the backend's layout."""
    rank = node.output.type.rank
    if rank < 3 or rank > 5 or len(node.outputs) != 1:
        return False
    if any(v.type.is_empty for v in (*node.inputs, *node.outputs)):
        return False  # without elements there is nothing to hold in blocks
    if not all(
        isinstance(v.type.shape[1], int) for v in (node.output, *(x for x in node.inputs if x.type.rank == rank))
    ):
        return False  # channels lie in blocks
    if isinstance(node.op, Conv | ConvTranspose):
        return layouts.takes(node)
    if not node.op.held_as(node.output.type.dtype):
        return False
    if isinstance(node.op, Elementwise) and all(v.type.shape != node.output.type.shape for v in node.inputs):
        return False  # the operands are broadcast along different axes, so that none has the layout of the result
    return node.op.layouts([v.type for v in node.inputs], layouts.data(node.output.type))


def _is_data(v: Value, node: Node) -> bool:
    """Whether a node needs this operand in the layout of its result.

    An operand that an elementwise op broadcasts may have either layout.

    An operand of another rank, such as a vector of a BatchNorm, does not count as data.
    """
    if node.op.elementwise:
        return v.type.shape == node.output.type.shape
    return v.type.rank == node.output.type.rank


def _is_padded_alike(v: Value, node: Node, data: Layout) -> bool:
    """Whether a broadcast operand has one value per channel, which must be padded as the blocks of channels are."""
    return data.block(1) > 1 and v.type.rank == node.output.type.rank and v.type.shape[1] != 1


def _choose(graph: Graph, layouts: DataLayouts) -> set[str]:
    """The names of the first outputs of the nodes that run on data held in the backend's layout."""
    cut = nx.DiGraph()
    cut.add_nodes_from(("held", "plain"))

    def tie(a: str, b: str, weight: float) -> None:
        for s, t in ((a, b), (b, a)):
            # an edge without a capacity is infinite
            known = cut.edges[s, t].get("capacity", math.inf) if cut.has_edge(s, t) else 0.0
            cut.add_edge(s, t, capacity=known + weight)

    for node in graph.nodes:
        name = "n:" + node.output.name
        if not _can_hold(node, layouts):
            cut.add_edge(name, "plain")  # no capacity: infinite
        elif isinstance(node.op, Conv | ConvTranspose):
            cut.add_edge("held", name, capacity=layouts.worth(node))
        for v in node.inputs:
            producer = graph.producers.get(v.name)
            if v.name in graph.constants or layouts.reads_plain(node) or not _is_data(v, node):
                continue
            moves = [n.op.reads_any_layout() and n.op.injective for n in (node, producer) if n is not None]
            bytes_moved = v.type.at_typical().nbytes * (FUSED_CONVERSION if any(moves) else 1.0)
            tie("n:" + producer.output.name if producer else "plain", name, bytes_moved)
        for v in node.outputs:
            if v.name in graph.output_set:
                tie(name, "plain", float(v.type.at_typical().nbytes))
    if not cut.out_degree("held"):
        return set()
    _, (side, _) = nx.minimum_cut(cut, "held", "plain")
    return {n[2:] for n in side if n.startswith("n:")}


def _plain_outputs(graph: Graph) -> Graph:
    """The graph with the outputs row-major."""
    if all(v.type.layout is None for v in graph.outputs):
        return graph
    b = Builder.of(graph)
    b.nodes = list(graph.nodes)
    outputs = [
        v if v.type.layout is None else b.emit(Relayout(""), v, names=[f"{v.name}.plain"]) for v in graph.outputs
    ]
    return b.finish(outputs, graph.output_names)
