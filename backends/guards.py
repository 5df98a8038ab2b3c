"""Guards around reads that may lie out of bounds, kept from a simplification that takes them away."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tvm
import tvm_ffi
from tvm import tirx
from tvm.ir import Call


def keep_guards() -> Any:
    """A pass for scheduled functions: a choice by position around a guarded read evaluates only what it chooses.

    TVM simplifies ``select(c, if_then_else(c, x[i], 0), 0)`` to ``select(c, x[i], 0)``, since c holds where the branch counts; but a
    select evaluates both, and x ends where c fails. What TVM has against that serves scalars alone, not vectors.
    """
    return body_pass("convc.KeepGuards", lambda body: tvm_ffi.structural_map(body, (tirx.Select, _guarded)))


def body_pass(name: str, change: Callable[[Any], Any]) -> Any:
    """A pass that changes the body of each function."""
    return tirx.transform.prim_func_pass(lambda func, *_: func.with_body(change(func.body)), opt_level=0, name=name)


def _guarded(select: Any) -> Any:
    if not _is_unsafe(select):
        return select
    return tirx.if_then_else(select.condition, select.true_value, select.false_value)


def _is_unsafe(select: Any) -> bool:
    """Whether a select goes by position, and holds a guard that may follow from its condition."""
    if _found(select.condition, tvm.ir.TensorLoad):
        return False  # what depends on data implies nothing of positions
    calls = [c for branch in (select.true_value, select.false_value) for c in _found(branch, Call)]
    return any(getattr(c.op, "name", "").endswith("if_then_else") for c in calls)


def _found(expr: Any, kind: Any) -> list[Any]:
    found: list[Any] = []
    tvm_ffi.structural_walk(expr, (kind, found.append), order="pre")
    return found
