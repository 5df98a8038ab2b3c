"""Random elementwise ops, continuous ones and others."""

from __future__ import annotations

from convc.ir.errors import ShapeError
from convc.ir.graph import Value
from convc.ir.ops import activations as a
from convc.ir.ops import transcendental as t
from convc.ir.ops import unary as u
from convc.ir.ops.arg_max import ArgMax, ArgMin
from convc.ir.ops.binary import Add, Div, Max, Min, Mul, Pow, Sub
from convc.ir.ops.cast import Cast
from convc.ir.ops.clip import Clip
from convc.ir.ops.compare import Equal, Greater, GreaterOrEqual, Less, LessOrEqual
from convc.ir.ops.logical import And, Not, Or, Xor
from convc.ir.ops.where import Where

from .draw import Draw


def activation(d: Draw) -> Value:
    """A continuous function without learned parameters."""
    x = d.floats()
    alpha = d.number(0.05, 1.5)
    op = d.pick(
        (
            u.Relu(), u.Relu(), u.Relu(), Clip(0.0, 6.0), Clip(-1.0, d.number(0, 2)), Clip(high=0.5), u.Abs(), u.Neg(),
            a.LeakyRelu(alpha), a.Elu(alpha), a.Selu(), a.Celu(alpha), a.HardSigmoid(), a.HardSigmoid(alpha, 0.5),
            a.HardSwish(), a.Silu(), a.Silu(alpha), a.Gelu(), a.Gelu("tanh"), a.Mish(), a.Softsign(),
            a.Shrink(0.5, 0.5),
            a.ThresholdedRelu(0.0), t.Sigmoid(), t.Sigmoid(), t.Tanh(), t.Erf(), t.Softplus(), t.Sin(), t.Cos(),
            t.Atan(),
        )
    )  # fmt: skip
    return d.emit(op, x, exact=isinstance(op, u.Relu | u.Abs | u.Neg | Clip))


def prelu(d: Draw) -> Value:
    x = d.floats(1, 5)
    return d.emit(a.PRelu(), x, d.uniform(broadcast_to(d, x), 0.5, x.type.dtype))


def bounded_function(d: Draw) -> Value:
    """A function that is steep or undefined somewhere, of an operand that stays away from there."""
    x = d.floats()
    op = d.pick(
        (
            t.Exp(),
            t.Log(),
            u.Sqrt(),
            u.Reciprocal(),
            t.Asinh(),
            t.Sinh(),
            t.Cosh(),
            t.Tan(),
            t.Acos(),
            t.Asin(),
            t.Atanh(),
            t.Acosh(),
        )
    )
    if isinstance(op, t.Log | u.Sqrt | u.Reciprocal):
        half = d.filled((), 0.5, x.type.dtype)
        return d.emit(op, d.emit(Add(), d.emit(u.Abs(), x), half))
    if isinstance(op, t.Acos | t.Asin | t.Atanh | t.Acosh):
        inside = d.emit(Clip(-0.875, 0.875), x)
        return d.emit(op, d.emit(Add(), inside, d.filled((), 2.5, x.type.dtype)) if isinstance(op, t.Acosh) else inside)
    return d.emit(op, d.emit(d.pick((t.Tanh(), Clip(-1.0, 1.0))), x))


def broadcast_to(d: Draw, x: Value) -> tuple[int, ...]:
    """A random shape that broadcasts to that of x, most often one value per channel."""
    shape = x.type.sizes
    how = d.pick(("channels", "channels", "scalar", "one", "any", "full"))
    if how == "scalar":
        return ()
    if how == "one":
        return (1,) * d.whole(1, len(shape))
    if how == "channels" and len(shape) > 2:
        channels = (shape[1], *(1,) * (len(shape) - 2))
        return (1, *channels) if d.chance(0.3) else channels
    kept = shape[d.whole(0, len(shape)) :] if d.chance(0.4) else shape
    return kept if how == "full" else tuple(1 if d.chance(0.5) else s for s in kept)


