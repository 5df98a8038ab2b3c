"""Transcendental functions as expressions that vectorise: a float32 kernel of them calls nothing from the C library.

Every function takes a scalar expression of a float dtype and gives the same dtype. float16 and bfloat16 are computed in
float32 and rounded once. In float64 the primitives are the C library's. NaN and infinities are handled as there.

Sources: exp and log are Cephes' ``expf`` and ``logf`` (S. Moshier); tanh and erf are the rational functions of Eigen
(``ptanh_float``, ``perf_float``), which MLAS and XLA use too. tests/test_math.py measures the errors.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from ..lowering import TensorExpressions

_ROUND = 12582912.0
"""1.5 * 2**23: added to a float32 below 2**22 it leaves the nearest integer in the low bits ..."""
_ROUND_BITS = 0x4B400000
"""... of a number whose bits are these for the integer zero."""
_LN2_HIGH, _LN2_LOW = 0.693359375, -2.12194440e-4
"""ln 2 in two parts, the first short enough that its products with exponents are exact."""
_EXP = (1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1)
"""(e**r - 1 - r) / r**2 for abs(r) <= ln(2)/2, the highest power first."""
_LOG = (
    7.0376836292e-2, -1.1514610310e-1, 1.1676998740e-1, -1.2420140846e-1, 1.4249322787e-1,
    -1.6668057665e-1, 2.0000714765e-1, -2.4999993993e-1, 3.3333331174e-1,
)  # fmt: skip
"""(log(1 + m) - m + m**2 / 2) / m**3 for 1 + m in [sqrt(1/2), sqrt(2)]."""
_SQRT_HALF_BITS = 0x3F3504F3
_TANH = (
    (1.394553628e-8, 2.102733560e-5, 3.520756727e-3, 1.340216100e-1, 1.0),
    (8.015776984e-7, 3.326951409e-4, 2.597254514e-2, 4.673548340e-1, 1.0),
)
_ERF = (
    (2.2905065861350646e-4, 3.4082910107109506e-3, 5.0955695062380861e-2, 1.8520832239976145e-1, 1.128379143519084),
    (-1.1791602954361697e-7, 2.3547966471313185e-5, 1.0179625278914885e-3, 1.4070470171167667e-2,
     1.1098505178285362e-1, 4.9746925110067538e-1, 1.0),
)  # fmt: skip


# -- building blocks ------------------------------------------------------------------------------------------------------


def let(k: TensorExpressions, value: Any, body: Callable[[Any], Any]) -> Any:
    """``body(value)`` with the value evaluated once, however often the body reads it.

    Without it an expression that reads its argument n times holds n copies, and a chain of such ops grows exponentially.
    """
    if isinstance(value, k.tirx.Var | k.tirx.FloatImm | k.tirx.IntImm):
        return body(value)
    if isinstance(value, k.tirx.Let):
        return k.tirx.Let(value.var, value.value, let(k, value.body, body))
    var = k.tirx.Var("v", k.dtype(value))
    return k.tirx.Let(var, value, body(var))


def wide(x: Any) -> Any:
    """``x`` in float32 when its dtype is a narrower float."""
    return x.astype("float32") if str(x.ty.dtype) in ("float16", "bfloat16") else x


def narrowed(k: TensorExpressions, x: Any, y: Any) -> Any:
    """``y`` in the dtype of ``x``: undoes ``wide``."""
    return y if k.dtype(y) == k.dtype(x) else y.astype(k.dtype(x))


def widened(k: TensorExpressions, x: Any, body: Callable[[Any], Any]) -> Any:
    """``body(x)``, of the dtype of x, computed in float32 at least."""
    return narrowed(k, x, let(k, wide(x), body))


def bounded(k: TensorExpressions, x: Any, low: float | None = None, high: float | None = None) -> Any:
    """``x`` within bounds; NaN stays NaN, which ``tirx.max`` and ``tirx.min`` do not promise."""
    if low is not None:
        x = let(k, x, lambda v: k.select(v < k.like(low, v), k.like(low, v), v))
    if high is not None:
        x = let(k, x, lambda v: k.select(v > k.like(high, v), k.like(high, v), v))
    return x


def divided(k: TensorExpressions, x: Any, y: Any) -> Any:
    """``x / y`` of floats; TVM refuses to divide by a constant zero, which gives what multiplying by infinity gives."""
    if isinstance(y, k.tirx.FloatImm) and y.value == 0:
        return x * k.like(math.copysign(math.inf, y.value), y)
    return x / y


def libm(k: TensorExpressions, name: str, *xs: Any) -> Any:
    """A function of the C library by its name; one call an element, so only for what networks rarely hold."""
    x, *rest = map(wide, xs)
    symbol = name + ("f" if k.dtype(x) == "float32" else "")
    return narrowed(k, xs[0], k.tirx.call_pure_extern(k.dtype(x), symbol, x, *rest))


def polynomial(k: TensorExpressions, x: Any, coefficients: tuple[float, ...]) -> Any:
    """Horner's scheme, the highest power first."""
    y = k.like(coefficients[0], x)
    for c in coefficients[1:]:
        y = y * x + k.like(c, x)
    return y


