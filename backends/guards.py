"""Keep the guards around reads that may be out of bounds, which one of TVM's simplifications would remove."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tvm
import tvm_ffi
from tvm import tirx
from tvm.ir import Call


def keep_guards() -> Any:
    """A pass that makes selects by position evaluate only the branch they choose, where a branch has a guarded read.

    TVM simplifies ``select(c, if_then_else(c, x[i], 0), 0)`` to ``select(c, x[i], 0)``, since c holds where the branch
    counts. But a select evaluates both branches, and where c fails, ``x[i]`` is out of bounds. TVM's own pass against
    this (RewriteUnsafeSelect) handles scalars but not vectors.
    """
    return body_pass("convc.KeepGuards", lambda body: tvm_ffi.structural_map(body, (tirx.Select, _guarded)))


def body_pass(name: str, change: Callable[[Any], Any]) -> Any:
    """A pass that changes the body of each function."""
    return tirx.transform.prim_func_pass(lambda func, *_: func.with_body(change(func.body)), opt_level=0, name=name)


def _guarded(select: Any) -> Any:
    """The select as a branch, if it is unsafe."""
    if not _is_unsafe(select):
        return select
    return tirx.if_then_else(select.condition, select.true_value, select.false_value)


def _is_unsafe(select: Any) -> bool:
    """Whether a select's condition is on positions only, and a branch has a guard that the condition may imply."""
    if _found(select.condition, tvm.ir.TensorLoad):
        return False  # a condition on data implies nothing about positions
    calls = [c for branch in (select.true_value, select.false_value) for c in _found(branch, Call)]
    return any(getattr(c.op, "name", "").endswith("if_then_else") for c in calls)


def _found(expr: Any, kind: Any) -> list[Any]:
    """The parts of an expression of this kind."""

    found: list[Any] = []
    tvm_ffi.structural_walk(expr, (kind, found.append), order="pre")
    return found