def with_constant(d: Draw) -> Value:
    """Arithmetic with a constant on either side."""
    x = d.floats(1, 5)
    op = d.pick((Add, Add, Sub, Mul, Mul, Div, Max, Min))
    c = d.uniform(broadcast_to(d, x), 1.5, x.type.dtype)
    if op is Div:
        c = d.filled(c.type.sizes, d.pick((0.5, -1.5, 2.0, 6.0, 0.7)), x.type.dtype)
        return d.emit(Div(), x, c)
    return d.emit(op(), *((x, c) if d.chance(0.6) else (c, x)))


def residual(d: Draw) -> Value:
    """Arithmetic on two values of one type."""
    x = d.floats()
    op = d.pick((Add, Add, Add, Add, Sub, Mul, Max, Min))
    operands = (x, d.alike(x) if d.chance(0.95) else x)
    return d.emit(op(), *operands, exact=op in (Max, Min))


def broadcasting(d: Draw) -> Value:
    """Arithmetic on two computed values, one or both of which are broadcast."""
    x = d.floats(1, 5)

    def fits(v: Value) -> bool:
        sizes = zip(v.type.shape[::-1], x.type.shape[::-1], strict=False)
        return (
            v.type.dtype == x.type.dtype
            and v.type != x.type
            and all(1 in pair or len(set(pair)) == 1 for pair in sizes)
        )

    y = d.value(fits)
    operands = (x, y) if d.chance(0.5) else (y, x)
    return d.emit(d.pick((Add, Sub, Mul, Mul))(), *operands)


def gate(d: Draw) -> Value:
    """The product ``x * f(x)``, as networks write their activations."""
    x = d.floats()
    f = d.pick((t.Sigmoid(), t.Tanh(), a.HardSigmoid(1 / 6, 0.5), t.Erf()))
    gated = d.emit(f, x)
    return d.emit(Mul(), *((x, gated) if d.chance(0.5) else (gated, x)))


def power(d: Draw) -> Value:
    x = d.floats()
    exponent = d.pick((2.0, 3.0, 0.5, -0.5, 1.5))
    if exponent not in (2.0, 3.0):
        x = d.emit(Add(), d.emit(u.Abs(), x), d.filled((), 0.5, x.type.dtype))
    else:
        x = d.emit(Clip(-2.0, 2.0), x)
    return d.emit(Pow(), x, d.filled((), exponent, x.type.dtype))


def cast(d: Draw) -> Value:
    """A cast between floats, or from an exact value to any dtype and back."""
    x = d.value()
    if x.type.is_float and d.chance(0.7):
        to = d.pick([t for t in ("f16", "f32", "f32", "f64") if t != x.type.dtype])
        return d.emit(Cast(to), x, exact=(x.type.dtype, to) in (("f16", "f32"), ("f16", "f64"), ("f32", "f64")))
    if x.name not in d.exact or x.name in d.wild:
        raise ShapeError("rounding to integers jumps, and NaN is no integer")
    to = "f32" if not x.type.is_float else d.pick(("i32", "i64", "i8", "bool"))
    return d.emit(Cast(to), x, exact=True)


def jump(d: Draw) -> Value:
    """An op that is not continuous, on exact operands."""
    kind = d.pick(("round", "compare", "compare", "arg", "logic", "where", "where"))
    if kind == "logic":
        x = d.value(lambda v: v.type.dtype == "bool", exact=True)
        op = d.pick((Not, And, Or, Xor))
        return d.emit(op(), *((x,) if op is Not else (x, d.alike(x))), exact=True)
    if kind == "where":
        x = d.floats()
        condition = d.value(lambda v: v.type.dtype == "bool" and v.type.shape == x.type.shape, exact=True)
        other = d.alike(x) if d.chance(0.7) else d.filled((), d.number(-1, 1), x.type.dtype)
        return d.emit(Where(), condition, x, other, exact=True)
    x = d.floats(exact=True)
    if kind == "round":
        return d.emit(d.pick((u.Round, u.Floor, u.Ceil, u.Sign))(), x, exact=True)
    if kind == "arg":
        op = d.pick((ArgMax, ArgMin))(d.whole(0, x.type.rank - 1), d.chance(0.5), d.chance(0.3))
        return d.emit(op, x, exact=True)
    other = d.array(d.number(-1, 1), x.type.numpy_dtype)
    return d.emit(d.pick((Equal, Greater, GreaterOrEqual, Less, LessOrEqual))(), x, other, exact=True)
