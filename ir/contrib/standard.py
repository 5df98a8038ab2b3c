"""Operators that mean the same as operators of ONNX, from which some of them came."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

from ..onnx_io import ImportNode
from ._operator import given, need, operator


def _import_same(op_type: str, opset: int, n: ImportNode) -> Any:
    return n.call(op_type, *n.inputs, opset=opset, **given(n, *n.signature().attributes))


def _same(
    op_type: str, opset: int, inputs: str, outputs: str, attributes: Mapping[str, str] | None = None, folds: bool = True
) -> None:
    read = partial(_import_same, op_type, opset)
    operator(op_type, inputs, outputs, folds, **attributes or {})(read)


_same("Trilu", 14, "X k?", "Y", {"upper": "int"})
_same("GatherND", 13, "data indices", "output")
_same("Pad", 13, "data pads value?", "output", {"mode": "string"}, folds=False)


@operator("GridSample", "X Grid", align_corners="int", mode="string", padding_mode="string")
def _import_grid_sample(n: ImportNode) -> Any:
    """Import ONNX's GridSample-16, whose modes have other names than in later opsets."""
    return n.call("GridSample", n.input(0), n.input(1), opset=16, **given(n, "align_corners", "mode", "padding_mode"))


@operator("ExpandDims", "X axis")
def _import_expand_dims(n: ImportNode) -> Any:
    axes = n.ints(1, "axis")
    assert axes is not None
    rank = n.input(0).type.rank
    need(n, len(axes) == 1 and -rank - 1 <= axes[0] <= rank, f"axis {list(axes)} is out of range for rank {rank}")
    return n.call("Unsqueeze", n.input(0), n.constant(np.array(axes, np.int64), "axes"))


@operator("Range", "start limit delta?")
def _import_range(n: ImportNode) -> Any:
    """Import ONNX's Range, whose step is 1 unless it is given."""
    bounds = [n.const(i, "bounds") for i in range(3)]
    start, limit = bounds[:2]
    assert start is not None
    assert limit is not None
    step = bounds[2] if bounds[2] is not None else np.ones((), start.dtype)
    operands = [n.constant(np.reshape(b, ()), "bound") for b in (start, limit, step)]
    return n.call("Range", *operands)


@operator("CDist", "A B", "C", metric="string")
def _import_cdist(n: ImportNode) -> Any:
    """Import the distances, or with ``sqeuclidean`` their squares, between the rows of two matrices."""
    metric = n.attr("metric", "sqeuclidean")
    if metric not in ("euclidean", "sqeuclidean"):
        raise n.unsupported(f"metric {metric!r} is not supported; euclidean and sqeuclidean are")
    a, b = n.input(0), n.input(1)
    need(n, a.type.rank == b.type.rank == 2, f"takes two matrices, not {list(a.type.shape)} and {list(b.type.shape)}")
    apart = n.call("Sub", n.call("Unsqueeze", a, n.constant(np.array([1]), "axes")), b)
    square = n.call("ReduceSum", n.call("Mul", apart, apart), n.constant(np.array([2]), "axes"), keepdims=0)
    return n.call("Sqrt", square) if metric == "euclidean" else square


@operator("TorchEmbedding", "weight indices padding_idx? scale_grad_by_freq?")
def _import_embedding(n: ImportNode) -> Any:
    """Import rows of a table; the other inputs matter to training only."""
    return n.call("Gather", n.input(0), n.input(1))


@operator("Unique", "x", "y idx counts")
def _import_unique(n: ImportNode) -> Any:
    """Import ONNX's Unique in the order of first occurrence; ``idx`` says where each element of x is in y."""
    y, _, places, counts = n.call("Unique", n.input(0), sorted=0, outputs=4)
    return [y, places, counts]
