"""Import of control flow: If is replaced by the nodes of its branches. For Loop and Scan see ``loops.py``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from convc.ir.errors import ConvcError, NotConstantError, plural
from convc.ir.graph import Value
from convc.ir.onnx_io import ImportNode
from convc.ir.ops.choose import Choose
from convc.ir.ops.reshape import Reshape
from convc.ir.ops.where import Where
from convc.ir.sizes import bounds

from .loops import Body, loop, scan, subgraph


def branch(n: ImportNode, body: Body) -> list[Any]:
    """Import ``If``: the branch that is taken, when the condition is constant; else both, of whose outputs one is
    chosen for each pair.

    Both must then be of one dtype and rank; otherwise ``NotConstantError`` says that the condition is needed.
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
            error = n.not_constant(
                f"its {name} cannot be compiled ({e}), and whether it is taken is computed at run time", condition
            )
            if isinstance(e, NotConstantError) and not error.inputs:
                raise
            raise error from e
    if len(made[0]) != len(made[1]):
        raise n.error(f"its branches give {plural(len(made[0]), 'value')} and {len(made[1])}")
    pairs = list(zip(*made, strict=True))
    for yes, no in pairs:
        alike = isinstance(yes, Value) and isinstance(no, Value)
        if not alike or (yes.type.dtype, yes.type.rank) != (no.type.dtype, no.type.rank):
            kinds = " and ".join(str(v.type) if isinstance(v, Value) else "a sequence" for v in (yes, no))
            undecided = f"its branches give {kinds}, and which of them is taken is computed at run time"
            raise n.not_constant(undecided, condition)
        if yes.type != no.type and not n.is_data(condition):
            kinds = f"{yes.type} and {no.type}"
            undecided = f"its branches give {kinds}, and which of them is taken is computed at run time"
            raise n.not_constant(undecided, condition)
    chosen = n.emit(Reshape(()), condition)
    return [_chosen(n, chosen, yes, no) for yes, no in pairs]


def _chosen(n: ImportNode, condition: Value, yes: Value, no: Value) -> Value:
    """One of two values of one dtype and rank. Where their shapes differ, that of the result is read."""
    if yes.type == no.type:
        made: Value = n.emit(Where(), condition, yes, no)
        return made
    axes = [a for a, (d, e) in enumerate(zip(yes.type.shape, no.type.shape, strict=True)) if d != e]
    sizes = [n.sizes_as_tensor([v.type.shape[a] for a in axes]) for v in (yes, no)]
    most = max(bounds(v.type.shape[a])[1] for v in (yes, no) for a in axes)
    read = n.builder.read_sizes(n.emit(Where(), condition, *sizes), most)
    shape = list(yes.type.shape)
    for a, size in zip(axes, read, strict=True):
        shape[a] = size
    chosen: Value = n.emit(Choose(tuple(shape)), condition, yes, no)
    return chosen


CONTROL: Mapping[str, Callable[[ImportNode, Body], list[Value]]] = {"If": branch, "Loop": loop, "Scan": scan}
"""The importer of each ONNX operator of control flow."""
