"""Return the numbers of elements in use as separate outputs."""

from __future__ import annotations

from dataclasses import replace

from ..counted import is_trim
from ..errors import GraphError
from ..graph import Graph


def separate_counts(graph: Graph) -> Graph:
    """The graph without trims; it returns their counts after its other outputs, in order.

    Raises ``GraphError`` for a trim whose result is not an output.
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
    return replace(graph, nodes=nodes, outputs=(*outputs, *counts), output_names=tuple(names))
