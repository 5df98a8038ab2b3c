"""The mathematical functions that every target implements itself, called in ops as ``k.intrinsic("exp", x)``.

Each is one call in TIR, kept through scheduling and vectorisation, and lowered last by what the target registers for
it.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import tvm
import tvm_ffi
from tvm import tirx
from tvm.ir import _ffi_api
from tvm.ir.op import register_op_attr
from tvm.tirx import CallEffectKind

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
WRAPPING = {"wrap_add": operator.add, "wrap_sub": operator.sub, "wrap_mul": operator.mul}
"""Arithmetic of wide integers that wraps around."""
SAME = "same"
"""A number, of which TVM knows nothing until it generates code (``opaque``)."""
KEPT = "kept"
"""A number that is computed where it stands (``kept``)."""
_PREFIX = "convc."


def register_lowering(target: str, lower: Callable[[str, Any], Any], names: Iterable[str] = INTRINSICS) -> None:
    """Make ``lower(name, call)`` replace the calls of these intrinsics, vector calls included, for a kind of target."""
    for name in names:
        tirx.op.register_intrin_lowering(_PREFIX + name, target=target, f=partial(lower, name), level=11)


def opaque(number: Any) -> Any:
    """An integer that TVM does not compute with.

    TVM takes integers for indices, which never overflow. Of two constants that data is multiplied by it makes one that
    may be larger than the dtype holds.
    """
    return tirx.call_intrin(str(number.ty.dtype), _PREFIX + SAME, number)


def kept(number: Any) -> Any:
    """An integer that a variable is bound to, which TVM does not put in the place of the variable.

    It would otherwise simplify what is computed with the variable for as long as it takes to see through all of it.
    """
    return tirx.call_intrin(str(number.ty.dtype), _PREFIX + KEPT, number)


def _wrapped(name: str, call: Any) -> Any:
    """The operation in twice as many bits, which hold any result; LLVM narrows it to one that wraps around.

    TVM tells LLVM that its own operators on integers of 32 bits and more never overflow.
    """
    dtype = str(call.ty.dtype)
    kind, bits, lanes = re.fullmatch(r"(u?int)(\d+)(x\d+)?", dtype).groups("")  # type: ignore[union-attr]
    wide = f"{kind if name == 'wrap_mul' else 'int'}{2 * int(bits)}{lanes}"
    return tirx.Cast(dtype, WRAPPING[name](*(tirx.Cast(wide, a) for a in call.args)))


def used(body: Any) -> list[str]:
    """The intrinsics that a statement calls, in alphabetic order."""
    found = set()

    def visit(call: Any) -> None:
        name = getattr(call.op, "name", "")
        short = name.removeprefix(_PREFIX)
        if short in INTRINSICS or short in BYTES:
            found.add(short)

    tvm_ffi.structural_walk(body, (tvm.ir.Call, visit), order="post")
    return sorted(found)


def _register() -> None:
    for name in (*INTRINSICS, *BYTES, *WRAPPING, SAME, KEPT):
        op = _PREFIX + name
        _ffi_api.RegisterOp(op, f"{name} of convc")
        register_op_attr(op, "TVectorizable", True)
        effect = CallEffectKind.ReadState if name == KEPT else CallEffectKind.Pure  # what reads state is not moved
        register_op_attr(op, "TCallEffectKind", int(effect.value))
    # TVM does not set it, and would compute each element alone
    register_op_attr("tirx.nearbyint", "TVectorizable", True)
    for target in ("llvm", "cuda"):
        register_lowering(target, lambda _, call: call.args[0], [SAME, KEPT])
    register_lowering("llvm", _wrapped, WRAPPING)
    register_lowering("cuda", lambda name, call: WRAPPING[name](*call.args), WRAPPING)


_register()
