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
from ._math import truncated, wide

ROUND_MODES = ("up", "down", "nearest")
"""How a number becomes a power of two."""


@dataclass(frozen=True)
class Format:
    """The format of a float: its ``exponent`` and ``mantissa`` bits, its bias, and the codes of its largest number,
    infinity and NaN.

    Infinity becomes NaN in a format without infinity, and the largest number in one with neither. A format with
    ``fnuz`` has no negative zero; the code means NaN.
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
        """The bit of the sign."""
        return 1 << (self.exponent + self.mantissa)


FORMATS = {
    "f8e4m3fn": Format(4, 3, 7, 0x7E, nan=0x7F),
    "f8e4m3fnuz": Format(4, 3, 8, 0x7F, nan=0x80, fnuz=True),
    "f8e5m2": Format(5, 2, 15, 0x7B, infinity=0x7C, nan=0x7E),
    "f8e5m2fnuz": Format(5, 2, 16, 0x7F, nan=0x80, fnuz=True),
    "f4e2m1": Format(2, 1, 1, 0x7),
}
INTEGERS = {"i2": (2, True), "u2": (2, False), "i4": (4, True), "u4": (4, False)}
"""For each small integer dtype, its bits, and whether it is signed."""


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
    """The operand with elements that can be computed with: decoded for a small dtype, else itself."""
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
        )  # the least power is a subnormal number of float32
        return k.select(bits == 0xFF, k.const(math.nan, "float32"), k.tirx.reinterpret("float32", power))
    f = FORMATS[dtype]
    magnitude = bits & (f.sign - 1)
    # the bits are moved to float32's places, for subnormal and normal numbers alike, and scaled by the difference of
    # biases
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
    """The bits, as uint8, to which a scalar of any dtype that ops compute with is converted; see ``Cast``."""
    if dtype in INTEGERS:
        whole = truncated(k, x, "int32") if "float" in k.dtype(x) else x.astype("int32")
        return (whole & ((1 << INTEGERS[dtype][0]) - 1)).astype("uint8")
    if "float" not in k.dtype(x):
        x = x.astype("float32" if k.dtype(x) in ("bool", "int8", "uint8", "int16", "uint16") else "float64")
    x = wide(x)
    if dtype == "f8e8m0":
        return _power_of_two(k, x.astype("float32"), saturate, round_mode)
    return _rounded(k, x, FORMATS[dtype], saturate)


def _rounded(k: TensorExpressions, x: Any, f: Format, saturate: bool) -> Any:
    """The code of the number of the format that is nearest to a float32 or float64."""
    width, mantissa, bias = (64, 52, 1023) if k.dtype(x) == "float64" else (32, 23, 127)
    integer = f"int{width}"

    def const(v: int) -> Any:
        return k.const(v, integer)

    drop = mantissa - f.mantissa
    bits = k.tirx.reinterpret(integer, k.tirx.abs(x))
    up = (bits + const((1 << (drop - 1)) - 1) + ((bits >> const(drop)) & const(1))) >> const(drop)
    normal = up - const((bias - f.bias) << f.mantissa)
    # adding this makes the last place of the sum that of the subnormal numbers; CUDA takes no address of a constant
    power = mantissa + 1 - f.bias - f.mantissa
    magic = k.const(2.0**power, k.dtype(x))
    subnormal = k.tirx.reinterpret(integer, k.tirx.abs(x) + magic) - const((power + bias) << mantissa)
    code = k.select(k.tirx.abs(x) < k.like(2.0 ** (1 - f.bias), x), subnormal, normal)
    # the code after the largest number's is that of infinity, or of NaN where there is no infinity
    code = k.tirx.min(code, const(f.largest if saturate or f.nan is None else f.largest + 1))
    negative = (k.tirx.reinterpret(integer, x) >> const(width - 1)) & const(1)
    signed = code | (negative << const(f.exponent + f.mantissa))
    if f.fnuz:  # zero has no sign, and NaN's code is the sign alone
        signed = k.select(code == const(0), code, signed)
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
