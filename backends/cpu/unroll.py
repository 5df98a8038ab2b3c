"""Addresses in unrolled loops, in the form in which LLVM adds the parts that differ from step to step last.

LLVM makes ``x[base + 640]`` one instruction with a constant offset, but only where the constant is added to what all
steps share. It does not look for it inside a longer sum, since sums of 32 bits are extended to addresses of 64.
"""

from __future__ import annotations

from typing import Any

import tvm
import tvm_ffi
from tvm import tirx

from ..guards import found


def add_steps_last(body: Any) -> Any:
    """The statement in whose indices the terms with the indices of unrolled loops come last."""
    steps = {loop.loop_var for loop in found(body, tirx.For) if loop.kind == tirx.ForKind.UNROLLED}
    if not steps:
        return body

    def varies(e: Any) -> bool:
        return any(v in steps for v in found(e, tirx.Var))

    def terms(e: Any) -> list[Any]:
        if isinstance(e, tirx.Add):
            return [*terms(e.a), *terms(e.b)]
        if isinstance(e, tirx.Mul) and varies(e):
            return [a * b for a in terms(e.a) for b in terms(e.b)]
        return [e]

    def sorted_sum(index: Any) -> Any:
        if isinstance(index, tirx.Ramp):
            return tirx.Ramp(sorted_sum(index.base), index.stride, index.lanes)
        if not isinstance(index, tirx.Add) or not varies(index):
            return index
        parts = terms(index)
        shared, rest = [p for p in parts if not varies(p)], [p for p in parts if varies(p)]
        total = (shared or rest)[0]
        for part in [*shared[1:], *rest] if shared else rest[1:]:
            total = total + part
        return total

    def load(e: Any) -> Any:
        return tirx.BufferLoad(e.source, [sorted_sum(i) for i in e.indices])

    def store(s: Any) -> Any:
        return tirx.BufferStore(s.buffer, s.value, [sorted_sum(i) for i in s.indices])

    return tvm_ffi.structural_map(tvm_ffi.structural_map(body, (tvm.ir.TensorLoad, load)), (tirx.BufferStore, store))
