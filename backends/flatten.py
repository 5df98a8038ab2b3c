"""Indices of many axes made offsets into memory, without the rewriting by which TVM makes some of them wrong."""

from __future__ import annotations

from typing import Any

import tvm
from tvm import tirx

_GUARD = "convc_guard"


def flatten_buffers() -> Any:
    """TVM's FlattenBuffer, less its simplification by detected iterators (``IterMapSimplify``).

    That one pads an iterator to suit one floored division or modulo of it plus a constant, and pads it in the other
    divisions too: ``f % 30 // 10 * 35 + (f % 10 + 4) % 5 * 7`` becomes ``(f + 150) % 30 // 10 * 35 + (f + 150) % 5 * 7``.
    It leaves alone what stands in a loop whose extent depends on another loop, so each kernel is put into one for a while.
    The plain arithmetic simplification of offsets stays.
    """
    return tvm.transform.Sequential([_guard(), tirx.transform.FlattenBuffer(), _unguard()])


def _guard() -> Any:
    @tirx.transform.prim_func_pass(opt_level=0, name="convc.Guard")
    def run(func: Any, module: Any, context: Any) -> Any:
        outer, inner = tirx.Var(_GUARD, "int32"), tirx.Var(_GUARD, "int32")
        return func.with_body(_loop(outer, tirx.const(1, "int32"), _loop(inner, outer + 1, func.body)))

    return run


def _unguard() -> Any:
    @tirx.transform.prim_func_pass(opt_level=0, name="convc.Unguard")
    def run(func: Any, module: Any, context: Any) -> Any:
        return func.with_body(_inside(func.body))

    return run


def _loop(var: Any, extent: Any, body: Any) -> Any:
    return tirx.For(var, tirx.const(0, "int32"), extent, tirx.ForKind.SERIAL, body)


def _inside(stmt: Any) -> Any:
    """The statement without the guard, which stands behind the declarations of the flat buffers."""
    if isinstance(stmt, tirx.SeqStmt):
        return tirx.SeqStmt([_inside(s) for s in stmt.seq])
    if isinstance(stmt, tirx.For) and stmt.loop_var.name == _GUARD:
        return _inside(stmt.body)
    return stmt
