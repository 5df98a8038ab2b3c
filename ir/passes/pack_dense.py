"""Pack the constant weights of dense layers into panels of output columns, so that they are read in the order of use."""

from __future__ import annotations

from collections.abc import Sequence

from ..builder import Builder
from ..graph import Graph, Node, Value
from ..machine import Machine
from ..ops.gemm import Gemm
from ..ops.matmul import MatMul
from ..ops.relayout import Relayout
from ..rewrite import rebuild


def pack_dense(graph: Graph, machine: Machine) -> Graph:
    """``gemm(x, w) -> gemm(x, relayout(w))``, and so for ``matmul``, for constant float32 matrices w."""

    def visit(b: Builder, node: Node, inputs: tuple[Value, ...]) -> Sequence[Value] | None:
        if not packs(graph, node):
            return None
        transposed = isinstance(node.op, Gemm) and node.op.trans_b
        w = inputs[1]
        layout = f"AB{machine.block}a" if transposed else f"BA{machine.block}b"
        packed = b.emit(Relayout(layout), w, names=[f"{w.name}.{layout}"])
        return b.reinfer(node, (inputs[0], packed, *inputs[2:]))

    return rebuild(graph, visit)


def packs(graph: Graph, node: Node) -> bool:
    """Whether a node multiplies computed rows by a constant, row-major float32 matrix."""
    if not isinstance(node.op, Gemm | MatMul) or (isinstance(node.op, Gemm) and node.op.trans_a):
        return False
    x, w = node.inputs[:2]
    constant = w.name in graph.constants and x.name not in graph.constants
    return constant and w.type.rank == 2 and x.type.rank >= 2 and w.type.dtype == "f32" and w.type.layout is None
