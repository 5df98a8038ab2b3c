"""Mathematical functions of float32 vectors on CPUs, as LLVM IR that is inlined into the kernels.

LLVM itself would call the C library once per element. An intrinsic is lowered last, to a call of a function that the
kernel carries with it as text (``definitions``). Sources: exp and log are Cephes' ``expf`` and ``logf`` (S. Moshier);
log1p and expm1 are put together from their parts; tanh and erf are the rational functions of Eigen (``ptanh_float``,
``perf_float``), which XLA uses too. NaN and infinities are handled as in the C library. tests/ops/test_math.py
measures the
errors.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Collection, Sequence
from functools import cache
from typing import Any

import tvm
from tvm import tirx

from ..intrinsics import INTRINSICS, register_lowering

LANES = (1, 2, 4, 8, 16, 32, 64)
"""The vector lengths that functions are defined for. Other lengths are padded."""


class Vector:
    """A value of LLVM IR in a function being written. Arithmetic on it writes instructions."""

    def __init__(self, function: Function, name: str, kind: str = "float") -> None:
        self.function = function
        self.name = name
        self.kind = kind
        """The type of an element: ``float``, ``i32`` or ``i1``."""

    def _binary(self, operation: str, other: Vector | float, kind: str = "") -> Vector:
        b = self.function.value(other, self.kind)
        return self.function.write(
            f"{operation} {self.function.type(self.kind)} {self.name}, {b.name}", kind or self.kind
        )

    def __add__(self, other: Vector | float) -> Vector:
        return self._binary("fadd" if self.kind == "float" else "add", other)

    def __sub__(self, other: Vector | float) -> Vector:
        return self._binary("fsub" if self.kind == "float" else "sub", other)

    def __mul__(self, other: Vector | float) -> Vector:
        return self._binary("fmul", other)

    def __truediv__(self, other: Vector | float) -> Vector:
        return self._binary("fdiv", other)

    def __lt__(self, other: Vector | float) -> Vector:
        return self._binary("fcmp olt", other, "i1")

    def __gt__(self, other: Vector | float) -> Vector:
        return self._binary("fcmp ogt", other, "i1")

    def __and__(self, other: Vector | int) -> Vector:
        return self._binary("and", other)

    def __or__(self, other: Vector) -> Vector:
        return self._binary("or", other)

    def __lshift__(self, bits: int) -> Vector:
        return self._binary("shl", bits)

    def __rshift__(self, bits: int) -> Vector:
        return self._binary("ashr", bits)

    def equals(self, other: float) -> Vector:
        """An i1: whether elements equal a number; false for NaN."""
        return self._binary("fcmp oeq", other, "i1")

    def is_nan(self) -> Vector:
        """An i1: whether elements are NaN."""
        return self._binary("fcmp uno", self, "i1")

    def bits(self, kind: str) -> Vector:
        """The same bits, read as the other 32-bit type."""
        return self._convert("bitcast", kind)

    def to_float(self) -> Vector:
        """The integers of an i32 as floats."""
        return self._convert("sitofp", "float")

    def _convert(self, operation: str, kind: str) -> Vector:
        f = self.function
        return f.write(f"{operation} {f.type(self.kind)} {self.name} to {f.type(kind)}", kind)

    def where(self, yes: Vector | float, no: Vector | float) -> Vector:
        """``yes`` where this i1 holds, else ``no``."""
        f = self.function
        a, b = f.value(yes, "float"), f.value(no, "float")
        return f.write(
            f"select {f.type('i1')} {self.name}, {f.type('float')} {a.name}, {f.type('float')} {b.name}", "float"
        )

    def bounded(self, low: float, high: float) -> Vector:
        """The value clamped to [low, high]. Comparisons with NaN are false, so NaN stays NaN."""
        raised = (self < low).where(low, self)
        return (raised > high).where(high, raised)

    def plus_product(self, a: Vector, b: Vector | float) -> Vector:
        """``self + a * b``, fused where the processor can."""
        f = self.function
        t, suffix = f.type("float"), "f32" if f.lanes == 1 else f"v{f.lanes}f32"
        b = f.value(b, "float")
        return f.write(f"call {t} @llvm.fmuladd.{suffix}({t} {a.name}, {t} {b.name}, {t} {self.name})", "float")


class Function:
    """The text of an LLVM function of float vectors of ``lanes`` elements, while it is being written."""

    def __init__(self, lanes: int) -> None:
        self.lanes = lanes
        self.lines: list[str] = []

    def type(self, kind: str) -> str:
        return kind if self.lanes == 1 else f"<{self.lanes} x {kind}>"

    def value(self, x: Vector | float, kind: str) -> Vector:
        """A number as a vector in all of whose lanes it stands; vectors are returned as they are."""
        if isinstance(x, Vector):
            return x
        text = str(x) if kind != "float" else f"0x{struct.unpack('<Q', struct.pack('<d', _float32(x)))[0]:016X}"
        return Vector(self, text if self.lanes == 1 else f"<{', '.join([f'{kind} {text}'] * self.lanes)}>", kind)

    def write(self, instruction: str, kind: str) -> Vector:
        """Append an instruction; returns its result."""
        self.lines.append(f"  %v{len(self.lines)} = {instruction}")
        return Vector(self, f"%v{len(self.lines) - 1}", kind)


def _float32(x: float) -> float:
    return float(struct.unpack("<f", struct.pack("<f", x))[0])


# -- the functions --------------------------------------------------------------------------------------------------

_ROUND, _ROUND_BITS = 12582912.0, 0x4B400000
"""1.5 * 2**23, and its bits. Added to a float32 below 2**22, it leaves the nearest integer in the low bits."""
_LN2_HIGH, _LN2_LOW = 0.693359375, -2.12194440e-4
"""ln 2 in two parts, the first short enough that its products with exponents are exact."""
_EXP = (1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1)
"""(e**r - 1 - r) / r**2 for abs(r) <= ln(2)/2, the highest power first."""
_LN2 = 0.693147182464599609375
"""ln 2 as a float32, 1.9e-9 too large."""
_EXP_SHORT = (8.289217948913574e-3, 4.189817607402802e-2, 0.16667653620243073, 0.4999914765357971, 0.9999997019767761)
"""(e**r - 1) / r for abs(r) <= ln(2)/2, the highest power first: e**r to 9.2e-8."""
_LOG = (
    7.0376836292e-2, -1.1514610310e-1, 1.1676998740e-1, -1.2420140846e-1, 1.4249322787e-1,
    -1.6668057665e-1, 2.0000714765e-1, -2.4999993993e-1, 3.3333331174e-1,
)  # fmt: skip
"""(log(1 + m) - m + m**2 / 2) / m**3 for 1 + m in [sqrt(1/2), sqrt(2)]."""
_SQRT_HALF_BITS = 0x3F3504F3
"""The bits of sqrt(1/2)."""
_TANH = (
    (1.394553628e-8, 2.102733560e-5, 3.520756727e-3, 1.340216100e-1, 1.0),
    (8.015776984e-7, 3.326951409e-4, 2.597254514e-2, 4.673548340e-1, 1.0),
)
"""tanh(x) / x: numerator and denominator in x**2, the highest power first."""
_ERF = (
    (2.2905065861350646e-4, 3.4082910107109506e-3, 5.0955695062380861e-2, 1.8520832239976145e-1, 1.128379143519084),
    (-1.1791602954361697e-7, 2.3547966471313185e-5, 1.0179625278914885e-3, 1.4070470171167667e-2,
     1.1098505178285362e-1, 4.9746925110067538e-1, 1.0),
)  # fmt: skip
"""erf(x) / x: numerator and denominator in x**2, the highest power first."""
_GELU_LIMIT = 5.2
"""Beyond this magnitude erf(x / sqrt(2)) is taken to be 1 or -1."""
_GELU = (
    (1.964551955461502e-2, 5.090197563171387, 1.2460528564453125e2, 3.6609423828125e3, 2.585223046875e4, 3.16905375e5),
    (1.0, 5.5999595642089844e1, 1.4435208740234375e3, 2.2183962890625e4, 1.97195687500e5, 7.943640e5),
)
"""erf(x / sqrt(2)) / (2 x) within ``_GELU_LIMIT``, to 6e-9: numerator and denominator in x**2, the highest power first.
"""


def _polynomial(x: Vector, coefficients: tuple[float, ...]) -> Vector:
    """Horner's scheme, the highest power first."""
    first, second, *rest = coefficients
    y = x + second if first == 1 else x.function.value(second, "float").plus_product(x, first)
    for c in rest:
        y = x.function.value(c, "float").plus_product(y, x)
    return y


