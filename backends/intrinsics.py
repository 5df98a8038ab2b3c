"""The mathematical functions that every target implements itself, called in ops as ``k.intrinsic("exp", x)``.

Each is one call in TIR, kept through scheduling and vectorisation, and lowered last by what the target registers for
it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import tvm
import tvm_ffi
from tvm import tirx
from tvm.ir import _ffi_api
from tvm.ir.op import register_op_attr

INTRINSICS = {
    "exp": 1,
    "expm1": 1,
    "log": 1,
    "log1p": 1,
    "tanh": 1,
    "erf": 1,
    "mish": 1,
    "gelu": 1,
    "sigmoid": 1,
    "silu": 1,
    "maximum": 2,
    "minimum": 2,
}
"""The number of operands of each intrinsic. ``log1p`` need only serve arguments in [0, 1]; ``maximum`` and ``minimum``
give NaN where either operand is NaN.
"""
BYTES = ("dot4", "plus", "quad")
"""Functions of int32 vectors, for processors that have instructions for them (``cpu/byte_math.py``)."""
_PREFIX = "convc."


def register_lowering(target: str, lower: Callable[[str, Any], Any], names: Iterable[str] = INTRINSICS) -> None:
    """Make ``lower(name, call)`` replace the calls of these intrinsics, vector calls included, for a kind of target."""
    for name in names:
        tirx.op.register_intrin_lowering(_PREFIX + name, target=target, f=partial(lower, name), level=11)


def used(body: Any) -> list[str]:
    """The intrinsics that a statement calls, in alphabetic order."""
    found = set()

    def visit(call: Any) -> None:
        name = getattr(call.op, "name", "")
        if name.startswith(_PREFIX):
            found.add(name.removeprefix(_PREFIX))

    tvm_ffi.structural_walk(body, (tvm.ir.Call, visit), order="post")
    return sorted(found)


def _register() -> None:
    for name in (*INTRINSICS, *BYTES):
        op = _PREFIX + name
        _ffi_api.RegisterOp(op, f"{name} of convc")
        register_op_attr(op, "TVectorizable", True)
        register_op_attr(op, "TCallEffectKind", 1)  # the effect kind "pure"
    # TVM does not set it, and would compute each element alone
    register_op_attr("tirx.nearbyint", "TVectorizable", True)


_register()
