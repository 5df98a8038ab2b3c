"""The identity function."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..lowering import TensorExpressions
from ..onnx_io import ImportNode, imports, onnx_op
from ..op import Case, f32, sample
from ._elementwise import ALL_DTYPES, Elementwise


@onnx_op("Identity")
class Identity(Elementwise):
    """``y = x``; ONNX Identity-16. A compiled graph has it only where it returns an input or a constant."""

    name = "identity"
    rounds = False
    dtypes = ALL_DTYPES
    cost = 0

    def scalar(self, k: TensorExpressions, *xs: Any) -> Any:
        return xs[0]

    @classmethod
    def cases(cls) -> Iterator[Case]:
        yield sample(cls(), f32[2, 3])


@imports("Identity", folds=True)
def _import_identity(n: ImportNode) -> Any:
    return n.input(0)
