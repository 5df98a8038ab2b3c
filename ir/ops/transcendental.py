"""Exponentials, logarithms, trigonometric and hyperbolic functions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

from ..lowering import TensorExpressions
from ..onnx_io import onnx_op
from ..op import Case, f16, f32, f64, sample
from . import _math
from .unary import SPECIAL, Unary


class Transcendental(Unary):
    """An op ``y = f(x)``, where f is the function in ``_math`` of the name of the op.

    ``low`` and ``high`` bound the samples.
    """

    cost = 10
    low: ClassVar[float] = -20.0
    high: ClassVar[float] = 20.0

    def scalar(self, k: TensorExpressions, *xs: Any) -> Any:
        return getattr(_math, self.name)(k, xs[0])

    @classmethod
    def cases(cls) -> Iterator[Case]:
        span = {"low": cls.low, "high": cls.high}
        yield sample(cls(), f32[2, 3, 5], **span)
        yield sample(cls(), f32[160], **span)
        yield sample(cls(), SPECIAL)
        yield sample(cls(), f64[7], **span, oracle="reference", note="ONNX Runtime has few of these in float64")
        yield sample(cls(), f16[9], **span, oracle="reference", note="ONNX Runtime has few of these in float16")


@onnx_op("Exp", folds=True)
class Exp(Transcendental):
    """``e**x``; ONNX Exp-13."""

    name = "exp"
    needs_range = True
    low, high = -9.0, 9.0


@onnx_op("Log", folds=True)
class Log(Transcendental):
    """The natural logarithm; ONNX Log-13."""

    name = "log"
    low = 0.001


@onnx_op("Sigmoid")
class Sigmoid(Transcendental):
    """``1 / (1 + e**-x)``; ONNX Sigmoid-13."""

    name = "sigmoid"


@onnx_op("Tanh")
class Tanh(Transcendental):
    """The hyperbolic tangent; ONNX Tanh-13."""

    name = "tanh"


@onnx_op("Erf")
class Erf(Transcendental):
    """The error function; ONNX Erf-13."""

    name = "erf"
    low, high = -5.0, 5.0


@onnx_op("Softplus")
class Softplus(Transcendental):
    """``log(1 + e**x)``; ONNX Softplus-22."""

    name = "softplus"


class FromLibrary(Transcendental):
    """A function that is rare in networks: that of the C library of the name of the op."""

    cost = 20

    def scalar(self, k: TensorExpressions, *xs: Any) -> Any:
        return _math.libm(k, self.name, xs[0])


@onnx_op("Sin")
class Sin(FromLibrary):
    """The sine; ONNX Sin-22."""

    name = "sin"


@onnx_op("Cos")
class Cos(FromLibrary):
    """The cosine; ONNX Cos-22."""

    name = "cos"


@onnx_op("Tan")
class Tan(FromLibrary):
    """The tangent; ONNX Tan-22."""

    name = "tan"
    low, high = -1.5, 1.5


@onnx_op("Asin")
class Asin(FromLibrary):
    """The inverse sine; ONNX Asin-22."""

    name = "asin"
    low, high = -1.0, 1.0


@onnx_op("Acos")
class Acos(FromLibrary):
    """The inverse cosine; ONNX Acos-22."""

    name = "acos"
    low, high = -1.0, 1.0


@onnx_op("Atan")
class Atan(FromLibrary):
    """The inverse tangent; ONNX Atan-22."""

    name = "atan"


@onnx_op("Sinh")
class Sinh(FromLibrary):
    """The hyperbolic sine; ONNX Sinh-22."""

    name = "sinh"
    low, high = -9.0, 9.0


@onnx_op("Cosh")
class Cosh(FromLibrary):
    """The hyperbolic cosine; ONNX Cosh-22."""

    name = "cosh"
    low, high = -9.0, 9.0


@onnx_op("Asinh")
class Asinh(FromLibrary):
    """The inverse hyperbolic sine; ONNX Asinh-22."""

    name = "asinh"


@onnx_op("Acosh")
class Acosh(FromLibrary):
    """The inverse hyperbolic cosine; ONNX Acosh-22."""

    name = "acosh"
    low = 1.0


@onnx_op("Atanh")
class Atanh(FromLibrary):
    """The inverse hyperbolic tangent; ONNX Atanh-22."""

    name = "atanh"
    low, high = -1.0, 1.0
