"""Keep what some of TVM's simplifications would remove: guards around reads, and NaN."""

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


def keep_nans(element: Any) -> Any:
    """A scalar expression in a form that TVM does not simplify to another value where a float is NaN or infinite.

    TVM simplifies ``x - x`` to 0, ``(x + y) - y`` to x, and ``x == x`` to true. ``x + y * -1`` and
    ``x <= y and x >= y`` have the same values as ``x - y`` and ``x == y``, and LLVM makes these of them again.

    TVM takes ``not x < y`` for ``x >= y``. So what a comparison of floats gives is hidden in a comparison of integers.
    """
    element = tvm_ffi.structural_map(element, (tirx.Sub, _difference))
    element = tvm_ffi.structural_map(element, (tirx.EQ, _equality))
    if str(element.ty.dtype) == "bool" and any(_of_floats(e) for e in found(element, COMPARISONS)):
        return tirx.NE(element.astype("int8"), tirx.const(0, "int8"))
    return element


COMPARISONS = (tirx.EQ, tirx.NE, tirx.LT, tirx.LE, tirx.GT, tirx.GE)


def _difference(e: Any) -> Any:
    return e.a + e.b * tirx.const(-1, e.ty.dtype) if _of_floats(e) else e


def _equality(e: Any) -> Any:
    return tirx.all(e.a <= e.b, e.a >= e.b) if _of_floats(e) else e


def _of_floats(e: Any) -> bool:
    return "float" in str(e.a.ty.dtype)


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
    if found(select.condition, tvm.ir.TensorLoad):
        return False  # a condition on data implies nothing about positions
    calls = [c for branch in (select.true_value, select.false_value) for c in found(branch, Call)]
    return any(getattr(c.op, "name", "").endswith("if_then_else") for c in calls)


def found(expr: Any, kind: Any) -> list[Any]:
    """The parts of an expression or a statement of this kind."""
    parts: list[Any] = []
    tvm_ffi.structural_walk(expr, (kind, parts.append), order="pre")
    return parts


def uses(e: Any, var: Any) -> bool:
    """Whether a variable stands in an expression or a statement."""
    return any(v.same_as(var) for v in found(e, tirx.Var))
