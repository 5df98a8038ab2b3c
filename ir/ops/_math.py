"""Mathematical functions of scalar expressions.

TVM's expressions are trees: an expression that reads its argument n times holds n copies, and a chain of such grows
exponentially. So what takes many operations is an intrinsic, one node, and the rest reads its argument as seldom as it
can.

Every function takes scalar expressions of a float dtype and gives the same dtype. float32 is computed by the backend's
intrinsics, which vectorise; float16 and bfloat16 in float32, rounded once; float64 by the C library. NaN and infinities
are handled as there. tests/ops/test_math.py measures the errors.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from ..lowering import TensorExpressions

# -- building blocks ---------------------------------------------------------------------------------------------------


def wide(x: Any) -> Any:
    """``x`` converted to float32 if its dtype is a narrower float."""
    return x.astype("float32") if str(x.ty.dtype) in ("float16", "bfloat16") else x


def narrowed(k: TensorExpressions, x: Any, y: Any) -> Any:
    """``y`` in the dtype of ``x``: undoes ``wide``."""
    return y if k.dtype(y) == k.dtype(x) else y.astype(k.dtype(x))


def widened(k: TensorExpressions, x: Any, body: Callable[[Any], Any]) -> Any:
    """``body(x)`` in the dtype of x, computed in float32 or wider."""
    return narrowed(k, x, body(wide(x)))


def bounded(k: TensorExpressions, x: Any, low: float | None = None, high: float | None = None) -> Any:
    """``x``, of any dtype, clipped to bounds. NaN stays NaN."""
    if low is not None:
        x = maximum(k, x, k.like(low, x))
    return x if high is None else minimum(k, x, k.like(high, x))


def multiplied(k: TensorExpressions, x: Any, y: Any) -> Any:
    """``x * y``, which is NaN for zero times infinity even if the zero is a constant."""
    if isinstance(x, k.tirx.FloatImm) == isinstance(y, k.tirx.FloatImm):
        return x * y
    return _unfolded(k, x) * _unfolded(k, y)


def divided(k: TensorExpressions, x: Any, y: Any) -> Any:
    """``x / y`` of floats, which may be constant zeros."""
    return _unfolded(k, x) / _unfolded(k, y)


def _unfolded(k: TensorExpressions, x: Any) -> Any:
    """``x``, with a constant zero hidden from TVM, which takes ``x * 0`` and ``0 / x`` for 0 and refuses ``x / 0``."""
    if not isinstance(x, k.tirx.FloatImm) or x.value != 0:
        return x
    bits = {"float16": 16, "bfloat16": 16, "float32": 32, "float64": 64}[k.dtype(x)]
    negative = k.tirx.reinterpret(k.dtype(x), k.const(-(1 << bits - 1), f"int{bits}"))
    return negative if math.copysign(1, x.value) < 0 else -negative


def truncated(k: TensorExpressions, x: Any, dtype: str) -> Any:
    """A float as a 32- or 64-bit integer of a TVM dtype, cut off towards zero.

    A number out of range, and NaN, becomes the least int32 or int64, as x86 converts it; LLVM and other processors
    promise nothing. An unsigned integer is that of its width with the same bits, where that holds the number. Above it
    uint64 is ``x - 2**63`` with the highest bit set.
    """
    x = wide(x)
    if dtype == "uint32":
        return truncated(k, x, "int64").astype("uint32")
    if dtype == "uint64":
        high = x >= k.like(2.0**63, x)
        low = truncated(k, k.select(high, x - k.like(2.0**63, x), x), "int64")
        return k.select(high, low ^ k.const(-(1 << 63), "int64"), low).astype("uint64")
    bound = k.like(2.0 ** (int(dtype.removeprefix("int")) - 1), x)
    return k.select(k.tirx.all(x >= -bound, x < bound), x, -bound).astype(dtype)


def libm(k: TensorExpressions, name: str, *xs: Any) -> Any:
    """A function of the C library by its name.

    It is called for each element, so it is for ops that are rare in networks.
    """
    x, *rest = map(wide, xs)
    symbol = name + ("f" if k.dtype(x) == "float32" else "")
    return narrowed(k, xs[0], k.tirx.call_pure_extern(k.dtype(x), symbol, x, *rest))


# -- functions ---------------------------------------------------------------------------------------------------------


def exp(k: TensorExpressions, x: Any) -> Any:
    """``e**x``."""
    return _elementary(k, "exp", x)


def expm1(k: TensorExpressions, x: Any) -> Any:
    """``e**x - 1``, accurate near zero too."""
    return _elementary(k, "expm1", x)


def log(k: TensorExpressions, x: Any) -> Any:
    """The natural logarithm: -inf at zero, NaN below."""
    return _elementary(k, "log", x)


def tanh(k: TensorExpressions, x: Any) -> Any:
    """The hyperbolic tangent."""
    return _elementary(k, "tanh", x)


def erf(k: TensorExpressions, x: Any) -> Any:
    """The error function."""
    return _elementary(k, "erf", x)


def maximum(k: TensorExpressions, a: Any, b: Any) -> Any:
    """The larger of two values of any dtype, NaN where one is NaN. ``tirx.max`` does not promise that."""
    return _extreme(k, "maximum", a, b, lambda a, b: a > b, k.tirx.max)


def minimum(k: TensorExpressions, a: Any, b: Any) -> Any:
    """The smaller of two values of any dtype, NaN where one is NaN."""
    return _extreme(k, "minimum", a, b, lambda a, b: a < b, k.tirx.min)


def sigmoid(k: TensorExpressions, x: Any) -> Any:
    """``1 / (1 + e**-x)``."""
    if k.dtype(x) == "float64":
        return k.like(1, x) / (k.like(1, x) + exp(k, -x))
    return _elementary(k, "sigmoid", x)


def silu(k: TensorExpressions, x: Any) -> Any:
    """``x / (1 + e**-x)``."""
    if k.dtype(x) == "float64":
        return x * sigmoid(k, x)
    return _elementary(k, "silu", x)


def softplus(k: TensorExpressions, x: Any) -> Any:
    """``log(1 + e**x)``, as ``max(x, 0) + log(1 + e**-abs(x))``."""

    # the intrinsic is for arguments in [0, 1]
    return widened(k, x, lambda v: bounded(k, v, low=0) + _elementary(k, "log1p", exp(k, -k.tirx.abs(v))))


def gelu(k: TensorExpressions, x: Any) -> Any:
    """``x (1 + erf(x / sqrt(2))) / 2``."""
    if k.dtype(x) == "float64":
        return k.like(0.5, x) * x * (k.like(1, x) + erf(k, x * k.like(math.sqrt(0.5), x)))
    return _elementary(k, "gelu", x)


def mish(k: TensorExpressions, x: Any) -> Any:
    """``x tanh(softplus(x))``."""
    if k.dtype(x) == "float64":
        return x * tanh(k, softplus(k, x))
    return _elementary(k, "mish", x)


def _elementary(k: TensorExpressions, name: str, x: Any) -> Any:
    if k.dtype(x) == "float64":
        return libm(k, name, x)
    return narrowed(k, x, k.intrinsic(name, wide(x)))


def _extreme(
    k: TensorExpressions, name: str, a: Any, b: Any, wins: Callable[[Any, Any], Any], plain: Callable[[Any, Any], Any]
) -> Any:
    if "float" not in k.dtype(a) or (isinstance(a, k.tirx.FloatImm) and isinstance(b, k.tirx.FloatImm)):
        return plain(a, b)
    if k.dtype(a) != "float64":
        return narrowed(k, a, k.intrinsic(name, wide(a), wide(b)))
    return k.select(k.tirx.any(wins(a, b), k.tirx.isnan(a)), a, b)


def power(k: TensorExpressions, x: Any, y: Any) -> Any:
    """``x ** y`` in the dtype of x.

    Integers are exact, and wrap; an exponent that is a whole constant becomes multiplications.
    """
    if "int" in k.dtype(x) and "int" in k.dtype(y):
        return _integer_power(k, x, y.astype("int64"))
    exponent = y.value if isinstance(y, k.tirx.FloatImm | k.tirx.IntImm) else None
    by_constant = {
        2: lambda v: v * v,
        3: lambda v: v * v * v,
        1: lambda v: v,
        -1: lambda v: divided(k, k.like(1, v), v),
    }
    if exponent in by_constant and "float" in k.dtype(x):
        return widened(k, x, by_constant[exponent])
    common = "float64" if "float64" in (k.dtype(x), k.dtype(y)) or "int" in k.dtype(x) else "float32"
    return k.tirx.pow(x.astype(common), y.astype(common)).astype(k.dtype(x))


def _integer_power(k: TensorExpressions, x: Any, y: Any) -> Any:
    """Integer powers by repeated squaring.

    Six bits of the exponent suffice: beyond them only powers of -1, 0 and 1 do not overflow, and these depend on
    parity.
    """
    one = k.like(1, x)
    bits = k.tirx.min(k.tirx.abs(y), k.like(62, y) + (y & 1))
    result, square = one, x
    for bit in range(6):
        result = result * k.select((bits >> bit & 1) == 1, square, one)
        square = square * square
    small = k.tirx.any(x == one, x == k.like(0, x) if k.dtype(x).startswith("uint") else x == k.like(-1, x))
    return k.select(k.tirx.any(y >= 0, small), result, k.like(0, x))
