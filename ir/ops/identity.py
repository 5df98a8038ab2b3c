"""Identity."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..lowering import TensorExpressions
from ..onnx_io import ImportNode, imports, onnx_op
from ..op import Case, f32, sample
from ._elementwise import ALL_DTYPES, Elementwise


@onnx_op("Identity")
@dataclass(frozen=True)
class Identity(Elementwise):
    """``y = x``; ONNX Identity-16. It only lives where a graph returns an input or a constant as it is."""

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


@imports("Dropout")
def _import_dropout(n: ImportNode) -> Any:
    x = n.input(0)
    training = not n.attr("is_test", 0) if n.opset < 7 else n.opset >= 12 and bool(n.const(2, "training_mode"))
    ratio = n.attr("ratio", 0.5) if n.opset < 12 else n.const(1, "ratio")
    if training and (ratio is None or np.any(ratio != 0)):
        raise n.unsupported("it is in training mode, which is random; export the model for inference")
    if len(n.proto.output) == 1:
        return x
    return x, n.filled(x.type.sizes, 1, "bool" if n.opset >= 10 else x.type.dtype, "mask")
