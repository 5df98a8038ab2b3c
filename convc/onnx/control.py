"""Import of control flow: If is replaced by the nodes of its branches. For Loop and Scan see ``loops.py``."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from convc.ir.graph import Value
from convc.ir.onnx_io import ImportNode
from convc.ir.ops.reshape import Reshape
from convc.ir.ops.where import Where

from .loops import Body, loop, scan, subgraph


def branch(n: ImportNode, body: Body) -> list[Value]:
    """Import ``If``: the branch that is taken, when the condition is constant; else both, and a Where for each pair of
    outputs.
    """
    condition = n.builder.constant_of(n.input(0))
    branches = [subgraph(n, name) for name in ("then_branch", "else_branch")]
    if condition is not None:
        return body(branches[not condition.reshape(-1)[0]], {})
    pairs = list(zip(*(body(graph, {}) for graph in branches), strict=True))
    if any(yes.type != no.type for yes, no in pairs):
        n.const(0, "condition, on which shapes or dtypes depend,")
    chosen = n.emit(Reshape(()), n.input(0))
    return [n.emit(Where(), chosen, yes, no) for yes, no in pairs]


CONTROL: Mapping[str, Callable[[ImportNode, Body], list[Value]]] = {"If": branch, "Loop": loop, "Scan": scan}
"""The importer of each ONNX operator of control flow."""