def _power_of_two(n: Vector) -> Vector:
    """``2.0**n`` for an i32 n in [-126, 127]."""
    return ((n + 127) << 23).bits("float")


def _exp_parts(x: Vector) -> tuple[Vector, Vector, Vector]:
    """``g, h, m`` with ``e**x = (1 + g) 2**h 2**m``.

    ``x = n ln 2 + r``, and g is a polynomial in r. The power of two is split in two factors, so that neither overflows
    before the result does, and results go down to denormals.
    """
    x = x.bounded(-104.0, 89.0)  # e**x is 0 below, infinity above
    shifted = x.function.value(_ROUND, "float").plus_product(x, math.log2(math.e))
    n = shifted - _ROUND
    r = x.plus_product(n, -_LN2_HIGH).plus_product(n, -_LN2_LOW)
    whole = shifted.bits("i32") - _ROUND_BITS
    half = whole >> 1
    return r.plus_product(_polynomial(r, _EXP), r * r), half, whole - half


def _exp(x: Vector) -> Vector:
    """``e**x``."""
    g, h, m = _exp_parts(x)
    return (g + 1.0) * _power_of_two(h) * _power_of_two(m)


def _one_plus_exp_negative(x: Vector) -> Vector:
    """``1 + e**-x``.

    ``-x = n ln 2 + r``; the result is a polynomial in r with n added to its exponent. At the lower bound of x, n is 128
    and r exactly 0, which gives infinity; above the upper bound the exponential is too small to count. The polynomial
    is off by 0.8 units in the last place. The rounding of ln 2 costs up to 4 more where the exponential is 2**126, and
    less than 1 up to e**20 (without fused multiply-add, ten times that).
    """
    x = x.bounded(-128 * _LN2, 126 * _LN2)
    shifted = x.function.value(_ROUND, "float").plus_product(x, -math.log2(math.e))
    r = x.plus_product(shifted - _ROUND, _LN2)  # r has the sign of x here
    power = _polynomial(r, tuple(c if i % 2 else -c for i, c in enumerate((*_EXP_SHORT, 1.0))))
    return (power.bits("i32") + (shifted.bits("i32") << 23)).bits("float") + 1.0


