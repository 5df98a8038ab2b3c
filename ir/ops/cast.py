"""Conversion between dtypes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..dtypes import COMPUTED, DTYPES, SMALL, SMALL_FLOATS, SMALL_INTEGERS
from ..errors import ShapeError, UnsupportedOpError
from ..lowering import Operand, TensorExpressions
from ..onnx_io import ExportNode, ImportNode, dtype_from_onnx, exports, imports, onnx_dtype
from ..op import Case, boolean, f16, f32, f64, i32, i64, sample, u8
from ..types import TensorType
from ._elementwise import ALL_DTYPES, Elementwise
from ._math import truncated, wide
from ._small import ROUND_MODES, decoded, encoded


@dataclass(frozen=True)
class Cast(Elementwise):
    """``x`` converted to dtype ``to``; ONNX Cast-21.

    A float becomes an integer by truncation towards zero, and another float by rounding to the nearest. An integer
    loses its high bits in a narrower integer. Numbers other than zero become true. A float beyond the range of an
    integer of 8 or 16 bits wraps, as in numpy and ONNX Runtime; beyond that of int32 or int64 it becomes the least of
    them, and so does NaN, on every processor. Beyond the range of an 8-bit float it becomes the largest number, or
    without ``saturate`` infinity or NaN. ``round_mode`` (``up``, ``down``, ``nearest``) applies to f8e8m0, which holds
    powers of two.
    """

    name = "cast"
    dtypes = ALL_DTYPES
    cost = 0
    to: str = "f32"
    saturate: bool = True
    round_mode: str = "up"

    def infer(self, *types: TensorType) -> TensorType:
        if self.to not in DTYPES:
            raise ShapeError(f"dtype {self.to!r} is not known; known: {', '.join(DTYPES)}")
        if self.round_mode not in ROUND_MODES:
            raise ShapeError(f"unknown round_mode {self.round_mode!r}; known: {', '.join(ROUND_MODES)}")
        return super().infer(*types).with_dtype(self.to)

    def compute(self, k: TensorExpressions, xs: Sequence[Operand], outs: Sequence[TensorType]) -> Any:
        return super().compute(k, [decoded(k, x) for x in xs], outs)

    def scalar(self, k: TensorExpressions, *xs: Any) -> Any:
        (x,) = xs
        if self.to in SMALL:
            return encoded(k, x, self.to, self.saturate, self.round_mode)
        source, target = k.dtype(x), TensorType(self.to, ()).tvm_dtype
        if target == "bool" and source != "bool":
            x = wide(x)
            nonzero = k.tirx.NE(x, k.like(0, x))
            return k.tirx.any(nonzero, k.tirx.isnan(x)) if "float" in source else nonzero  # NE is false for NaN
        if "float" in source and "int" in target:
            # processors differ in direct conversions to few bits of numbers beyond the range
            narrow = target in ("int8", "uint8", "int16", "uint16")
            x = truncated(k, x, "int32" if narrow else target)
        if target in ("float16", "bfloat16") and source != "float32":
            x = _rounded_to_odd(k, x) if source == "float64" else x.astype("float32")
        y = x.astype(target)
        # TVM rounds the bits as an integer, which makes zero of a NaN whose bits are all set
        return k.select(k.tirx.isnan(x), k.const(math.nan, target), y) if target == "bfloat16" else y

    @classmethod
    def cases(cls) -> Iterator[Case]:
        floats = np.array([0, -0.0, 0.4, -0.6, 1.5, -2.5, 3, 100.9, -100.9], np.float32)
        no_bf16 = {"oracle": "reference", "note": "ONNX Runtime's numpy interface has no bfloat16"}
        for to in COMPUTED:
            yield sample(cls(to), abs(floats) if to.startswith("u") else floats, **(no_bf16 if to == "bf16" else {}))
        for dtype in ("f16", "f64", "i8", "i32", "u8", "u64", "bool"):
            yield sample(cls("f32"), TensorType(dtype, (33,)), low=0, high=100)
        yield sample(cls("u8"), np.array([-1, 300, 70000, -129.5], np.float32))
        yield sample(cls("i8"), np.array([-1, 300, 70000, 128], np.int64))
        yield sample(cls("bool"), np.array([0, -0.0, np.nan, np.inf, 1e-40], np.float32))
        yield sample(cls("bool"), i64[40], low=-1, high=1)
        yield sample(cls("i64"), i32[2, 20], low=-9, high=9)
        yield sample(cls("f16"), f64[40])
        # between two float16, and off the middle by less than a float32 tells; at the ends of the range
        ties = np.array([1 + 2.0**-11, 1 + 3 * 2.0**-11, 65519.99, 65520, 2.0**-25, 6e-8, 0, np.inf, 1e300, 1e-300])
        close = np.array([1 + 2.0**-11 + 2.0**-40, 1 + 2.0**-11 - 2.0**-40, 65520 - 1e-9])
        note = "ONNX Runtime rounds float64 to float32 first"
        yield sample(cls("f16"), np.concatenate([ties, -ties, close, -close, [np.nan]]), oracle="reference", note=note)
        yield sample(cls("f16"), np.array([65504, 65520, 1e-7, 6e-8, np.nan, -np.inf, 1e9], np.float32))
        yield sample(cls("f64"), f16[40])
        yield sample(cls("i32"), boolean[40])
        yield sample(cls("f32"), TensorType("bf16", (40,)), **no_bf16)
        yield sample(cls("bf16"), np.array([1.0039, 1.0117, 3e38, np.nan, -np.inf, 1e-40], np.float32), **no_bf16)
        every_nan = np.array([0x7FFFFFFF, -1, 0x7F800001, 0x7FC00000], np.int64).astype(np.int32).view(np.float32)
        yield sample(cls("bf16"), every_nan, **no_bf16)
        yield sample(cls("f16"), every_nan)
        yield sample(cls("f16"), u8[40], low=0, high=255)
        yield sample(cls("f64"), f32[()])
        yield from cls.small_cases()

    @classmethod
    def small_cases(cls) -> Iterator[Case]:
        """Conversions from and to small dtypes, of every value and the midpoints between neighbours."""
        alone = {"oracle": "reference", "note": "ONNX Runtime's numpy interface has no small dtypes"}
        numbers = np.concatenate(
            [np.arange(-40, 41) / 16, [448, 464, 465, 1e9, 240, 248, 57344, 61440, 65536, 1e-9, 0.4375]]
        )
        numbers = np.concatenate([numbers, -numbers, 2.0 ** np.arange(-20, 16), 1.375 * 2.0 ** -np.arange(20.0)])
        for to in SMALL_FLOATS:
            every = np.arange(16 if to == "f4e2m1" else 256, dtype=np.uint8).view(TensorType(to, ()).numpy_dtype)
            yield sample(cls("f32"), every, **alone)
            yield sample(cls("f16"), every, **alone)
            yield sample(cls(to), numbers.astype(np.float32), **alone)
            yield sample(cls(to), numbers[abs(numbers) < 65504].astype(np.float16), **alone)
        for to in SMALL_FLOATS[:4]:
            special = np.array([np.nan, np.inf, -np.inf, -0.0, 500, -6e4, 1e5, 1e-40], np.float32)
            yield sample(cls(to), special, **alone)
            yield sample(cls(to, saturate=False), special, **alone)
            yield sample(cls(to, saturate=False), numbers.astype(np.float32), **alone)
        yield sample(cls("f8e4m3fn"), numbers, **alone)
        yield sample(cls("f8e5m2"), np.arange(-300, 300), **alone)
        for mode in ROUND_MODES:
            yield sample(cls("f8e8m0", round_mode=mode), abs(numbers.astype(np.float32)), **alone)
        for to in SMALL_INTEGERS:
            least, most = {"i2": (-2, 1), "u2": (0, 3), "i4": (-8, 7), "u4": (0, 15)}[to]
            every = np.arange(least, most + 1)
            yield sample(cls(to), every.astype(np.float32), **alone)
            yield sample(cls(to), every.astype(np.int8) if least else every.astype(np.uint8), **alone)
            yield sample(cls("f32"), every.astype(TensorType(to, ()).numpy_dtype), **alone)
            yield sample(cls("i32"), every.astype(TensorType(to, ()).numpy_dtype), **alone)


@imports("Cast", "CastLike", folds=True)
def _import_cast(n: ImportNode) -> Any:
    x = n.input(0)
    if n.op_type == "CastLike":
        to = n.input(1).type.dtype
    else:
        code = n.attr("to")
        if code is None:
            raise n.error("attribute 'to' is missing")
        try:
            to = dtype_from_onnx(code)
        except UnsupportedOpError as e:
            raise n.unsupported(str(e)) from None
    if to == x.type.dtype:
        return x
    if to not in SMALL_FLOATS:  # the other dtypes do not saturate
        return n.emit(Cast(to), x)
    return n.emit(Cast(to, bool(n.attr("saturate", 1)), n.attr("round_mode", "up")), x)


@exports(Cast)
def _export_cast(op: Cast, n: ExportNode) -> None:
    saturate = None if op.saturate else 0
    round_mode = op.round_mode if op.round_mode != "up" else None
    n.node("Cast", n.inputs, n.outputs, to=onnx_dtype(op.to), saturate=saturate, round_mode=round_mode)


def _rounded_to_odd(k: TensorExpressions, x: Any) -> Any:
    """A float64 as the float32 that rounds to the same number of 11 bits or fewer as the float64 does.

    Where the float32 is not exact, its last bit is set and the bits before it are cut off ("rounding to odd", Boldo and
    Melquiond, "Emulation of a FMA and correctly rounded sums", 2008): rounding twice then never differs from rounding
    once. Processors without float16 would call a function of the compiler's library instead, which no artifact has.
    """
    near = x.astype("float32")
    back = near.astype("float64")
    bits = k.tirx.reinterpret("int32", near)
    above = k.tirx.any(k.tirx.all(x >= k.like(0, x), back > x), k.tirx.all(x < k.like(0, x), back < x))
    cut = k.select(above, bits - k.const(1, "int32"), bits)
    odd = k.tirx.reinterpret("float32", cut | k.const(1, "int32"))
    return k.select(k.tirx.any(back == x, k.tirx.isnan(x)), near, odd)
