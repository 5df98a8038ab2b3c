"""Unary elementwise functions of ONNX that have no attributes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ..lowering import TensorExpressions
from ..op import Case, f32, i32, sample
from ..types import FLOATS, INTEGERS
from ._elementwise import Elementwise


@dataclass(frozen=True)
class Relu(Elementwise):
    """``max(x, 0)``; ONNX Relu-14."""

    name = "relu"
    onnx = ("Relu",)
    dtypes = FLOATS + INTEGERS

    def scalar(self, k: TensorExpressions, *xs: Any) -> Any:
        return k.tirx.max(xs[0], k.like(0, xs[0]))

    @classmethod
    def cases(cls) -> Iterator[Case]:
        yield sample(cls(), f32[2, 3, 5])
        yield sample(cls(), i32[7])


@dataclass(frozen=True)
class Tanh(Elementwise):
    """``tanh(x)``; ONNX Tanh-13."""

    name = "tanh"
    onnx = ("Tanh",)
    cost = 4

    def scalar(self, k: TensorExpressions, *xs: Any) -> Any:
        return k.tirx.tanh(xs[0])

    @classmethod
    def cases(cls) -> Iterator[Case]:
        yield sample(cls(), f32[2, 3, 5])
        yield sample(cls(), f32[64], low=-100, high=100)
