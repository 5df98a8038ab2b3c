"""Give every output a node that produces it."""

from __future__ import annotations

from dataclasses import replace

from ..builder import Builder
from ..graph import Graph, Value
from ..ops.identity import Identity


def materialize_outputs(graph: Graph) -> Graph:
    """``return %x, %y, %y -> %x_1 = identity(%x); ...``: afterwards no output is an input or a constant, made by
    the runtime, or returned twice.
    """
    b = Builder.of(graph)
    b.nodes = list(graph.nodes)
    outputs: list[Value] = []
    for v in graph.outputs:
        made_by = graph.producers.get(v.name)
        copied = made_by is None or made_by.op.between_segments or v in outputs
        outputs.append(b.emit(Identity(), v, names=[v.name]) if copied else v)
    return replace(b.finish(outputs, graph.output_names), constants=b.constants)
