"""Zeros whose bits are read as another dtype, as a constant of an 8-bit float may give."""

from __future__ import annotations

from typing import Any

import tvm_ffi
from tvm import tirx
from tvm.ir import Call, PrimType

from .guards import body_pass


def zero_bits() -> Any:
    """A pass that puts zeros in place of ``reinterpret(dtype, 0)``.

    TVM's LLVM generator takes it for a null pointer, and its CUDA generator takes the address of the number.
    """
    return body_pass("convc.ZeroBits", lambda body: tvm_ffi.structural_map(body, (Call, _zero)))


def _zero(call: Any) -> Any:
    if getattr(call.op, "name", "") != "tirx.reinterpret" or not isinstance(call.ty, PrimType):
        return call
    (bits,) = call.args
    value = bits.value if isinstance(bits, tirx.Broadcast) else bits
    return tirx.const(0, str(call.ty.dtype)) if isinstance(value, tirx.IntImm) and not value.value else call
