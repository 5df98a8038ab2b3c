"""Activation functions. float16 and bfloat16 are computed in float32 and rounded once.

Functions that differ by the sign of x are sums of a term in its positive part and one in its negative part, of which
one is 0.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..dtypes import FLOATS, INTEGERS
from ..errors import ShapeError
from ..lowering import TensorExpressions
from ..onnx_io import ExportNode, ImportNode, export_fields, exports, imports, onnx_op
from ..op import Case, f16, f32, f64, i32, sample, u8
from ..sizes import same_shape
from ..types import TensorType
from ._elementwise import Elementwise
from ._math import bounded, expm1, gelu, mish, multiplied, sigmoid, silu, truncated, widened
from .unary import SPECIAL

FINITE = SPECIAL[np.isfinite(SPECIAL)]
NO_F64 = {"oracle": "reference", "note": "ONNX Runtime has few activations in float64"}
NO_F16 = {"oracle": "reference", "note": "ONNX Runtime has few activations in float16"}


class Activation(Elementwise):
    """An activation ``y = f(x)`` of floats."""

    cost = 2

    def scalar(self, k: TensorExpressions, *xs: Any) -> Any:
        return widened(k, xs[0], lambda v: self.function(k, v))

    def function(self, k: TensorExpressions, x: Any) -> Any:
        """The function of a scalar expression in float32 or float64."""
        raise NotImplementedError(self.name)

    @classmethod
    def cases(cls) -> Iterator[Case]:
        yield sample(cls(), f32[2, 3, 5])
        yield sample(cls(), f32[160], low=-30, high=30)
        yield sample(cls(), FINITE)
        yield sample(cls(), f64[9], **NO_F64)
        yield sample(cls(), f16[9], **NO_F16)


@onnx_op("LeakyRelu")
@dataclass(frozen=True)
class LeakyRelu(Activation):
    """``x`` where positive, else ``alpha x``; ONNX LeakyRelu-16."""

    name = "leaky_relu"
    alpha: float = 0.01

    def function(self, k: TensorExpressions, x: Any) -> Any:
        return bounded(k, x, low=0) + multiplied(k, k.like(self.alpha, x), bounded(k, x, high=0))

    @classmethod
    def cases(cls) -> Iterator[Case]:
        yield from super().cases()
        yield sample(cls(0.3), SPECIAL)
        yield sample(cls(0.0), SPECIAL)
        yield sample(cls(-1.5), f32[20])


@onnx_op("PRelu")
class PRelu(Elementwise):
    """``x`` where positive, else ``slope x``: operands x and slope, which is broadcast to x; ONNX PRelu-16."""

    name = "prelu"
    arity = 2
    dtypes = FLOATS + INTEGERS
    cost = 2

    def infer(self, *types: TensorType) -> TensorType:
        result = super().infer(*types)
        if not same_shape(result.shape, types[0].shape):
            raise ShapeError(f"slope {types[1]} does not broadcast to {types[0]}")
        return result

    def scalar(self, k: TensorExpressions, *xs: Any) -> Any:
        x, slope = xs
        return k.select(x < k.like(0, x), x * slope, x)

    @classmethod
    def cases(cls) -> Iterator[Case]:
        yield sample(cls(), f32[2, 3, 4, 5], f32[3, 1, 1])
        yield sample(cls(), f32[2, 3], f32[()])
        yield sample(cls(), SPECIAL, f32[1])
        yield sample(cls(), i32[20], i32[20], oracle="reference", note="ONNX Runtime takes only floats")
        yield sample(cls(), f16[20], f16[1], **NO_F16)


@imports("PRelu")
def _import_p_relu(n: ImportNode) -> Any:
    x, slope = n.input(0), n.input(1)
    array = n.builder.constant_of(slope)
    if (
        n.opset < 7 and array is not None and array.ndim == 1 and x.type.rank > 2
    ):  # before opset 7, slope has one value per channel
        slope = n.constant(array.reshape(-1, *[1] * (x.type.rank - 2)), slope.name)
    return n.emit(PRelu(), x, slope)


@onnx_op("Elu")
@dataclass(frozen=True)
class Elu(Activation):
    """``x`` where positive, else ``alpha (e**x - 1)``; ONNX Elu-22."""

    name = "elu"
    cost = 12
    alpha: float = 1.0

    def function(self, k: TensorExpressions, x: Any) -> Any:
        return bounded(k, x, low=0) + k.like(self.alpha, x) * expm1(k, bounded(k, x, high=0))

    @classmethod
    def cases(cls) -> Iterator[Case]:
        yield from super().cases()
        yield sample(cls(0.3), SPECIAL)
        yield sample(cls(-1.5), SPECIAL)


@onnx_op("Selu")
@dataclass(frozen=True)
class Selu(Activation):
    """``gamma x`` where positive, else ``gamma alpha (e**x - 1)``; ONNX Selu-22."""

    name = "selu"
    cost = 13
    alpha: float = 1.6732632423543772
    gamma: float = 1.0507009873554805

    def function(self, k: TensorExpressions, x: Any) -> Any:
        negative = k.like(self.alpha * self.gamma, x) * expm1(k, bounded(k, x, high=0))
        return multiplied(k, k.like(self.gamma, x), bounded(k, x, low=0)) + negative

    @classmethod
    def cases(cls) -> Iterator[Case]:
        yield from super().cases()
        yield sample(cls(0.3, 2.0), SPECIAL)
        yield sample(cls(-1.5, -2.0), SPECIAL)
        yield sample(cls(0.0, 0.0), SPECIAL)


@onnx_op("Celu")
@dataclass(frozen=True)
class Celu(Activation):
    """``x`` where positive, else ``alpha (e**(x / alpha) - 1)``; ONNX Celu-12."""

    name = "celu"
    cost = 14
    alpha: float = 1.0

    def infer(self, *types: TensorType) -> TensorType:
        if self.alpha == 0:
            raise ShapeError("attribute alpha must not be 0")
        return super().infer(*types)

    def function(self, k: TensorExpressions, x: Any) -> Any:
        alpha = k.like(self.alpha, x)
        return bounded(k, x, low=0) + alpha * expm1(k, bounded(k, x, high=0) / alpha)

    @classmethod
    def cases(cls) -> Iterator[Case]:
        yield from super().cases()
        yield sample(cls(0.3), SPECIAL)
        yield sample(cls(2.5), f32[20])
        yield sample(cls(-0.7), f32[20])
        yield sample(cls(-0.7), f16[20], **NO_F16)
        yield sample(cls(-0.7), f64[20], **NO_F64)


@exports(Celu)
def _export_celu(op: Celu, n: ExportNode) -> None:
    if n.input_types[0].dtype == "f32":
        export_fields(op, n)
        return
    # Celu takes only float32, and alpha * Elu(x / alpha) is the same for a positive alpha alone
    dtype = n.input_types[0].numpy_dtype
    alpha, zero = n.constant(np.array(op.alpha, dtype)), n.constant(np.array(0, dtype))
    scaled = n.node("Div", [n.inputs[0], alpha])
    if op.alpha > 0:
        grown = n.node("Elu", [scaled])
    else:
        grown = n.node("Sub", [n.node("Exp", [scaled]), n.constant(np.array(1, dtype))])
    below = n.node("Mul", [grown, alpha])
    n.node("Where", [n.node("Greater", [n.inputs[0], zero]), n.inputs[0], below], n.outputs)


@onnx_op("HardSigmoid")
@dataclass(frozen=True)
class HardSigmoid(Activation):
    """``alpha x + beta`` within 0 and 1; ONNX HardSigmoid-22."""

    name = "hard_sigmoid"
    cost = 4
    alpha: float = 0.2
    beta: float = 0.5

    def function(self, k: TensorExpressions, x: Any) -> Any:
        return bounded(k, multiplied(k, x, k.like(self.alpha, x)) + k.like(self.beta, x), 0.0, 1.0)

    @classmethod
    def cases(cls) -> Iterator[Case]:
        yield from super().cases()
        yield sample(cls(1 / 6, 0.4), f32[20], low=-6, high=6)
        yield sample(cls(-0.3, 0.7), f32[20], low=-6, high=6)
        yield sample(cls(0.0, 2.0), SPECIAL)


@onnx_op("HardSwish")
class HardSwish(Activation):
    """``x`` times ``x / 6 + 0.5`` within 0 and 1; ONNX HardSwish-22."""

    name = "hard_swish"
    cost = 5

    def function(self, k: TensorExpressions, x: Any) -> Any:
        return x * bounded(k, x * k.like(1 / 6, x) + k.like(0.5, x), 0.0, 1.0)


@onnx_op("Swish")
@dataclass(frozen=True)
class Silu(Activation):
    """``x sigmoid(alpha x)``; ONNX Swish-24."""

    name = "silu"
    cost = 14
    alpha: float = 1.0

    def function(self, k: TensorExpressions, x: Any) -> Any:
        return silu(k, x) if self.alpha == 1 else x * sigmoid(k, multiplied(k, x, k.like(self.alpha, x)))

    @classmethod
    def cases(cls) -> Iterator[Case]:
        yield from super().cases()
        yield sample(cls(1.7), f32[20])
        yield sample(cls(-1.7), f32[20])
        yield sample(cls(0.0), SPECIAL)


@exports(Silu)
def _export_silu(op: Silu, n: ExportNode) -> None:
    (x,) = n.inputs
    if op.alpha != 1:
        x = n.node("Mul", [x, n.constant(np.array(op.alpha, n.input_types[0].numpy_dtype))])
    n.node("Mul", [n.inputs[0], n.node("Sigmoid", [x])], n.outputs)


@onnx_op("Gelu")
@dataclass(frozen=True)
class Gelu(Activation):
    """``x`` times the normal distribution function of x, or with ``approximate="tanh"`` nearly so; ONNX Gelu-20."""

    name = "gelu"
    cost = 16
    approximate: str = "none"

    def infer(self, *types: TensorType) -> TensorType:
        if self.approximate not in ("none", "tanh"):
            raise ShapeError(f"attribute approximate is {self.approximate!r}, not 'none' or 'tanh'")
        return super().infer(*types)

    def function(self, k: TensorExpressions, x: Any) -> Any:
        if self.approximate == "none":
            return gelu(k, x)
        # (1 + tanh(u)) / 2 is sigmoid(2 u), which keeps its precision for negative u
        inner = x * (k.like(0.044715, x) * x * x + k.like(1, x)) * k.like(2 * math.sqrt(2 / math.pi), x)
        return x * sigmoid(k, inner)

    @classmethod
    def cases(cls) -> Iterator[Case]:
        yield from super().cases()
        for case in super().cases():
            yield sample(cls("tanh"), *case.inputs, low=case.low, high=case.high, oracle=case.oracle, note=case.note)


@onnx_op("Mish")
class Mish(Activation):
    """``x tanh(softplus(x))``; ONNX Mish-22."""

    name = "mish"
    cost = 16

    def function(self, k: TensorExpressions, x: Any) -> Any:
        return mish(k, x)


@onnx_op("Softsign")
class Softsign(Activation):
    """``x / (1 + abs(x))``; ONNX Softsign-22."""

    name = "softsign"
    cost = 6

    def function(self, k: TensorExpressions, x: Any) -> Any:
        return x / (k.like(1, x) + k.tirx.abs(x))


@onnx_op("ThresholdedRelu")
@dataclass(frozen=True)
class ThresholdedRelu(Activation):
    """``x`` where above ``alpha``, else 0; ONNX ThresholdedRelu-22."""

    name = "thresholded_relu"
    alpha: float = 1.0

    def function(self, k: TensorExpressions, x: Any) -> Any:
        return k.select(x > k.like(self.alpha, x), x, k.like(0, x))

    @classmethod
    def cases(cls) -> Iterator[Case]:
        yield from super().cases()
        yield sample(cls(-0.5), SPECIAL)


@onnx_op("Shrink")
@dataclass(frozen=True)
class Shrink(Activation):
    """``x + bias`` below ``-lambd``, else ``x - bias`` above ``lambd``, else 0; ONNX Shrink-9.

    Where lambd is negative both bounds may hold; the lower is asked first, as in the specification's function body.
    """

    name = "shrink"
    dtypes = FLOATS + INTEGERS
    lambd: float = 0.5
    bias: float = 0.0

    def scalar(self, k: TensorExpressions, *xs: Any) -> Any:
        """Integers are computed in floating point too, and truncated."""
        (x,) = xs
        if "int" in k.dtype(x):
            whole = "int64" if k.dtype(x) in ("int64", "uint64", "uint32") else "int32"
            return truncated(k, self.function(k, x.astype("float64")), whole).astype(k.dtype(x))
        return super().scalar(k, x)

    def function(self, k: TensorExpressions, x: Any) -> Any:
        high = k.select(x > k.like(self.lambd, x), x - k.like(self.bias, x), k.like(0, x))
        return k.select(x < k.like(-self.lambd, x), x + k.like(self.bias, x), high)

    @classmethod
    def cases(cls) -> Iterator[Case]:
        yield from super().cases()
        yield sample(cls(0.3, 0.2), SPECIAL)
        yield sample(cls(-1.0, 0.5), SPECIAL)
        yield sample(cls(-2.0, -1.0), i32[20], low=-9, high=9)
        yield sample(cls(0.0, 1.0), f16[20], **NO_F16)
        yield sample(cls(1.5, 1.0), i32[20], low=-9, high=9)
        yield sample(cls(1.5, 1.0), u8[20], low=0, high=9)
