"""Normalizations: of a sum with its input (``Skip``), by the mean square (``Simplified``), and over groups."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..graph import Value
from ..onnx_io import ImportNode
from ..ops._axes import axis_of
from ..ops.activations import Silu
from ..ops.binary import Add, Div
from ..ops.cast import Cast
from ..ops.group_norm import GroupNorm
from ..ops.layer_norm import LayerNorm
from ..ops.quantize import Dequantize
from ..ops.reduce import ReduceMean
from ..ops.reshape import Reshape
from ..ops.rms_norm import RmsNorm
from ..ops.transpose import Transpose
from ..ops.unary import Sqrt
from ._operator import in_float32, like, need, operator, positive, refuse_outputs
from .activations import biased

STATISTICS = "output mean? inv_std_var? input_skip_bias_sum?"


@operator("SkipLayerNormalization", "input skip gamma beta? bias?", STATISTICS, epsilon="float")
def _import_skip_layer_norm(n: ImportNode) -> Any:
    """Import ``layer_norm(input + skip + bias)``, its statistics, and the sum."""
    total = _sum(n, n.optional(4))
    params = [n.input(2), *([] if n.optional(3) is None else [n.input(3)])]
    epsilon = n.attr("epsilon", 1e-12)
    if any(n.proto.output[1:3]):
        y, mean, deviation = n.emit(LayerNorm(-1, epsilon, stats=True), total, *params)
        return [y, mean, deviation, total]
    y = n.emit(LayerNorm(-1, epsilon), total, *params)
    return [y, y, y, total][: max(1, len(n.proto.output))]


@operator("SkipSimplifiedLayerNormalization", "input skip gamma bias?", STATISTICS, epsilon="float")
def _import_skip_rms_norm(n: ImportNode) -> Any:
    """Import ``rms_norm(input + skip + bias)`` and the sum."""
    refuse_outputs(n, [1], ": the mean is not used")
    total, epsilon = _sum(n, n.optional(3)), n.attr("epsilon", 1e-12)
    y = n.emit(RmsNorm(-1, epsilon), total, n.input(2))
    inverse = _inverse(n, total, -1, epsilon) if any(n.proto.output[2:3]) else y
    return [y, y, inverse, total][: max(1, len(n.proto.output))]


def _sum(n: ImportNode, bias: Value | None) -> Value:
    """The sum of the input, the skip connection, which may lack the batch, and the bias."""
    x, skip = n.input(0), n.input(1)
    need(n, skip.type.rank <= x.type.rank,
         f"its skip {list(skip.type.shape)} does not fit its input {list(x.type.shape)}")  # fmt: skip
    total: Value = n.emit(Add(), biased(n, x, bias), skip)
    need(n, total.type.shape == x.type.shape,
         f"its skip {list(skip.type.shape)} does not fit its input {list(x.type.shape)}")  # fmt: skip
    return total


@operator(
    "SimplifiedLayerNormalization", "X scale", "Y inv_std_var?", domain="",
    axis="int", epsilon="float", stash_type="int",
)  # fmt: skip
def _import_rms_norm(n: ImportNode) -> Any:
    """Import ``x / sqrt(mean(x**2) + epsilon) * scale``, which ONNX Runtime keeps in ONNX's own domain."""
    x, scale, axis, epsilon = n.input(0), n.input(1), n.attr("axis", -1), n.attr("epsilon", 1e-5)
    y = n.emit(RmsNorm(axis, epsilon), x, like(n, scale, x))
    y = like(n, y, scale)
    if not any(n.proto.output[1:]):
        return y
    return [y, _inverse(n, x, axis, epsilon)]


def _inverse(n: ImportNode, x: Value, axis: int, epsilon: float) -> Value:
    """``1 / sqrt(mean(x**2) + epsilon)`` over an axis and all after, in float32 at least."""
    wide = in_float32(n, x)
    axes = tuple(range(axis_of(axis, x.type.rank), x.type.rank))
    square = n.emit(ReduceMean(axes), n.call("Mul", wide, wide))
    made: Value = n.emit(Div(), n.scalar(1, square), n.emit(Sqrt(), n.emit(Add(), square, n.scalar(epsilon, square))))
    return made


GROUPS: dict[str, Any] = {"groups": "int!", "activation": "int!", "channels_last": "int", "epsilon": "float"}


@operator("GroupNorm", "X gamma beta", **GROUPS)
def _import_group_norm(n: ImportNode) -> Any:
    """Import a group normalization, with a SiLU where ``activation`` is 1."""
    return _grouped(n, n.input(0), n.input(1), n.input(2))


