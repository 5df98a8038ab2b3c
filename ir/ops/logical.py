"""Logic on booleans, and on the bits of integers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..dtypes import INTEGERS, UNSIGNED
from ..errors import ShapeError
from ..lowering import TensorExpressions
from ..onnx_io import ExportNode, export_fields, exports, onnx_dtype, onnx_op
from ..op import Case, boolean, i8, i32, sample, u8
from ..types import TensorType
from ._elementwise import Elementwise
from .binary import import_binary


class Logical(Elementwise):
    """A binary op ``y = f(a, b)`` of booleans."""

    arity = 2
    dtypes = ("bool",)

    @classmethod
    def cases(cls) -> Iterator[Case]:
        yield sample(cls(), boolean[40], boolean[40])
        yield sample(cls(), boolean[2, 1, 5], boolean[3, 1])


@onnx_op("And", read=import_binary, folds=True)
class And(Logical):
    """``a and b``; ONNX And-7."""

    name = "and"

    def scalar(self, k: TensorExpressions, *xs: Any) -> Any:
        return k.tirx.all(*xs)


@onnx_op("Or", read=import_binary, folds=True)
class Or(Logical):
    """``a or b``; ONNX Or-7."""

    name = "or"

    def scalar(self, k: TensorExpressions, *xs: Any) -> Any:
        return k.tirx.any(*xs)


@onnx_op("Xor", read=import_binary, folds=True)
class Xor(Logical):
    """``a != b``; ONNX Xor-7."""

    name = "xor"

    def scalar(self, k: TensorExpressions, *xs: Any) -> Any:
        return k.tirx.NE(*(x.astype("int8") for x in xs))  # TVM compares booleans as floats


@onnx_op("Not", folds=True)
class Not(Elementwise):
    """``not x``; ONNX Not-1."""

    name = "not"
    dtypes = ("bool",)

    def scalar(self, k: TensorExpressions, *xs: Any) -> Any:
        return k.tirx.Not(xs[0])

    @classmethod
    def cases(cls) -> Iterator[Case]:
        yield sample(cls(), boolean[3, 20])


class Bitwise(Elementwise):
    """A binary op ``y = f(a, b)`` on each bit of integers."""

    arity = 2
    dtypes = INTEGERS

    @classmethod
    def cases(cls) -> Iterator[Case]:
        yield sample(cls(), i32[40], i32[2, 1], low=-9, high=9)
        yield sample(cls(), u8[40], u8[40], low=0, high=255)


@onnx_op("BitwiseAnd")
class BitwiseAnd(Bitwise):
    """``a & b``; ONNX BitwiseAnd-18."""

    name = "bitwise_and"

    def scalar(self, k: TensorExpressions, *xs: Any) -> Any:
        return xs[0] & xs[1]


@onnx_op("BitwiseOr")
class BitwiseOr(Bitwise):
    """``a | b``; ONNX BitwiseOr-18."""

    name = "bitwise_or"

    def scalar(self, k: TensorExpressions, *xs: Any) -> Any:
        return xs[0] | xs[1]


@onnx_op("BitwiseXor")
class BitwiseXor(Bitwise):
    """``a ^ b``; ONNX BitwiseXor-18."""

    name = "bitwise_xor"

    def scalar(self, k: TensorExpressions, *xs: Any) -> Any:
        return xs[0] ^ xs[1]


@onnx_op("BitwiseNot")
class BitwiseNot(Elementwise):
    """``~x``; ONNX BitwiseNot-18."""

    name = "bitwise_not"
    dtypes = INTEGERS

    def scalar(self, k: TensorExpressions, *xs: Any) -> Any:
        return ~xs[0]

    @classmethod
    def cases(cls) -> Iterator[Case]:
        yield sample(cls(), i8[40], low=-9, high=9)
        yield sample(cls(), u8[40], low=0, high=255)


@onnx_op("BitShift")
@dataclass(frozen=True)
class BitShift(Elementwise):
    """``a << b`` or ``a >> b``, which keeps the sign; ONNX BitShift-28.

    Where b is negative, or at least the number of bits of a, all bits of a are shifted out.
    """

    name = "bit_shift"
    arity = 2
    dtypes = INTEGERS
    direction: str = ""
    """``"LEFT"`` or ``"RIGHT"``."""

    def infer(self, *types: TensorType) -> TensorType:
        if self.direction not in ("LEFT", "RIGHT"):
            raise ShapeError(f"attribute direction is {self.direction!r}, not 'LEFT' or 'RIGHT'")
        return super().infer(*types)

    def scalar(self, k: TensorExpressions, *xs: Any) -> Any:
        a, b = xs
        last = k.like(int("".join(c for c in k.dtype(a) if c.isdigit())) - 1, b)
        zero = k.like(0, b)
        by = k.tirx.min(k.tirx.max(b, zero), last)
        if self.direction == "LEFT":
            return k.select(k.tirx.any(b < zero, b > last), zero, a << by)
        rest = zero if k.dtype(a).startswith("uint") else a >> last
        return k.select(k.tirx.any(b < zero, b > last), rest, a >> by)

    @classmethod
    def cases(cls) -> Iterator[Case]:
        shifts = np.array([0, 1, 3, 7, 8, 100, -1, -128], np.int8)
        for direction in ("LEFT", "RIGHT"):
            yield sample(cls(direction), u8[3, 4], np.array([0, 1, 3, 7], np.uint8), low=0, high=255)
            yield sample(cls(direction), np.arange(5, dtype=np.uint64), np.array([[1], [40]], np.uint64))
            yield sample(
                cls(direction),
                np.array([255, 3], np.uint8),
                np.array([8, 9], np.uint8),
                oracle="reference",
                note="undefined in ONNX Runtime",
            )
            yield sample(
                cls(direction),
                i8[5, 1],
                shifts,
                low=-128,
                high=127,
                oracle="reference",
                note="ONNX Runtime has no 8-bit Min",
            )
            yield sample(cls(direction), i32[5, 1], shifts.astype(np.int32), low=-999, high=999)


@exports(BitShift)
def _export_bit_shift(op: BitShift, n: ExportNode) -> None:
    dtype = n.input_types[0].dtype
    if dtype in UNSIGNED:
        export_fields(op, n)
        return
    # before opset 28, ONNX shifts only unsigned integers; a negative integer is shifted like these with its bits
    # inverted
    a, b = n.inputs
    bits = int(dtype[1:])
    unsigned = onnx_dtype(f"u{bits}")
    width = n.constant(np.array(bits, f"uint{bits}"))
    shift = n.node("Min", [n.node("Cast", [b], to=unsigned), width])  # a negative shift becomes a large one
    zero, ones = (n.constant(np.array(v, f"int{bits}")) for v in (0, -1))
    sign = n.node("Where", [n.node("Less", [a, zero]), ones, zero]) if op.direction == "RIGHT" else zero
    positive = n.node("Cast", [n.node("BitwiseXor", [a, sign])], to=unsigned)
    # in two steps, since a shift by the whole width is undefined in ONNX Runtime
    one = n.constant(np.array(1, f"uint{bits}"))
    half = n.node("Min", [shift, n.constant(np.array(bits - 1, f"uint{bits}"))])
    moved = n.node("BitShift", [positive, half], direction=op.direction)
    over = n.node("Min", [n.node("Sub", [shift, half]), one])
    moved = n.node("BitShift", [moved, over], direction=op.direction)
    n.node("BitwiseXor", [n.node("Cast", [moved], to=onnx_dtype(dtype)), sign], n.outputs)
