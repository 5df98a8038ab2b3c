"""Clip."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..dtypes import FLOATS, INTEGERS, numpy_dtype
from ..graph import Value
from ..lowering import TensorExpressions
from ..onnx_io import ExportNode, ImportNode, exports, imports
from ..op import Case, f16, f32, f64, i8, i64, sample, u8
from ._elementwise import Elementwise
from ._math import bounded
from .binary import Max, Min
from .unary import SPECIAL


@dataclass(frozen=True)
class Clip(Elementwise):
    """``min(max(x, low), high)``; a bound of ``None`` does not bound; NaN stays NaN; ONNX Clip-13."""

    name = "clip"
    rounds = False
    dtypes = FLOATS + INTEGERS
    cost = 2
    low: float | None = None
    high: float | None = None

    def scalar(self, k: TensorExpressions, *xs: Any) -> Any:
        return bounded(k, xs[0], self.low, self.high)

    @classmethod
    def cases(cls) -> Iterator[Case]:
        yield sample(cls(-1.0, 1.0), f32[2, 3, 5])
        yield sample(cls(0.0, 6.0), SPECIAL)
        yield sample(cls(high=0.5), f32[20])
        yield sample(cls(low=0.5), f64[20])
        yield sample(cls(1.0, -1.0), f32[20])
        yield sample(cls(), f32[5])
        yield sample(cls(-3, 4), i64[20], low=-9, high=9)
        yield sample(cls(-100, 4), i8[20], low=-128, high=127)
        yield sample(cls(3, 200), u8[20], low=0, high=255)
        yield sample(cls(-1.0, 1.0), f16[20])


@imports("Clip", folds=True)
def _import_clip(n: ImportNode) -> Any:
    x = n.input(0)
    if n.opset < 11:
        return n.emit(Clip(n.attr("min"), n.attr("max")), x)
    low, high = (_bound(n, i) for i in (1, 2))
    if not isinstance(low, Value) and not isinstance(high, Value):
        return n.emit(Clip(low, high), x)
    for op, b in ((Max(), low), (Min(), high)):
        if b is not None:
            x = n.emit(op, x, b if isinstance(b, Value) else n.scalar(b, x))
    return x


@exports(Clip)
def _export_clip(op: Clip, n: ExportNode) -> None:
    dtype = numpy_dtype(n.input_types[0].dtype)
    bounds = ["" if b is None else n.constant(np.array(b, dtype)) for b in (op.low, op.high)]
    n.node("Clip", [n.inputs[0], *bounds], n.outputs)


def _bound(n: ImportNode, index: int) -> float | Value | None:
    """A bound: its number when it is constant, else the value."""
    value = n.optional(index)
    if value is None or (array := n.builder.constant_of(value)) is None:
        return value
    if array.size != 1:
        raise n.error(f"bound '{value.name}' has shape {list(array.shape)}; a scalar is needed")
    number: float = array.reshape(-1)[0].item()
    return number
