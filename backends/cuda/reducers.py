"""What TVM must know before it shares reductions out to threads: convc's combiners, and the lanes of a shuffle."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import tvm_ffi
from tvm import tirx

_register_reducer = tvm_ffi.get_global_func("s_tir.schedule.RegisterReducer")


def _extreme(larger: bool, number: str) -> Callable[[Sequence[Any], Sequence[Any]], list[Any]]:
    """The maximum or minimum of ir/ops/_reducers.py as TVM sees it; for floats (``number="float"``), NaN wins."""

    def combine(xs: Sequence[Any], ys: Sequence[Any]) -> list[Any]:
        a, b = xs[0], ys[0]
        better = tirx.Select(a > b if larger else a < b, a, b)
        return [tirx.Select(tirx.isnan(a), a, better) if number == "float" else better]

    return combine


def _worst(larger: bool) -> Callable[[Sequence[Any]], list[Any]]:
    """The identity of the maximum or minimum: a value that any element beats."""

    def identity(xs: Sequence[Any]) -> list[Any]:
        dtype = str(xs[0].ty.dtype)
        if "float" in dtype:
            return [tirx.const(float("-inf") if larger else float("inf"), dtype)]
        return [tirx.min_value(dtype) if larger else tirx.max_value(dtype)]

    return identity


def register_reducers() -> None:
    """Register the combiners and the mask of active lanes with TVM; to do so once is enough."""
    for larger in (True, False):
        for number in ("float", "int"):
            name = f"convc.{'maximum' if larger else 'minimum'}_of_{number}"
            # TVM's table of reducers is freed after Python is; that of global functions, which owns them too, never is
            tvm_ffi.register_global_func(f"{name}.combine", _extreme(larger, number))
            tvm_ffi.register_global_func(f"{name}.identity", _worst(larger))
            _register_reducer(
                1, tvm_ffi.get_global_func(f"{name}.combine"), tvm_ffi.get_global_func(f"{name}.identity")
            )
    # every warp is full and all its lanes reach the shuffle, which waits only for the lanes in its mask
    tirx.op.register_intrin_lowering(
        "tirx.tvm_warp_activemask", target="cuda", f=lambda _: tirx.const(0xFFFFFFFF, "uint32"), level=99
    )
