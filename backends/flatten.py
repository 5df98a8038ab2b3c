"""Flattening of multi-dimensional indices to memory offsets, without a rewrite of TVM's that gets some wrong."""

from __future__ import annotations

from typing import Any

import tvm
from tvm import tirx

from .guards import body_pass

_GUARD = "convc_guard"


def flatten_buffers() -> Any:
    """TVM's FlattenBuffer without its simplification by detected iterators (``IterMapSimplify``).

    That simplification pads an iterator to suit one floored division or modulo of the iterator plus a constant, and
    uses the padded iterator in the other divisions too: ``f % 30 // 10 * 35 + (f % 10 + 4) % 5 * 7`` becomes
    ``(f + 150) % 30 // 10 * 35 + (f + 150) % 5 * 7``. It skips statements in a loop whose extent depends on another
    loop, so each kernel is put into such a loop for this pass. The plain arithmetic simplification of offsets stays.
    """
    return tvm.transform.Sequential(
        [body_pass("convc.Guard", _guarded), tirx.transform.FlattenBuffer(), body_pass("convc.Unguard", _inside)]
    )


def _guarded(body: Any) -> Any:
    """The body inside two loops of one iteration, the inner loop's extent depending on the outer loop."""
    outer, inner = tirx.Var(_GUARD, "int32"), tirx.Var(_GUARD, "int32")
    return _loop(outer, tirx.const(1, "int32"), _loop(inner, outer + 1, body))


def _loop(var: Any, extent: Any, body: Any) -> Any:
    return tirx.For(var, tirx.const(0, "int32"), extent, tirx.ForKind.SERIAL, body)


def _inside(stmt: Any) -> Any:
    """The statement without the guard loops, which come after the declarations of the flat buffers."""
    if isinstance(stmt, tirx.SeqStmt):
        return tirx.SeqStmt([_inside(s) for s in stmt.seq])
    if isinstance(stmt, tirx.For) and stmt.loop_var.name == _GUARD:
        return _inside(stmt.body)
    return stmt
