"""Indices of many axes made offsets into memory, without the rewriting by which TVM makes some of them wrong."""

from __future__ import annotations

from typing import Any

import tvm
from tvm import tirx

from .guards import body_pass

_GUARD = "convc_guard"


def flatten_buffers() -> Any:
    """TVM's FlattenBuffer, less its simplification by detected iterators (``IterMapSimplify``).

    That one pads an iterator to suit one floored division or modulo of it plus a constant, and pads it in the other
    divisions too: ``f % 30 // 10 * 35 + (f % 10 + 4) % 5 * 7`` becomes ``(f + 150) % 30 // 10 * 35 + (f + 150) % 5 * 7``.
    It leaves alone what stands in a loop whose extent depends on another loop, so each kernel is put into one for a while.
    The plain arithmetic simplification of offsets stays.
    """
    return tvm.transform.Sequential(
        [body_pass("convc.Guard", _guarded), tirx.transform.FlattenBuffer(), body_pass("convc.Unguard", _inside)]
    )


def _guarded(body: Any) -> Any:
    outer, inner = tirx.Var(_GUARD, "int32"), tirx.Var(_GUARD, "int32")
    return _loop(outer, tirx.const(1, "int32"), _loop(inner, outer + 1, body))


def _loop(var: Any, extent: Any, body: Any) -> Any:
    return tirx.For(var, tirx.const(0, "int32"), extent, tirx.ForKind.SERIAL, body)


def _inside(stmt: Any) -> Any:
    """The statement without the guard, which stands behind the declarations of the flat buffers."""
    if isinstance(stmt, tirx.SeqStmt):
        return tirx.SeqStmt([_inside(s) for s in stmt.seq])
    if isinstance(stmt, tirx.For) and stmt.loop_var.name == _GUARD:
        return _inside(stmt.body)
    return stmt
