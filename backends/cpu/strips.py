"""Vectors along an axis of open extent: a loop over whole vectors, and a loop over the elements that are left.

A schedule marks the loop (``in_strips``). When blocks have become plain loops, the marked loop is taken apart
(``strip_mine``), and the loop over the elements of a vector moves into the loops of a reduction, so that a vector of
results is summed up at once (strip-mining; R. Allen and K. Kennedy, Optimizing Compilers for Modern Architectures,
2001, section 5.3).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tvm
import tvm_ffi
from tvm import tirx

from ..guards import found, uses

LANES = "convc_lanes"
"""The annotation of a loop that is computed in vectors: the numbers of elements of vectors, the largest first. Its
iterations must be independent, and nothing but reductions may lie inside it."""


def in_strips(sch: Any, loop: Any, lanes: Sequence[int]) -> None:
    """Mark a loop, whose extent is open, to be computed in vectors of some length, what is left in shorter ones."""
    sch.annotate(loop, LANES, list(lanes))


def strip_mine(func: Any) -> Any:
    """The function, of plain loops, with the marked loops in vectors."""
    return func.with_body(tvm_ffi.structural_map(func.body, (tirx.For, _strips)))


def _strips(loop: Any) -> Any:
    if LANES not in loop.annotations:
        return loop
    widths = [int(lanes) for lanes in loop.annotations[LANES]]
    annotations = {k: v for k, v in loop.annotations.items() if k != LANES}
    if _only_gathers(loop.body, loop.loop_var) or _branches(loop.body, loop.loop_var):
        return tirx.For(loop.loop_var, loop.min, loop.extent, loop.kind, loop.body, None, annotations)
    zero, kind, made = tirx.const(0, "int32"), loop.kind, []
    start: Any = zero
    for lanes in widths:
        vector, lane = (tirx.Var(f"{loop.loop_var.name}_{name}", "int32") for name in ("vector", "lane"))
        body = _sunk(lane, lanes, _at(loop.body, loop.loop_var, start + vector * lanes + lane))
        count = tirx.floordiv(loop.extent - start, tirx.const(lanes, "int32"))
        made.append(tirx.For(vector, zero, count, kind, _fresh(body), None, annotations))
        start, kind = tirx.floordiv(loop.extent, tirx.const(lanes, "int32")) * lanes, tirx.ForKind.SERIAL
    rest = tirx.Var(f"{loop.loop_var.name}_rest", "int32")
    body = _fresh(_at(loop.body, loop.loop_var, start + rest))
    return tirx.SeqStmt([*made, tirx.For(rest, zero, loop.extent - start, kind, body, None, annotations)])


def _only_gathers(body: Any, var: Any) -> bool:
    """Whether a statement moves elements from places that are not next to one another.

    Vectors of these are slower than single elements.
    """
    if not isinstance(body, tirx.BufferStore):
        return False
    value = body.value
    while isinstance(value, tirx.Cast):
        value = value.value
    if not isinstance(value, tvm.ir.TensorLoad) or not len(value.indices):
        return False
    *outer, last = value.indices
    analyzer = tvm.sym.Analyzer()
    step = analyzer.simplify(_at(last, var, var + 1) - last)
    return any(uses(i, var) for i in outer) or not (isinstance(step, tirx.IntImm) and step.value in (0, 1))


def _branches(body: Any, var: Any) -> bool:
    """Whether some element is computed under a condition, which would take a vector apart again."""
    conditions = [c.args[0] for c in found(body, tvm.ir.Call) if c.op.name == "tirx.if_then_else"]
    return any(uses(c, var) for c in conditions)


def _sunk(lane: Any, lanes: int, body: Any) -> Any:
    """The loop over the elements of a vector around each statement that stores, inside of all loops.

    A statement under a condition on the element is computed element by element.
    """
    if isinstance(body, tirx.SeqStmt):
        return tirx.SeqStmt([_sunk(lane, lanes, s) for s in body.seq])
    if isinstance(body, tirx.For):
        inner = _sunk(lane, lanes, body.body)
        return tirx.For(body.loop_var, body.min, body.extent, body.kind, inner, body.thread_binding, body.annotations)
    if isinstance(body, tirx.IfThenElse) and body.else_case is None and not uses(body.condition, lane):
        return tirx.IfThenElse(body.condition, _sunk(lane, lanes, body.then_case), None)
    kind = tirx.ForKind.VECTORIZED if isinstance(body, tirx.BufferStore) else tirx.ForKind.SERIAL
    fresh = tirx.Var(lane.name, "int32")
    return tirx.For(fresh, tirx.const(0, "int32"), tirx.const(lanes, "int32"), kind, _at(body, lane, fresh))


def _fresh(body: Any) -> Any:
    """A statement with loop variables of its own, since TVM wants each variable to be defined once."""

    def visit(loop: Any) -> Any:
        var = tirx.Var(loop.loop_var.name, str(loop.loop_var.ty.dtype))
        body = _at(loop.body, loop.loop_var, var)
        return tirx.For(var, loop.min, loop.extent, loop.kind, body, loop.thread_binding, loop.annotations)

    return tvm_ffi.structural_map(body, (tirx.For, visit))


def _at(body: Any, var: Any, value: Any) -> Any:
    """A statement with a variable replaced."""
    return tvm_ffi.structural_map(body, (tirx.Var, lambda v: value if v.same_as(var) else v))
