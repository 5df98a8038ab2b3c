"""Small dtypes: floats of 8 and 4 bits, integers of 4 and 2, each held in the low bits of a byte.

They are read as float32, or as 8-bit integers, and written by rounding to the nearest, ties to even. ONNX, "Float
stored in 8 bits"; Micikevicius et al. 2022, FP8 Formats for Deep Learning.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from ..dtypes import SMALL
from ..lowering import Operand, TensorExpressions
from ._math import wide

ROUND_MODES = ("up", "down", "nearest")
"""How a number becomes a power of two."""


@dataclass(frozen=True)
class Format:
    """A float of ``exponent`` and ``mantissa`` bits: its bias, the code of its largest number, those of infinity and
    NaN.

    Without a code for infinity, that becomes NaN; without either, the largest number. With ``fnuz`` there is no
    negative zero, whose code is NaN.
    """

    exponent: int
    mantissa: int
    bias: int
    largest: int
    infinity: int | None = None
    nan: int | None = None
    fnuz: bool = False

    @property
    def sign(self) -> int:
        """The sign's bit."""
        return 1 << (self.exponent + self.mantissa)


FORMATS = {
    "f8e4m3fn": Format(4, 3, 7, 0x7E, nan=0x7F),
    "f8e4m3fnuz": Format(4, 3, 8, 0x7F, nan=0x80, fnuz=True),
    "f8e5m2": Format(5, 2, 15, 0x7B, infinity=0x7C, nan=0x7E),
    "f8e5m2fnuz": Format(5, 2, 16, 0x7F, nan=0x80, fnuz=True),
    "f4e2m1": Format(2, 1, 1, 0x7),
}
INTEGERS = {"i2": (2, True), "u2": (2, False), "i4": (4, True), "u4": (4, False)}
"""Bits, and whether there is a sign."""


@dataclass(frozen=True)
class Decoded(Operand):
    """An operand of a small dtype, whose elements are read as numbers."""

    source: Operand

    def __call__(self, *index: Any) -> Any:
        return _number(self.k, self.source(*index).astype("int32"), self.type.dtype)

    @property
    def dtype(self) -> str:
        if self.type.dtype not in INTEGERS:
            return "float32"
        return "int8" if INTEGERS[self.type.dtype][1] else "uint8"


def decoded(k: TensorExpressions, x: Operand) -> Operand:
    """The operand as one of numbers that can be computed with; itself, when it is."""
    if x.type.dtype not in SMALL:
        return x
    return Decoded(k, x.tensor, x.type, x)


def _number(k: TensorExpressions, bits: Any, dtype: str) -> Any:
    """The number that int32 bits stand for."""
    if dtype in INTEGERS:
        width, signed = INTEGERS[dtype]
        low = bits & ((1 << width) - 1)
        half = 1 << (width - 1)
        return ((low ^ half) - half).astype("int8") if signed else low.astype("uint8")
    if dtype == "f8e8m0":
        power = k.select(
            bits == 0, k.const(1 << 22, "int32"), bits << 23
        )  # the least is below float32's normal numbers
        return k.select(bits == 0xFF, k.const(math.nan, "float32"), k.tirx.reinterpret("float32", power))
    f = FORMATS[dtype]
    magnitude = bits & (f.sign - 1)
    # in float32's places, subnormal numbers with the normal ones, and then scaled by the difference of the biases
    shifted = (magnitude << (23 - f.mantissa)) | ((bits & f.sign) << (31 - f.exponent - f.mantissa))
    value = k.tirx.reinterpret("float32", shifted) * k.const(2.0 ** (127 - f.bias), "float32")
    if f.infinity is not None:
        sign = k.select((bits & f.sign) == 0, k.const(1, "float32"), k.const(-1, "float32"))
        value = k.select(magnitude == f.infinity, sign * k.const(math.inf, "float32"), value)
        return k.select(magnitude > f.infinity, k.const(math.nan, "float32"), value)
    if f.nan is None:
        return value
    return k.select((bits if f.fnuz else magnitude) == f.nan, k.const(math.nan, "float32"), value)


def encoded(k: TensorExpressions, x: Any, dtype: str, saturate: bool = True, round_mode: str = "up") -> Any:
    """The bits, as uint8, of a scalar of any dtype that is computed with; see ``Cast``."""
    if dtype in INTEGERS:
        whole = wide(x).astype("int32") if "float" in k.dtype(x) else x.astype("int32")
        return (whole & ((1 << INTEGERS[dtype][0]) - 1)).astype("uint8")
    if "float" not in k.dtype(x):
        x = x.astype("float32" if k.dtype(x) in ("bool", "int8", "uint8", "int16", "uint16") else "float64")
    x = wide(x)
    if dtype == "f8e8m0":
        return _power_of_two(k, x.astype("float32"), saturate, round_mode)
    return _rounded(k, x, FORMATS[dtype], saturate)


def _rounded(k: TensorExpressions, x: Any, f: Format, saturate: bool) -> Any:
    """The code of the nearest number there is, of a float32 or float64."""
    width, mantissa, bias = (64, 52, 1023) if k.dtype(x) == "float64" else (32, 23, 127)
    integer = f"int{width}"

    def const(v: int) -> Any:
        return k.const(v, integer)

    drop = mantissa - f.mantissa
    bits = k.tirx.reinterpret(integer, k.tirx.abs(x))
    up = (bits + const((1 << (drop - 1)) - 1) + ((bits >> const(drop)) & const(1))) >> const(drop)
    normal = up - const((bias - f.bias) << f.mantissa)
    # adding this makes the last place of the sum that of the subnormal numbers
    magic = k.const(2.0 ** (mantissa + 1 - f.bias - f.mantissa), k.dtype(x))
    subnormal = k.tirx.reinterpret(integer, k.tirx.abs(x) + magic) - k.tirx.reinterpret(integer, magic)
    code = k.select(k.tirx.abs(x) < k.like(2.0 ** (1 - f.bias), x), subnormal, normal)
    beyond = f.largest if saturate or f.nan is None else f.nan if f.infinity is None else f.infinity
    code = k.select(code > const(f.largest), const(beyond), code)
    negative = (k.tirx.reinterpret(integer, x) >> const(width - 1)) & const(1)
    if f.fnuz:  # zero and NaN have no sign
        signed = k.select(k.tirx.any(code == const(0), code == const(f.nan or 0)), code, code | (negative << const(7)))
    else:
        signed = code | (negative << const(f.exponent + f.mantissa))
    nan = f.sign if f.nan is None else f.nan  # without one it is minus zero, as in ml_dtypes
    signed = k.select(k.tirx.isnan(x), const(nan), signed)
    return signed.astype("uint8")


def _power_of_two(k: TensorExpressions, x: Any, saturate: bool, round_mode: str) -> Any:
    """The exponent of a float32, rounded as onnx's ``to_float8e8m0`` does; 255 for NaN and infinity."""
    bits = k.tirx.reinterpret("int32", k.tirx.abs(x))
    exponent, fraction = bits >> 23, bits & 0x7FFFFF
    half = 1 << 22
    up = {
        "down": k.const(False, "bool"),
        "up": fraction > 0,
        "nearest": k.tirx.any(fraction > half, k.tirx.all(fraction == half, exponent > 0)),
    }[round_mode]
    most = 0xFD if saturate else 0xFE
    raised = k.select(k.tirx.all(up, exponent <= most), exponent + 1, exponent)
    return raised.astype("uint8")