# -- functions ------------------------------------------------------------------------------------------------------------


def exp(k: TensorExpressions, x: Any) -> Any:
    """``e**x``; float32 within 1 ulp, denormal results included."""
    return _by_precision(k, x, lambda v: _exp32(k, v, minus_one=False), k.tirx.exp)


def expm1(k: TensorExpressions, x: Any) -> Any:
    """``e**x - 1``, accurate near zero too."""
    return _by_precision(k, x, lambda v: _exp32(k, v, minus_one=True), lambda v: libm(k, "expm1", v))


def log(k: TensorExpressions, x: Any) -> Any:
    """The natural logarithm; -inf at zero, NaN below."""
    return _by_precision(k, x, lambda v: _log32(k, v), k.tirx.log)


def tanh(k: TensorExpressions, x: Any) -> Any:
    """The hyperbolic tangent; float32 within 6 ulp, never beyond 1."""
    return _by_precision(k, x, lambda v: _saturating(k, v, 9.1, *_TANH), lambda v: libm(k, "tanh", v))


def erf(k: TensorExpressions, x: Any) -> Any:
    """The error function; float32 within 6 ulp, never beyond 1."""
    return _by_precision(k, x, lambda v: _saturating(k, v, 4.0, *_ERF), lambda v: libm(k, "erf", v))


def sigmoid(k: TensorExpressions, x: Any) -> Any:
    """``1 / (1 + e**-x)``."""
    return widened(k, x, lambda v: k.like(1, v) / (k.like(1, v) + exp(k, -v)))


def softplus(k: TensorExpressions, x: Any) -> Any:
    """``log(1 + e**x)``."""

    def body(v: Any) -> Any:
        return k.tirx.max(v, k.like(0, v)) + _log1p_unit(k, exp(k, -k.tirx.abs(v)))

    return widened(k, x, body)


def power(k: TensorExpressions, x: Any, y: Any) -> Any:
    """``x ** y`` in the dtype of x, exact for integers (which wrap); whole constant exponents cost multiplications."""
    if "int" in k.dtype(x) and "int" in k.dtype(y):
        return let(k, x, lambda x: let(k, y.astype("int64"), lambda y: _integer_power(k, x, y)))
    exponent = y.value if isinstance(y, k.tirx.FloatImm | k.tirx.IntImm) else None
    by_constant = {2: lambda v: v * v, 3: lambda v: v * v * v, 1: lambda v: v, -1: lambda v: divided(k, k.like(1, v), v)}
    if exponent in by_constant and "float" in k.dtype(x):
        return widened(k, x, by_constant[exponent])
    common = "float64" if "float64" in (k.dtype(x), k.dtype(y)) or "int" in k.dtype(x) else "float32"
    return k.tirx.pow(x.astype(common), y.astype(common)).astype(k.dtype(x))


def _integer_power(k: TensorExpressions, x: Any, y: Any) -> Any:
    """By squaring. Six bits of the exponent do: beyond, only powers of -1, 0 and 1 do not overflow, and parity decides."""
    one = k.like(1, x)
    bits = k.tirx.min(k.tirx.abs(y), k.like(62, y) + (y & 1))
    result, square = one, x
    for bit in range(6):
        result = result * k.select((bits >> bit & 1) == 1, square, one)
        square = square * square
    small = k.tirx.any(x == one, x == k.like(0, x) if k.dtype(x).startswith("uint") else x == k.like(-1, x))
    return k.select(k.tirx.any(y >= 0, small), result, k.like(0, x))


def _by_precision(k: TensorExpressions, x: Any, single: Callable[[Any], Any], double: Callable[[Any], Any]) -> Any:
    return widened(k, x, lambda v: double(v) if k.dtype(v) == "float64" else single(v))


