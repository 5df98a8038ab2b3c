"""Hold the constant weights of dense layers as the backend reads them."""

from __future__ import annotations

from collections.abc import Sequence

from ..builder import Builder
from ..data_layouts import DataLayouts
from ..graph import Graph, Node, Value
from ..ops.gemm import Gemm
from ..ops.matmul import MatMul
from ..ops.relayout import Relayout
from ..rewrite import rebuild


def pack_dense(graph: Graph, layouts: DataLayouts) -> Graph:
    """``gemm(x, w) -> gemm(x, relayout(w))`` for constant float matrices w, and the same for ``matmul``."""

    def visit(b: Builder, node: Node, inputs: tuple[Value, ...]) -> Sequence[Value] | None:
        if not packs(graph, node):
            return None
        transposed = isinstance(node.op, Gemm) and node.op.trans_b
        w = inputs[1]
        layout = layouts.matrix(w.type, transposed=transposed)
        if layout is None:
            return None
        packed = b.emit(Relayout(str(layout)), w, names=[f"{w.name}.{layout}"])
        return b.reinfer(node, (inputs[0], packed, *inputs[2:]))

    return rebuild(graph, visit)


def packs(graph: Graph, node: Node) -> bool:
    """Whether a node multiplies computed rows by a row-major float matrix that is known at load."""
    if not isinstance(node.op, Gemm | MatMul) or (isinstance(node.op, Gemm) and node.op.trans_a):
        return False
    x, w = node.inputs[:2]
    known = graph.at_load | set(graph.constants)
    constant = w.name in known and x.name not in known
    return constant and w.type.rank == 2 and x.type.rank >= 2 and w.type.is_float and w.type.layout is None
