"""Identity."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ..lowering import TensorExpressions
from ..onnx_io import ImportNode
from ..op import Case, f32, sample
from ._elementwise import ALL_DTYPES, Elementwise


@dataclass(frozen=True)
class Identity(Elementwise):
    """``y = x``; ONNX Identity-16. It only lives where a graph returns an input or a constant as it is."""

    name = "identity"
    onnx = ("Identity", "Dropout")
    dtypes = ALL_DTYPES
    cost = 0

    def scalar(self, k: TensorExpressions, *xs: Any) -> Any:
        return xs[0]

    @classmethod
    def from_onnx(cls, n: ImportNode) -> Any:
        return n.input(0)

    @classmethod
    def cases(cls) -> Iterator[Case]:
        yield sample(cls(), f32[2, 3])