def _sigmoid(x: Vector) -> Vector:
    return x.function.value(1.0, "float") / _one_plus_exp_negative(x)


def _silu(x: Vector) -> Vector:
    return x / _one_plus_exp_negative(x)


def _expm1(x: Vector) -> Vector:
    """``(g 2**h + (2**h - 2**-m)) 2**m``: exact where the power of two is 1, and so accurate near zero."""
    g, h, m = _exp_parts(x)
    rest = _power_of_two(h) - _power_of_two(x.function.value(0, "i32") - m)
    return rest.plus_product(g, _power_of_two(h)) * _power_of_two(m)


def _log1p_tail(m: Vector, low: Vector | float) -> Vector:
    """``log(1 + m) + low`` for ``1 + m`` in [sqrt(1/2), sqrt(2)] and a small ``low``."""
    square = m * m
    tail = m.function.value(low, "float").plus_product(_polynomial(m, _LOG), square * m)
    return m + tail.plus_product(square, -0.5)


def _log(x: Vector) -> Vector:
    """``x = 2**e (1 + m)`` with ``1 + m`` in [sqrt(1/2), sqrt(2)], and a polynomial in m."""
    tiny = x < 2.0**-126  # denormals have no leading one bit, so they are scaled up
    bits = tiny.where(x * 2.0**23, x).bits("i32") - _SQRT_HALF_BITS
    m = ((bits & 0x7FFFFF) + _SQRT_HALF_BITS).bits("float") - 1.0
    e = (bits >> 23).to_float() - tiny.where(23.0, 0.0)
    y = _log1p_tail(m, e * _LN2_LOW).plus_product(e, _LN2_HIGH)
    y = (x < math.inf).where(y, x)  # infinity and NaN are their own logarithms
    return (x > 0.0).where(y, x.equals(0.0).where(-math.inf, (x < 0.0).where(math.nan, x)))


def _log1p(x: Vector) -> Vector:
    """``log(1 + x)`` for x in [0, 1] only: above sqrt(2) - 1 it is ``log((1 + x) / 2) + log(2)``."""
    above = x > math.sqrt(2) - 1
    return _log1p_tail(above.where((x - 1.0) * 0.5, x), 0.0) + above.where(math.log(2), 0.0)


def _saturating(x: Vector, limit: float, p: tuple[float, ...], q: tuple[float, ...]) -> Vector:
    """``x p(x**2) / q(x**2)`` clamped to [-1, 1], whose ends it reaches at ``limit``."""
    x = x.bounded(-limit, limit)
    square = x * x
    return (x * (_polynomial(square, p) / _polynomial(square, q))).bounded(-1.0, 1.0)