@operator("SkipGroupNorm", "X gamma beta skip bias?", "Y S?", **GROUPS)
def _import_skip_group_norm(n: ImportNode) -> Any:
    """Import a group normalization of ``x + skip + bias``, and that sum; channels come last."""
    x, skip = n.input(0), n.input(3)
    need(n, bool(n.attr("channels_last", 1)), "SkipGroupNorm takes data whose channels come last")
    if skip.type.rank == 2:  # N C
        skip = n.emit(Reshape((skip.type.sizes[0], 1, 1, skip.type.sizes[1])), skip)
    total = n.emit(Add(), biased(n, x, n.optional(4)), skip)
    return [_grouped(n, total, n.input(1), n.input(2)), total][: max(1, len(n.proto.output))]


def _grouped(n: ImportNode, x: Value, gamma: Value, beta: Value) -> Value:
    last = bool(n.attr("channels_last", 1))
    activation = n.attr("activation")
    need(n, activation in (0, 1), f"activation is {activation}; it must be 0 (none) or 1 (SiLU)")
    rank = x.type.rank
    need(n, rank >= 3, f"takes data of rank 3 or more, not {list(x.type.shape)}")
    if last:
        x = n.emit(Transpose((0, rank - 1, *range(1, rank - 1))), x)
    y: Value = n.emit(
        GroupNorm(positive(n, "groups"), n.attr("epsilon", 1e-5)), in_float32(n, x), in_float32(n, gamma),
        in_float32(n, beta),
    )  # fmt: skip
    y = like(n, n.emit(Silu(), y) if activation else y, x)
    return n.emit(Transpose((0, *range(2, rank), 1)), y) if last else y


@operator(
    "EmbedLayerNormalization",
    "input_ids segment_ids? word_embedding position_embedding segment_embedding? gamma beta mask? position_ids?",
    "output mask_index? embedding_sum?", epsilon="float", mask_index_type="int",
)  # fmt: skip
def _import_embed_layer_norm(n: ImportNode) -> Any:
    """Import the layer normalization of the sum of the embeddings of words, positions and segments.

    ``mask_index`` is the number of ones in each row of the mask where ``mask_index_type`` is 1, else 0.
    """
    tables = [n.input(2), n.input(3), n.optional(4)]
    return embedded(n, tables, [n.input(5), n.input(6)], n.optional(7), n.optional(8))


@operator(
    "QEmbedLayerNormalization",
    "input_ids segment_ids? word_embedding_quant position_embedding_quant segment_embedding? gamma_quant beta_quant "
    "mask? word_embedding_scale position_embedding_scale segment_embedding_scale? gamma_scale beta_scale "
    "word_embedding_zero_point position_embedding_zero_point segment_embedding_zero_point? gamma_zero_point "
    "beta_zero_point",
    "layernorm_out mask_index_out", epsilon="float",
)  # fmt: skip
def _import_q_embed_layer_norm(n: ImportNode) -> Any:
    """Import an embedding normalization whose tables, scale and shift are quantized."""

    def floats(table: int, scale: int) -> Value | None:
        if n.optional(table) is None:
            return None
        made: Value = n.emit(Dequantize(), n.input(table), n.input(scale), n.input(scale + 5))
        return made

    params = [v for v in (floats(5, 11), floats(6, 12)) if v is not None]
    return embedded(n, [floats(i, i + 6) for i in (2, 3, 4)], params, n.optional(7), None)


def embedded(
    n: ImportNode, tables: Sequence[Value | None], params: Sequence[Value], mask: Value | None, places: Value | None
) -> list[Value]:
    """The outputs of an embedding normalization with these tables of words, positions and segments."""
    ids, segments = n.input(0), n.optional(1)
    need(n, ids.type.rank == 2, f"input_ids has the shape {list(ids.type.shape)}; it must be [batch, length]")
    words, positions, kinds = tables
    assert words is not None
    assert positions is not None
    batch, length = ids.type.sizes
    need(
        n, positions.type.rank == 2, f"the table of positions has the shape {list(positions.type.shape)}, not two axes"
    )
    y = n.call("Gather", words, ids)
    if places is None:
        need(n, positions.type.sizes[0] >= length,
             f"the table of positions has {positions.type.sizes[0]} rows for a length of {length}")  # fmt: skip
        first = n.call("Slice", positions, *(n.constant(_ints(v)) for v in (0, length, 0)))
        y = n.emit(Add(), y, first)
    else:
        y = n.emit(Add(), y, n.call("Gather", positions, places))
    if kinds is not None and segments is not None:
        y = n.emit(Add(), y, n.call("Gather", kinds, segments))
    normal = n.emit(LayerNorm(-1, n.attr("epsilon", 1e-12)), y, *params)
    if mask is not None and n.attr("mask_index_type", 1):
        index = n.call("ReduceSum", n.emit(Cast("i32"), mask), n.constant(_ints(1)), keepdims=0)
    else:
        index = n.filled((batch,), 0, "i32", "mask_index")
    return [normal, index, y][: max(1, len(n.proto.output))]


def _ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)
