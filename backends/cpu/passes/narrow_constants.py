"""Keep weights in 16 bits in the file where these hold them, and convert them when the model is loaded."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from convc.ir.builder import Builder
from convc.ir.dtypes import numpy_dtype
from convc.ir.graph import Constant, Graph, Node, Value
from convc.ir.ops.cast import Cast
from convc.ir.rewrite import rebuild

LEAST = 4096
"""Constants of fewer elements are left alone, since the code that converts one takes as many bytes as are saved."""


def narrow_constants(graph: Graph) -> Graph:
    """``conv(x, w: f32) -> conv(x, cast(w': f16))`` where float16 or bfloat16 holds each element of a constant w."""
    narrowed: dict[str, Value] = {}

    def wide(b: Builder, v: Value) -> Value:
        if v.name not in narrowed:
            made = _narrowed(b.constants[v.name])
            narrowed[v.name] = v if made is None else b.emit(Cast("f32"), b.constant(made, v.name), names=[v.name])
        return narrowed[v.name]

    def visit(b: Builder, node: Node, inputs: tuple[Value, ...]) -> Sequence[Value] | None:
        return b.again(node, [wide(b, v) if v.name in b.constants else v for v in inputs])

    return rebuild(graph, visit)


def _narrowed(constant: Constant) -> np.ndarray | None:
    """The data of a constant of float32 in a dtype of 16 bits that holds all of it; ``None`` if there is none."""
    if constant.type.dtype != "f32" or constant.type.numel < LEAST or not constant.has_data:
        return None
    for dtype in ("f16", "bf16"):
        made = _exactly(constant.array, numpy_dtype(dtype))
        if made is not None:
            return made
    return None


def _exactly(array: np.ndarray, dtype: np.dtype) -> np.ndarray | None:
    """The array in another dtype, if that changes no element; NaN must be in the same places."""
    for part in (array.reshape(-1)[:LEAST], array):  # most constants differ soon
        with np.errstate(over="ignore"):
            made = part.astype(dtype)
        if not np.array_equal(made.astype(np.float32), part, equal_nan=True):
            return None
    return made
