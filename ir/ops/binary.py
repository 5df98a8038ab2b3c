"""Binary arithmetic with broadcasting."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ..lowering import TensorExpressions
from ..op import Case, f32, i64, sample
from ..types import FLOATS, INTEGERS
from ._elementwise import Elementwise


@dataclass(frozen=True)
class Binary(Elementwise):
    """``y = f(a, b)`` with broadcasting."""

    arity = 2
    dtypes = FLOATS + INTEGERS

    @classmethod
    def cases(cls) -> Iterator[Case]:
        yield sample(cls(), f32[2, 3, 5], f32[2, 3, 5])
        yield sample(cls(), f32[2, 1, 5], f32[3, 1])
        yield sample(cls(), f32[()], f32[4])


@dataclass(frozen=True)
class Add(Binary):
    """``a + b``; ONNX Add-14."""

    name = "add"
    onnx = ("Add",)

    def scalar(self, k: TensorExpressions, *xs: Any) -> Any:
        return xs[0] + xs[1]


@dataclass(frozen=True)
class Mul(Binary):
    """``a * b``; ONNX Mul-14."""

    name = "mul"
    onnx = ("Mul",)

    def scalar(self, k: TensorExpressions, *xs: Any) -> Any:
        return xs[0] * xs[1]

    @classmethod
    def cases(cls) -> Iterator[Case]:
        yield from super().cases()
        yield sample(cls(), i64[3], i64[2, 1])
