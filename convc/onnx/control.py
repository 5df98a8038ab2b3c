"""Import of control flow: If is replaced by the nodes of its branches. For Loop and Scan see ``loops.py``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from convc.ir.errors import ConvcError, NotConstantError, plural
from convc.ir.graph import Value
from convc.ir.onnx_io import ImportNode
from convc.ir.ops.reshape import Reshape
from convc.ir.ops.where import Where

from .loops import Body, loop, scan, subgraph


def branch(n: ImportNode, body: Body) -> list[Any]:
    """Import ``If``: the branch that is taken, when the condition is constant; else both, and a Where for each pair of
    outputs.

    Both must then fit; otherwise ``NotConstantError`` says that the condition is needed.
    """
    condition = n.input(0)
    known = n.builder.constant_of(condition)
    branches = {name: subgraph(n, name) for name in ("then_branch", "else_branch")}
    if known is not None:
        if known.size != 1:
            raise n.error(f"its condition has {plural(known.size, 'element')}, not one")
        return body(branches["then_branch" if known.reshape(-1)[0] else "else_branch"], {})
    made = []
    for name, graph in branches.items():
        try:
            made.append(body(graph, {}))
        except ConvcError as e:
            undecided = n.not_constant(
                f"its {name} cannot be compiled ({e}), and whether it is taken is computed at run time", condition
            )
            if isinstance(e, NotConstantError) and not undecided.inputs:
                raise
            raise undecided from e
    if len(made[0]) != len(made[1]):
        raise n.error(f"its branches give {plural(len(made[0]), 'value')} and {len(made[1])}")
    pairs = list(zip(*made, strict=True))
    for yes, no in pairs:
        if not (isinstance(yes, Value) and isinstance(no, Value) and yes.type == no.type):
            kinds = " and ".join(str(v.type) if isinstance(v, Value) else "a sequence" for v in (yes, no))
            raise n.not_constant(
                f"its branches give {kinds}, and which of them is taken is computed at run time", condition
            )
    chosen = n.emit(Reshape(()), condition)
    return [n.emit(Where(), chosen, yes, no) for yes, no in pairs]


CONTROL: Mapping[str, Callable[[ImportNode, Body], list[Value]]] = {"If": branch, "Loop": loop, "Scan": scan}
"""The importer of each ONNX operator of control flow."""
