"""Products of bytes for x86 processors with VNNI, which add four of them at a time, as inlined LLVM IR.

``plus(sum, dot4(quad(x[i], x[i+1], x[i+2], x[i+3]), w))`` is one instruction: in each int32 lane it adds to ``sum``
four products of unsigned bytes of x and signed bytes of w.
"""

from __future__ import annotations

from typing import Any

import tvm
from tvm import tirx

from ..intrinsics import register_lowering

LANES = {4: 128, 8: 256, 16: 512}
"""The lengths of int32 vectors, and the bits of the register that each fills."""


def definitions() -> str:
    """LLVM IR that defines the function for each length of vectors."""
    return "\n".join(_definition(lanes, bits) for lanes, bits in LANES.items())


def _definition(lanes: int, bits: int) -> str:
    t, f = f"<{lanes} x i32>", f"@llvm.x86.avx512.vpdpbusd.{bits}"
    return f"""declare {t} {f}({t}, {t}, {t})
define {t} @{_symbol(lanes)}({t} %sum, {t} %a, {t} %b) alwaysinline {{
  %y = call {t} {f}({t} %sum, {t} %a, {t} %b)
  ret {t} %y
}}"""


def _symbol(lanes: int) -> str:
    return f"convc_dot4_i32x{lanes}"


def _lower_plus(name: str, call: Any) -> Any:
    """Lower ``plus`` to the instruction. Calls are lowered from the outside in, so its ``dot4`` is still there."""
    total, product = call.args
    return tirx.call_pure_extern(call.ty.dtype, _symbol(tvm.DataType(call.ty.dtype).lanes), total, *product.args)


def _lower_quad(name: str, call: Any) -> Any:
    """The four bytes as an int32.

    They are loaded at once, by one load whose source LLVM knows: a combination of four loads would keep the
    accumulators from staying in registers.
    """
    first = call.args[0]
    return tirx.reinterpret("int32", tirx.BufferLoad(first.source, [tirx.Ramp(first.indices[0], 1, 4)]))


register_lowering("llvm", _lower_plus, ["plus"])
register_lowering("llvm", _lower_quad, ["quad"])