def _gelu(x: Vector) -> Vector:
    """``x (1 + erf(x / sqrt(2))) / 2``: x / 2 plus a rational function of x**2, which is abs(x) / 2 past the limit."""
    half, square = x * 0.5, x * x
    p, q = (_polynomial(square, c) for c in _GELU)
    magnitude = (half.bits("i32") & 0x7FFFFFFF).bits("float")
    return half + (square < _GELU_LIMIT**2).where(square * p / q, magnitude)


def _mish(x: Vector) -> Vector:
    """``x tanh(log(1 + e**x))``, with tanh as ``n / (n + 2)`` where ``n = e**x (e**x + 2)``; it is 1 from 20 on."""
    e = _exp((x > 20.0).where(20.0, x))
    n = e * (e + 2.0)
    return x * (n / (n + 2.0))


def _maximum(a: Vector, b: Vector) -> Vector:
    """The larger of two, or NaN where either is NaN. Where b is a constant, it is one instruction on x86."""
    return b.is_nan().where(b, (a < b).where(b, a))  # comparisons are false where a is NaN, so a is chosen


def _minimum(a: Vector, b: Vector) -> Vector:
    return b.is_nan().where(b, (a > b).where(b, a))


FUNCTIONS: dict[str, Callable[..., Vector]] = {
    "exp": _exp,
    "expm1": _expm1,
    "log": _log,
    "log1p": _log1p,
    "tanh": lambda x: _saturating(x, 9.1, *_TANH),
    "erf": lambda x: _saturating(x, 4.0, *_ERF),
    "mish": _mish,
    "gelu": _gelu,
    "sigmoid": _sigmoid,
    "silu": _silu,
    "maximum": _maximum,
    "minimum": _minimum,
}


# -- their place in TVM ---------------------------------------------------------------------------------------------


@cache
def _definition(name: str, lanes: int) -> str:
    f = Function(lanes)
    arguments = [Vector(f, f"%{a}") for a in "ab"[: INTRINSICS[name]]]
    result = FUNCTIONS[name](*arguments)
    parameters = ", ".join(f"{f.type('float')} {a.name}" for a in arguments)
    body = "\n".join(f.lines)
    t = f.type("float")
    return f"define {t} @{_symbol(name, lanes)}({parameters}) {{\n{body}\n  ret {t} {result.name}\n}}"


def definitions(names: Collection[str]) -> str:
    """LLVM IR that defines these functions for every vector length: the value of a ``pragma_import_llvm``."""
    types = {f"f32 {Function(1).type('float')}"} | {f"v{n}f32 {Function(n).type('float')}" for n in LANES[1:]}
    declared = [f"declare {t} @llvm.fmuladd.{s}({t}, {t}, {t})" for s, t in sorted(t.split(" ", 1) for t in types)]
    return "\n".join([*declared, *(_definition(name, lanes) for name in sorted(names) for lanes in LANES)])


def _symbol(name: str, lanes: int) -> str:
    return f"convc_{name}_f32x{lanes}"


def _lower(name: str, call: Any) -> Any:
    lanes = tvm.DataType(call.ty.dtype).lanes
    if lanes <= LANES[-1]:
        return _call(name, lanes, call.args)
    parts = []
    for start in range(0, lanes, LANES[-1]):
        width = min(LANES[-1], lanes - start)
        parts.append(_call(name, width, [tirx.Shuffle([x], list(range(start, start + width))) for x in call.args]))
    return tirx.Shuffle(parts, list(range(lanes)))


def _call(name: str, lanes: int, arguments: Sequence[Any]) -> Any:
    """A call of a function on vectors of at most the longest length, padded to the next length that is defined."""
    padded = next(n for n in LANES if n >= lanes)
    if padded == lanes:
        dtype = "float32" if lanes == 1 else f"float32x{lanes}"
        return tirx.call_pure_extern(dtype, _symbol(name, lanes), *arguments)
    filler = (
        tirx.Broadcast(tirx.const(0.0, "float32"), padded - lanes) if padded - lanes > 1 else tirx.const(0.0, "float32")
    )
    widened = [tirx.Shuffle([x, filler], list(range(padded))) for x in arguments]
    y = tirx.call_pure_extern(f"float32x{padded}", _symbol(name, padded), *widened)
    return tirx.Shuffle([y], list(range(lanes)))


register_lowering("llvm", _lower)
