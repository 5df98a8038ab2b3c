"""Give every output a node that produces it."""

from __future__ import annotations

from dataclasses import replace

from ..builder import Builder
from ..graph import Graph, Value
from ..ops.identity import Identity


def materialize_outputs(graph: Graph) -> Graph:
    """``return %x, %y, %y -> %x_1 = identity(%x); ...``: afterwards no output is an input or a constant, or returned
    twice.
    """
    b = Builder.of(graph)
    b.nodes = list(graph.nodes)
    outputs: list[Value] = []
    for v in graph.outputs:
        outputs.append(b.emit(Identity(), v, names=[v.name]) if v.name not in graph.producers or v in outputs else v)
    return replace(b.finish(outputs, graph.output_names), constants=b.constants)
