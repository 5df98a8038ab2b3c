"""Fold BatchNorm, and multiplications and additions of one value per channel, into the convolution before them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import ml_dtypes
import numpy as np

from ..builder import Builder
from ..graph import Graph, Node, Value
from ..ops.batch_norm import BatchNorm
from ..ops.binary import Add, Mul
from ..ops.conv import Conv
from ..rewrite import Match, Report, apply_rules
from ..sizes import Dim


def fold_scale(graph: Graph, report: Report | None = None) -> Graph:
    """Apply the rules until none fires. ``report`` records where each fired, and why it did not elsewhere."""
    return apply_rules(graph, (ConstantBatchNorm(), ScaleIntoConv(), ShiftIntoConv()), report)


class ConstantBatchNorm:
    """``batch_norm(x, scale, b, mean, var) => x * factor + offset`` for constant scale, b, mean and var."""

    def match(self, graph: Graph, node: Node) -> Match | str | None:
        if not isinstance(node.op, BatchNorm):
            return None
        arrays = [graph.constant_of(v) for v in node.inputs[1:]]
        return "its statistics are computed" if any(a is None for a in arrays) else Match(node, data=arrays)

    def rewrite(self, b: Builder, match: Match, env: Callable[[Value], Value]) -> Sequence[Value]:
        node = match.root
        assert isinstance(node.op, BatchNorm)
        x, out = env(node.inputs[0]), node.output
        shape = (-1, *(1,) * max(out.type.rank - 2, 0))
        factor, offset = (
            b.constant(a.astype(out.type.numpy_dtype).reshape(shape), f"{node.inputs[1].name}.{hint}")
            for a, hint in zip(node.op.scale_and_shift(*match.data), ("factor", "offset"), strict=True)
        )
        return [b.emit(Add(), b.emit(Mul(), x, factor), offset, names=[out.name])]


class ScaleIntoConv:
    """``conv(x, w, b) * c => conv(x, w * c, b * c)`` for constant w, b and a constant c of one value per output
    channel.
    """

    def match(self, graph: Graph, node: Node) -> Match | str | None:
        found = _match(graph, node, Mul)
        if not isinstance(found, Match):
            return found
        conv, c = found.data
        arrays = [graph.constant_of(v) for v in conv.inputs[1:]]
        weight, *bias = (a for a in arrays if a is not None)
        fits = _keeps_digits(_scaled(weight, c), weight.dtype) and all(np.isfinite(_scaled(a, c)).all() for a in bias)
        return found if fits else "the scaled weights or bias overflow or lose digits"

    def rewrite(self, b: Builder, match: Match, env: Callable[[Value], Value]) -> Sequence[Value]:
        conv, c = match.data
        arrays = [b.constant_of(v) for v in conv.inputs[1:]]
        names = [v.name for v in conv.inputs[1:]]
        made = [
            b.constant(_scaled(a, c).astype(a.dtype), n) for a, n in zip(arrays, names, strict=True) if a is not None
        ]
        operands = [env(conv.inputs[0]), *made]
        return [b.emit(conv.op, *operands, names=[match.root.output.name])]


class ShiftIntoConv:
    """``conv(x, w, b) + c => conv(x, w, b + c)`` for constant b and a constant c of one value per output channel."""

    def match(self, graph: Graph, node: Node) -> Match | str | None:
        return _match(graph, node, Add)

    def rewrite(self, b: Builder, match: Match, env: Callable[[Value], Value]) -> Sequence[Value]:
        conv, c = match.data
        dtype = conv.output.type.numpy_dtype
        if len(conv.inputs) == 3:
            bias = b.constant_of(conv.inputs[2])
            assert bias is not None
            c, name = bias + c, conv.inputs[2].name
        else:
            name = f"{conv.inputs[1].name}.bias"
        return [
            b.emit(
                conv.op,
                env(conv.inputs[0]),
                env(conv.inputs[1]),
                b.constant(c.astype(dtype), name),
                names=[match.root.output.name],
            )
        ]


def _match(graph: Graph, node: Node, op: type) -> Match | str | None:
    """A convolution with constant parameters and the per-channel constant (float64) that ``node`` applies to its
    result.
    """
    if not isinstance(node.op, op) or len(node.inputs) != 2:
        return None
    for value, other in (node.inputs, node.inputs[::-1]):
        conv = graph.producers.get(value.name)
        if conv is None or not isinstance(conv.op, Conv) or conv.op.exact:
            continue
        if other.name not in graph.constants or not graph.constants[other.name].has_data:
            return f"'{other.name}' is not constant"
        c = per_channel(graph.constants[other.name].array, conv.output.type.rank, conv.output.type.shape[1])
        if c is None or node.output.type != conv.output.type:
            return f"'{other.name}' of shape {list(other.type.shape)} is not one value an output channel"
        if any(graph.constant_of(v) is None for v in conv.inputs[1:]):
            return "the convolution's weight or bias is computed"
        return Match(node, (conv,), (conv, c))
    return None


def _scaled(array: np.ndarray, c: np.ndarray) -> np.ndarray:
    """An array in float64, with its first axis scaled by c."""
    with np.errstate(all="ignore"):
        product: np.ndarray = array.astype(np.float64) * c.reshape(-1, *[1] * (array.ndim - 1))
    return product


def _keeps_digits(scaled: np.ndarray, dtype: np.dtype) -> bool:
    """Whether a dtype holds numbers as precisely as it holds numbers near 1.

    The error of a number counts against the largest of its output channel, to whose sums it adds.
    """
    with np.errstate(all="ignore"):
        held = scaled.astype(dtype).astype(np.float64)
        off, most = (np.abs(a).reshape(len(a), -1).max(axis=1, initial=0) for a in (held - scaled, scaled))
    eps = float(ml_dtypes.finfo(dtype).eps)  # type: ignore[no-untyped-call]
    return bool(np.isfinite(held).all() and (off <= eps * most).all())


def per_channel(array: np.ndarray, rank: int, channels: Dim) -> np.ndarray | None:
    """The values of a constant, one per channel (axis 1) of data of this rank; ``None`` when it varies along other
    axes.
    """
    if array.ndim > rank or not isinstance(channels, int):
        return None
    shape = (1,) * (rank - array.ndim) + array.shape
    if any(size != 1 for axis, size in enumerate(shape) if axis != 1) or shape[1] not in (1, channels):
        return None
    return np.broadcast_to(array.astype(np.float64).reshape(-1), (channels,))
