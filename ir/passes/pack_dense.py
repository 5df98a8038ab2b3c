"""Pack the constant weights of dense layers into panels of a few output columns, so that they are read in the order of use."""

from __future__ import annotations

from collections.abc import Sequence

from ..builder import Builder
from ..graph import Graph, Node, Value
from ..machine import Machine
from ..ops.gemm import Gemm
from ..ops.matmul import MatMul
from ..ops.relayout import Relayout
from ..rewrite import rebuild

LEAST_SHARE = 0.5
"""A panel width that would fill less than this of its vectors is not worth packing for."""


def pack_dense(graph: Graph, machine: Machine) -> Graph:
    """``gemm(x, w) -> gemm(x, relayout(w))``, and so for ``matmul``, for constant float32 matrices w."""

    def visit(b: Builder, node: Node, inputs: tuple[Value, ...]) -> Sequence[Value] | None:
        if not packs(graph, node):
            return None
        transposed = isinstance(node.op, Gemm) and node.op.trans_b
        w = inputs[1]
        columns = w.type.sizes[0 if transposed else 1]
        rows = node.output.type.numel // columns
        width = panel_width(columns, rows, machine)
        if width is None:
            return None
        layout = f"AB{width}a" if transposed else f"BA{width}b"
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


def panel_width(columns: int, rows: int, machine: Machine) -> int | None:
    """The divisor of the number of columns that fills its vectors best, the wider of equals; ``None`` when none is good.

    One row takes several vectors a panel, so that its multiply-adds do not wait for each other; many rows take one or two.
    """
    most = machine.lanes * (8 if rows == 1 else 2)
    divisors = [w for w in range(1, min(most, columns) + 1) if columns % w == 0]

    def share(width: int) -> float:
        return width / (-(-width // machine.lanes) * machine.lanes)

    best = max(divisors, key=lambda w: (round(share(w), 2), w))
    return best if share(best) >= LEAST_SHARE else None