def _exp32(k: TensorExpressions, x: Any, minus_one: bool) -> Any:
    """``x = n ln 2 + r``, a polynomial in r, and ``2**n`` put together from bits.

    The power of two is applied in two factors, ``2**h`` and ``2**(n - h)``, so that neither overflows before the result
    does, and results go down to denormals.
    """

    def reduced(v: Any, shifted: Any) -> Any:
        n = shifted - k.like(_ROUND, v)
        r = v - n * k.like(_LN2_HIGH, v) - n * k.like(_LN2_LOW, v)
        grown = let(k, r, lambda r: polynomial(k, r, _EXP) * (r * r) + r)
        return let(k, k.tirx.reinterpret("int32", shifted) - _ROUND_BITS, lambda n: scaled(grown, n))

    def scaled(grown: Any, n: Any) -> Any:
        return let(k, n >> 1, lambda h: factors(grown, h, n - h))

    def factors(grown: Any, h: Any, rest: Any) -> Any:
        if minus_one:
            return (grown * _power(k, h) + (_power(k, h) - _power(k, -rest))) * _power(k, rest)
        return (grown + k.like(1, grown)) * _power(k, h) * _power(k, rest)

    x = bounded(k, x, -104.0, 89.0)  # below is 0, above infinity
    return let(k, x, lambda v: let(k, v * k.like(math.log2(math.e), v) + k.like(_ROUND, v), lambda s: reduced(v, s)))


def _power(k: TensorExpressions, n: Any) -> Any:
    """``2.0**n`` in float32 for an int32 n in [-126, 127]."""
    return k.tirx.reinterpret("float32", (n + 127) << 23)


def _log32(k: TensorExpressions, x: Any) -> Any:
    """``x = 2**e (1 + m)`` with ``1 + m`` in [sqrt(1/2), sqrt(2)], and a polynomial in m."""
    tiny = x < k.like(2.0**-126, x)  # denormals have no leading bit: scale them up

    def split(bits: Any) -> Any:
        mantissa = k.tirx.reinterpret("float32", (bits & 0x7FFFFF) + _SQRT_HALF_BITS)
        exponent = (bits >> 23).astype("float32") - k.select(tiny, k.like(23, x), k.like(0, x))
        return let(k, exponent, lambda e: let(k, mantissa - k.like(1, x), lambda m: joined(e, m)))

    def joined(e: Any, m: Any) -> Any:
        return _log1p_tail(k, m, e * k.like(_LN2_LOW, m)) + e * k.like(_LN2_HIGH, m)

    normal = k.select(tiny, x * k.like(2.0**23, x), x)
    value = let(k, k.tirx.reinterpret("int32", normal) - _SQRT_HALF_BITS, split)
    infinity = k.like(math.inf, x)
    beyond = k.select(x < k.like(0, x), k.like(math.nan, x), x)
    special = k.select(x == k.like(0, x), -infinity, beyond)
    return k.select(k.tirx.all(x > k.like(0, x), x < infinity), value, special)


def _log1p_tail(k: TensorExpressions, m: Any, low: Any) -> Any:
    """``log(1 + m) + low`` for ``1 + m`` in [sqrt(1/2), sqrt(2)] and a small ``low``."""
    return m + (polynomial(k, m, _LOG) * (m * m * m) + low - k.like(0.5, m) * (m * m))


def _log1p_unit(k: TensorExpressions, x: Any) -> Any:
    """``log(1 + x)`` for x in [0, 1], accurate near zero too."""

    def single(v: Any) -> Any:
        above = v > k.like(math.sqrt(2) - 1, v)  # then log(1 + v) = log((1 + v) / 2) + log(2)
        m = k.select(above, (v - k.like(1, v)) * k.like(0.5, v), v)
        return let(k, m, lambda m: _log1p_tail(k, m, k.like(0, m))) + k.select(
            above, k.like(math.log(2), v), k.like(0, v)
        )

    return _by_precision(k, x, single, lambda v: libm(k, "log1p", v))


def _saturating(k: TensorExpressions, x: Any, limit: float, p: tuple[float, ...], q: tuple[float, ...]) -> Any:
    """``x p(x**2) / q(x**2)`` kept within -1 and 1, which it reaches at ``limit``."""

    def quotient(v: Any) -> Any:
        return let(k, v * v, lambda s: v * (polynomial(k, s, p) / polynomial(k, s, q)))

    return bounded(k, let(k, bounded(k, x, -limit, limit), quotient), -1.0, 1.0)
