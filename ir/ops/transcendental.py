"""Exponentials, logarithms, trigonometric and hyperbolic functions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from ..lowering import TensorExpressions
from ..onnx_io import onnx_op
from ..op import Case, f16, f32, f64, sample
from . import _math
from .unary import SPECIAL, Unary


@dataclass(frozen=True)
class Transcendental(Unary):
    """``y = f(x)`` with f the function of ``_math`` of this op's name. ``low`` and ``high`` bound the samples."""

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
@dataclass(frozen=True)
class Exp(Transcendental):
    """``e**x``; ONNX Exp-13."""

    name = "exp"
    needs_range = True
    low, high = -9.0, 9.0


@onnx_op("Log", folds=True)
@dataclass(frozen=True)
class Log(Transcendental):
    """The natural logarithm; ONNX Log-13."""

    name = "log"
    low = 0.001


@onnx_op("Sigmoid")
@dataclass(frozen=True)
class Sigmoid(Transcendental):
    """``1 / (1 + e**-x)``; ONNX Sigmoid-13."""

    name = "sigmoid"


@onnx_op("Tanh")
@dataclass(frozen=True)
class Tanh(Transcendental):
    """The hyperbolic tangent; ONNX Tanh-13."""

    name = "tanh"


@onnx_op("Erf")
@dataclass(frozen=True)
class Erf(Transcendental):
    """The error function; ONNX Erf-13."""

    name = "erf"
    low, high = -5.0, 5.0


@onnx_op("Softplus")
@dataclass(frozen=True)
class Softplus(Transcendental):
    """``log(1 + e**x)``; ONNX Softplus-22."""

    name = "softplus"


@dataclass(frozen=True)
class FromLibrary(Transcendental):
    """A function that networks rarely hold: the C library's of this op's name."""

    cost = 20

    def scalar(self, k: TensorExpressions, *xs: Any) -> Any:
        return _math.libm(k, self.name, xs[0])


@onnx_op("Sin")
@dataclass(frozen=True)
class Sin(FromLibrary):
    """ONNX Sin-22."""

    name = "sin"


@onnx_op("Cos")
@dataclass(frozen=True)
class Cos(FromLibrary):
    """ONNX Cos-22."""

    name = "cos"


@onnx_op("Tan")
@dataclass(frozen=True)
class Tan(FromLibrary):
    """ONNX Tan-22."""

    name = "tan"
    low, high = -1.5, 1.5


@onnx_op("Asin")
@dataclass(frozen=True)
class Asin(FromLibrary):
    """ONNX Asin-22."""

    name = "asin"
    low, high = -1.0, 1.0


@onnx_op("Acos")
@dataclass(frozen=True)
class Acos(FromLibrary):
    """ONNX Acos-22."""

    name = "acos"
    low, high = -1.0, 1.0


@onnx_op("Atan")
@dataclass(frozen=True)
class Atan(FromLibrary):
    """ONNX Atan-22."""

    name = "atan"


@onnx_op("Sinh")
@dataclass(frozen=True)
class Sinh(FromLibrary):
    """ONNX Sinh-22."""

    name = "sinh"
    low, high = -9.0, 9.0


@onnx_op("Cosh")
@dataclass(frozen=True)
class Cosh(FromLibrary):
    """ONNX Cosh-22."""

    name = "cosh"
    low, high = -9.0, 9.0


@onnx_op("Asinh")
@dataclass(frozen=True)
class Asinh(FromLibrary):
    """ONNX Asinh-22."""

    name = "asinh"


@onnx_op("Acosh")
@dataclass(frozen=True)
class Acosh(FromLibrary):
    """ONNX Acosh-22."""

    name = "acosh"
    low = 1.0


@onnx_op("Atanh")
@dataclass(frozen=True)
class Atanh(FromLibrary):
    """ONNX Atanh-22."""

    name = "atanh"
    low, high = -1.0, 1.0
