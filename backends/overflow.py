"""Integer arithmetic of data wraps around, whichever op computes it."""

from __future__ import annotations

from typing import Any

import tvm
import tvm_ffi
from tvm import tirx

from convc.ir.lowering import WIDE

from .guards import body_pass, found

_OPERATORS = {tirx.Add: "add", tirx.Sub: "sub", tirx.Mul: "mul"}


def wrap_data() -> Any:
    """A pass after which sums, differences and products of wide integers that are stored wrap around, if made of data.

    TVM and LLVM take such arithmetic never to overflow: they compute with it as with indices, for which that holds. The
    indices of loads and stores stay as they are.
    """
    return body_pass("convc.WrapData", lambda body: tvm_ffi.structural_map(body, (tirx.BufferStore, _stored)))


def _stored(store: Any) -> Any:
    if not any(str(e.ty.dtype) in WIDE for e in found(store.value, tuple(_OPERATORS))):
        return store
    loads: dict[str, Any] = {}

    def hide(load: Any) -> Any:
        name = f"convc.data{len(loads)}"
        loads[name] = load
        return tirx.Var(name, str(load.ty.dtype))

    def wrap(e: Any) -> Any:
        dtype = str(e.ty.dtype)
        if dtype not in WIDE or not any(v.name in loads for v in found(e, tirx.Var)):
            return e
        return tirx.call_intrin(dtype, f"convc.wrap_{_OPERATORS[type(e)]}", e.a, e.b)

    value = tvm_ffi.structural_map(store.value, (tvm.ir.TensorLoad, hide), order="pre")
    value = tvm_ffi.structural_map(value, (tuple(_OPERATORS), wrap))
    value = tvm_ffi.structural_map(value, (tirx.Var, lambda v: loads.get(v.name, v)))
    return tirx.BufferStore(store.buffer, value, store.indices)
