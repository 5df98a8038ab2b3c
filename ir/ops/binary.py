"""Binary arithmetic with broadcasting."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..dtypes import FLOATS, INTEGERS
from ..graph import Value
from ..lowering import TensorExpressions
from ..onnx_io import ExportNode, ImportNode, exports, imports, onnx_op
from ..op import Case, f16, f32, f64, i8, i32, i64, sample, u8
from ..types import TensorType
from ._elementwise import Elementwise
from ._math import divided, libm, maximum, minimum, multiplied, power
from .reshape import Reshape
from .unary import SPECIAL


class Binary(Elementwise):
    """A binary op ``y = f(a, b)`` with broadcasting."""

    arity = 2
    dtypes = FLOATS + INTEGERS

    @classmethod
    def cases(cls) -> Iterator[Case]:
        yield sample(cls(), f32[2, 3, 5], f32[2, 3, 5])
        yield sample(cls(), f32[2, 1, 5], f32[3, 1])
        yield sample(cls(), f32[()], f32[4])
        yield sample(cls(), SPECIAL, SPECIAL[:, None])
        yield sample(cls(), f64[3], f64[3])
        yield sample(cls(), f16[33], f16[33], oracle="reference", note="ONNX Runtime has few of these in float16")
        yield sample(cls(), i32[9], np.array([1, -1, 2, -2, 3, -3, 4, 1, -1], np.int32), low=-9, high=9)
        yield sample(cls(), i64[3], np.array([[1], [-2]]), low=-9, high=9)


def import_binary(op: type[Elementwise], n: ImportNode) -> Any:
    """Read a node of two operands that broadcast, by the rules of all opsets."""
    return n.emit(op(), *aligned(n))


def aligned(n: ImportNode) -> tuple[Value, Value]:
    """The operands of a binary node.

    Before opset 7, attribute ``axis`` gives the axis of a that corresponds to the first axis of b.
    """
    a, b = n.input(0), n.input(1)
    if n.opset >= 7 or not n.attr("broadcast", 0) or n.attr("axis") is None:
        return a, b
    axis = n.attr("axis")
    trailing = a.type.rank - (axis + a.type.rank if axis < 0 else axis) - b.type.rank
    if not 0 <= trailing <= a.type.rank - b.type.rank:
        raise n.error(f"attribute 'axis' is {axis}, but its operands have rank {a.type.rank} and {b.type.rank}")
    return a, n.emit(Reshape((*b.type.sizes, *[1] * trailing)), b) if trailing else b


class Variadic(Binary):
    """A binary op whose ONNX operator takes any number of operands, which the importer combines two at a time."""


def import_variadic(op: type[Variadic], n: ImportNode) -> Any:
    """Read a node of any number of operands, as one op for every operand after the first."""
    y, *rest = aligned(n) if len(n.inputs) == 2 else n.present_inputs()
    for x in rest:
        y = n.emit(op(), y, x)
    return y


@onnx_op("Add", "Sum", read=import_variadic, folds=True)
class Add(Variadic):
    """``a + b``; ONNX Add-14, and Sum-13."""

    name = "add"

    def scalar(self, k: TensorExpressions, *xs: Any) -> Any:
        return k.wrapping("add", *xs)


@onnx_op("Sub", read=import_binary, folds=True)
class Sub(Binary):
    """``a - b``; ONNX Sub-14."""

    name = "sub"

    def scalar(self, k: TensorExpressions, *xs: Any) -> Any:
        return k.wrapping("sub", *xs)


@onnx_op("Mul", read=import_binary, folds=True)
class Mul(Binary):
    """``a * b``; ONNX Mul-14."""

    name = "mul"

    def scalar(self, k: TensorExpressions, *xs: Any) -> Any:
        return multiplied(k, *xs) if _is_float(k, xs[0]) else k.wrapping("mul", *xs)


@onnx_op("Div", read=import_binary, folds=True)
class Div(Binary):
    """``a / b``. Integers are truncated towards zero, and the result is 0 where b is 0; ONNX Div-14."""

    name = "div"
    needs_range = True
    cost = 4

    def scalar(self, k: TensorExpressions, *xs: Any) -> Any:
        if _is_float(k, xs[0]):
            return divided(k, *xs)
        return self.quotient(k, *xs)

    def quotient(self, k: TensorExpressions, a: Any, b: Any) -> Any:
        """``a / b`` of integers without the divisions that cause a trap: by 0, and of the least integer by -1."""
        sign = k.select(b == k.like(0, b), k.like(0, b), k.like(1, b))
        if not k.dtype(b).startswith("uint"):
            sign = k.select(b == k.like(-1, b), k.like(-1, b), sign)
        return k.tirx.truncdiv(a, _divisor(k, b)) * sign

    @classmethod
    def cases(cls) -> Iterator[Case]:
        yield from super().cases()
        yield sample(
            cls(),
            np.array([100, -128, 7, -7], np.int8),
            np.array([7, -1, -2, 2], np.int8),
            oracle="reference",
            note="ONNX Runtime traps on -128 / -1",
        )
        yield sample(cls(), u8[9], np.array([1, 2, 3, 200, 5, 6, 7, 8, 9], np.uint8), low=0, high=255)


@dataclass(frozen=True)
class Mod(Binary):
    """The remainder of a divided by b, with the sign of b, or of a with ``fmod``; ONNX Mod-13.

    Where b is 0, the result is 0 for integers and NaN for floats.
    """

    name = "mod"
    cost = 4
    fmod: bool = False

    def scalar(self, k: TensorExpressions, *xs: Any) -> Any:
        a, b = xs
        if _is_float(k, a):
            r = libm(k, "fmod", a, b)
            return r if self.fmod else k.select(_signs_differ(k, r, b), r + b, r)
        remainder = k.tirx.truncmod if self.fmod else k.tirx.floormod
        return remainder(a, _divisor(k, b))

    @classmethod
    def cases(cls) -> Iterator[Case]:
        b = np.array([1, -1, 2, -2, 3, -3, 4, -4, 5], np.int32)
        for fmod in (False, True):
            yield sample(cls(fmod), i32[9], b, low=-9, high=9)
            yield sample(cls(fmod), i64[3], np.array([[3], [-4]]), low=-9, high=9)
            yield sample(cls(fmod), i8[9], b.astype(np.int8), low=-90, high=90)
            yield sample(cls(fmod), u8[9], abs(b).astype(np.uint8), low=0, high=255)
            yield sample(cls(fmod), f32[2, 3, 5], f32[3, 1])
            yield sample(cls(fmod), SPECIAL, SPECIAL[:, None])
            yield sample(cls(fmod), f64[9], f64[9])
        yield sample(cls(True), f16[9], f16[9], oracle="reference", note="rounds differently from ONNX Runtime")


@imports("Mod", folds=True)
def _import_mod(n: ImportNode) -> Any:
    return n.emit(Mod(bool(n.attr("fmod", 0))), n.input(0), n.input(1))


@exports(Mod)
def _export_mod(op: Mod, n: ExportNode) -> None:
    dtype = n.input_types[0]
    if op.fmod or not dtype.is_float:
        n.node("Mod", n.inputs, n.outputs, fmod=op.fmod)
        return
    # ONNX Runtime takes floats only with fmod
    zero = n.constant(np.array(0, dtype.numpy_dtype))
    r = n.node("Mod", n.inputs, fmod=1)
    differ = n.node("Xor", [n.node("Less", [r, zero]), n.node("Less", [n.inputs[1], zero])])
    wrong = n.node("And", [differ, n.node("Not", [n.node("Equal", [r, zero])])])
    n.node("Where", [wrong, n.node("Add", [r, n.inputs[1]]), r], n.outputs)


@onnx_op("Pow", read=import_binary, folds=True)
class Pow(Binary):
    """``a ** b`` in the dtype of a, for b of any numeric dtype; ONNX Pow-15."""

    name = "pow"
    needs_range = True
    cost = 20

    def check_dtypes(self, *types: TensorType) -> None:
        for t in types:
            super().check_dtypes(t)

    def infer(self, *types: TensorType) -> TensorType:
        return super().infer(*types).with_dtype(types[0].dtype)

    def scalar(self, k: TensorExpressions, *xs: Any) -> Any:
        return power(k, *xs)

    @classmethod
    def cases(cls) -> Iterator[Case]:
        yield sample(cls(), f32[2, 3, 5], f32[3, 1], low=0.1)
        yield sample(cls(), SPECIAL, SPECIAL[:, None])
        yield sample(cls(), f32[9], i64[9], low=-3, high=3)
        yield sample(cls(), f64[9], f32[9], low=0.1)
        yield sample(cls(), f16[9], f16[9], low=0.1, oracle="reference", note="ONNX Runtime has no float16 Pow")
        yield sample(cls(), i32[3, 9], np.array([0, 1, 2, 3, 5, 7, 8, 4, 6], np.int32), low=-7, high=7)
        yield sample(
            cls(),
            i64[9],
            np.array([[0], [2], [19]]),
            low=-8,
            high=8,
            oracle="reference",
            note="ONNX Runtime computes in float64",
        )
        yield sample(cls(), i32[9], f32[9], low=0, high=9)


@onnx_op("Max", read=import_variadic, folds=True)
class Max(Variadic):
    """The larger of a and b, NaN where one of them is NaN; ONNX Max-13."""

    name = "max"
    rounds = False

    def scalar(self, k: TensorExpressions, *xs: Any) -> Any:
        return maximum(k, *xs)


@onnx_op("Min", read=import_variadic, folds=True)
class Min(Variadic):
    """The smaller of a and b, NaN where one of them is NaN; ONNX Min-13."""

    name = "min"
    rounds = False

    def scalar(self, k: TensorExpressions, *xs: Any) -> Any:
        return minimum(k, *xs)


@imports("Mean")
def _import_mean(n: ImportNode) -> Any:
    """Import the mean of any number of operands as a sum and a quotient; ONNX Mean-13."""
    total = import_variadic(Add, n)
    return n.emit(Div(), total, n.scalar(len(n.inputs), total)) if len(n.inputs) > 1 else total


def _is_float(k: TensorExpressions, x: Any) -> bool:
    return "float" in k.dtype(x)


def _signs_differ(k: TensorExpressions, a: Any, b: Any) -> Any:
    zero = k.like(0, a)
    return k.tirx.any(k.tirx.all(a < zero, b > zero), k.tirx.all(a > zero, b < zero))


def _divisor(k: TensorExpressions, b: Any) -> Any:
    """The divisor, or 1 where a division by it would cause a trap. Every remainder by 1 and by -1 is 0."""
    trap = b == k.like(0, b)
    if not k.dtype(b).startswith("uint"):
        trap = k.tirx.any(trap, b == k.like(-1, b))
    return k.select(trap, k.like(1, b), b)
