"""Attention: MultiHeadAttention, Attention with its own projections, its quantized form, and rotary embeddings.

Sizes are B batches, S queries, T keys, P past keys, H heads of D elements.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np

from ..graph import Value
from ..onnx_io import ImportNode
from ..ops.binary import Add, Mul, Sub
from ..ops.concat import Concat
from ..ops.expand import Tile
from ..ops.matmul import MatMul
from ..ops.reshape import Reshape
from ..ops.slice import Slice
from ..ops.softmax import Softmax
from ..ops.transpose import Transpose
from ..ops.where import Where
from ._operator import need, operator, positive, refuse_attributes, refuse_inputs, refuse_outputs
from .activations import biased


@operator(
    "MultiHeadAttention",
    "query key? value? bias? key_padding_mask? attention_bias? past_key? past_value? past_sequence_length? "
    "cache_indirection?",
    "output present_key? present_value? qk?",
    num_heads="int!", mask_filter_value="float", scale="float", unidirectional="int",
)  # fmt: skip
def _import_multi_head_attention(n: ImportNode) -> Any:
    """Import attention of projected queries ``B S H*D``, keys ``B T H*D`` and values; the bias is that of all three.

    Keys and values may come in one tensor ``B T H 2 D``, all three in ``B S H 3 D``, and keys and values of cross
    attention as ``B H T D``.
    """
    refuse_inputs(n, [8, 9])
    refuse_outputs(n, [3])
    heads = positive(n, "num_heads")
    query, key, value, bias = n.input(0), n.optional(1), n.optional(2), n.optional(3)
    if query.type.rank == 5:
        need(n, key is None and value is None, "a query of rank 5 holds keys and values, which are given again")
        q, k, v = _parts(n, query, 3, heads)
    else:
        need(n, query.type.rank == 3 and key is not None,
             f"takes a query [batch, length, size] and a key, not a query {list(query.type.shape)} alone")  # fmt: skip
        assert key is not None
        need(n, key.type.rank == 5 or value is not None, "input 2 ('value') is missing")
        biases = _thirds(n, bias, query.type.sizes[-1])
        q = _heads(n, biased(n, query, biases[0]), heads)
        if key.type.rank == 5:
            need(n, bias is None, "a bias of packed keys and values is not defined")
            k, v = _parts(n, key, 2, heads)
        else:
            assert value is not None
            k, v = (
                x if x.type.rank == 4 else _heads(n, biased(n, x, b), heads)
                for x, b in zip((key, value), biases[1:], strict=True)
            )
    k, v = _after(n, n.optional(6), k), _after(n, n.optional(7), v)
    y = attended(n, (q, k, v), n.optional(4), n.optional(5))
    return [y, k, v][: max(1, len(n.proto.output))]


_ATTENTION: dict[str, Any] = {
    "num_heads": "int!", "do_rotary": "int", "mask_filter_value": "float", "past_present_share_buffer": "int",
    "scale": "float", "unidirectional": "int",
}  # fmt: skip


@operator(
    "Attention", "input weights bias? mask_index? past? attention_bias? past_sequence_length?", "output present?",
    **_ATTENTION, qkv_hidden_sizes="ints", rotary_embedding_dim="int",
)  # fmt: skip
def _import_attention(n: ImportNode) -> Any:
    """Import the projection of ``B S C`` by a weight ``C 3*H*D``, and attention; past and present are ``2 B H T D``."""
    refuse_inputs(n, [6])
    refuse_attributes(n, do_rotary=0, past_present_share_buffer=0, rotary_embedding_dim=0)
    projected = biased(n, n.emit(MatMul(), n.input(0), n.input(1)), n.optional(2))
    return _self_attention(n, projected, n.attr("qkv_hidden_sizes", ()), (3, 4), n.optional(5))


@operator(
    "QAttention",
    "input weight bias input_scale weight_scale mask_index? input_zero_point? weight_zero_point? past?",
    "output present?", **_ATTENTION,
)  # fmt: skip
def _import_q_attention(n: ImportNode) -> Any:
    """Import attention whose input and weight are quantized, and whose product of both is exact."""
    refuse_attributes(n, do_rotary=0, past_present_share_buffer=0)
    zeros = n.optional(6), n.optional(7)
    total = n.call("MatMulInteger", n.input(0), n.input(1), *zeros)
    factor = n.emit(Mul(), *(n.emit(Reshape(() if s.type.numel == 1 else (-1,)), s) for s in (n.input(3), n.input(4))))
    projected = biased(n, n.emit(Mul(), n.call("Cast", total, to=1), factor), n.input(2))
    return _self_attention(n, projected, (), (5, 8), None)


def _self_attention(
    n: ImportNode, projected: Value, sizes: tuple[int, ...], inputs: tuple[int, int], bias: Value | None
) -> list[Value]:
    """Attention of the three parts of ``B S 3*H*D``; the mask and the past are the inputs of these numbers."""
    heads = positive(n, "num_heads")
    need(n, projected.type.rank == 3, f"its projection {list(projected.type.shape)} must be [batch, length, size]")
    whole = projected.type.sizes[-1]
    if not sizes:
        need(n, whole % 3 == 0, f"its projection has {whole} columns, which are not three of equal size")
        sizes = (whole // 3,) * 3
    need(n, len(sizes) == 3 and sum(sizes) == whole and min(sizes) > 0 and sizes[0] == sizes[1],
         f"qkv_hidden_sizes {list(sizes)} do not fit a projection of {whole} columns")  # fmt: skip
    ends = np.cumsum(sizes).tolist()
    q, k, v = (
        _heads(n, n.emit(Slice((2,), (end - size,), (end,)), projected), heads)
        for size, end in zip(sizes, ends, strict=True)
    )
    past = n.optional(inputs[1])
    if past is not None:
        need(n, past.type.rank == 5 and past.type.sizes[0] == 2,
             f"its past has the shape {list(past.type.shape)}; it must be [2, batch, heads, length, size]")  # fmt: skip
        k, v = (
            _after(n, n.emit(Reshape(past.type.sizes[1:], True), n.emit(Slice((0,), (i,), (i + 1,)), past)), x)
            for i, x in enumerate((k, v))
        )
    y = attended(n, (q, k, v), n.optional(inputs[0]), bias)
    if len(n.proto.output) < 2:
        return [y]
    return [y, n.emit(Concat(0), *(n.emit(Reshape((1, *x.type.sizes), True), x) for x in (k, v)))]


def attended(
    n: ImportNode, projected: tuple[Value, Value, Value], mask: Value | None, bias: Value | None
) -> Value:  # fmt: skip
    """``softmax(q @ k.T * scale + bias, masked) @ v`` as ``B S H*D``, of ``B H S D``, ``B H T D`` and ``B H T D``."""
    q, k, v = projected
    (batch, heads, queries, size), keys = q.type.sizes, k.type.sizes[2]
    need(n, (k.type.sizes[:2], k.type.sizes[3]) == ((batch, heads), size) and v.type.sizes[:3] == (batch, heads, keys),
         f"{list(q.type.shape)}, keys {list(k.type.shape)}, values {list(v.type.shape)} do not fit")  # fmt: skip
    scale = n.attr("scale", 0.0) or 1 / math.sqrt(size)
    scores = n.emit(MatMul(), q, n.emit(Transpose((0, 1, 3, 2)), k))
    scores = n.emit(Mul(), scores, n.scalar(scale, scores))
    if bias is not None:
        scores = n.emit(Add(), scores, bias)
    if mask is not None:
        low = n.scalar(n.attr("mask_filter_value", -10000.0), scores)
        added = n.emit(Where(), _kept(n, mask, (batch, queries, keys)), n.scalar(0, scores), low)
        scores = n.emit(Add(), scores, added)
    if n.attr("unidirectional", 0):
        seen = np.arange(keys) <= np.arange(queries)[:, None] + (keys - queries)
        least = float(np.finfo(scores.type.numpy_dtype).min)
        scores = n.emit(Where(), n.constant(seen, "seen"), scores, n.scalar(least, scores))
    y = n.emit(MatMul(), n.emit(Softmax(-1), scores), v)
    made: Value = n.emit(Reshape((batch, queries, heads * v.type.sizes[3])), n.emit(Transpose((0, 2, 1, 3)), y))
    return made


def _kept(n: ImportNode, mask: Value, sizes: tuple[int, int, int]) -> Value:
    """Whether each key counts, ``B 1 1 T`` or ``B 1 S T``, from one of the forms of a mask.

    The forms are ones and zeros ``B T``, ``B S T`` or ``B 1 M M``; the number of keys ``B``; and the ends, then the
    beginnings of the keys, ``2*B``.
    """
    batch, queries, keys = sizes
    shape = mask.type.sizes
    need(n, mask.type.dtype in ("i32", "i64"), f"its mask is {mask.type}, not of 32- or 64-bit integers")
    if len(shape) == 1:
        need(n, shape[0] in (batch, 2 * batch), f"its mask has {shape[0]} numbers for a batch of {batch}")
        places = n.constant(np.arange(keys, dtype=mask.type.numpy_dtype), "places")

        def part(i: int) -> Value:
            some = n.emit(Slice((0,), (i * batch,), ((i + 1) * batch,)), mask)
            made: Value = n.emit(Reshape((batch, 1, 1, 1)), some)
            return made

        kept: Value = n.call("Less", places, part(0))
        return kept if shape[0] == batch else n.call("And", kept, n.call("GreaterOrEqual", places, part(1)))
    forms: dict[tuple[int, ...], tuple[int, ...]] = {
        (batch, keys): (batch, 1, 1, keys),
        (batch, queries, keys): (batch, 1, queries, keys),
    }
    if len(shape) == 4 and shape[:2] == (batch, 1) and shape[2] == shape[3] >= keys:
        mask = n.emit(Slice((2, 3), (keys - queries, 0), (keys, keys)), mask)
        shape, forms = mask.type.sizes, {mask.type.sizes: mask.type.sizes}
    if shape not in forms:
        raise n.unsupported(
            f"a mask of the shape {list(shape)} is not supported for {batch} sequences of {queries} queries and {keys} "
            "keys"
        )
    nonzero = n.call("Not", n.call("Equal", mask, n.scalar(0, mask)))
    reshaped: Value = n.emit(Reshape(forms[shape]), nonzero)
    return reshaped


def _heads(n: ImportNode, x: Value, heads: int) -> Value:
    """``B S H*D`` as ``B H S D``."""
    need(n, x.type.rank == 3 and x.type.sizes[2] % heads == 0,
         f"{list(x.type.shape)} cannot be divided into {heads} heads")  # fmt: skip
    batch, length, size = x.type.sizes
    made: Value = n.emit(Transpose((0, 2, 1, 3)), n.emit(Reshape((batch, length, heads, size // heads)), x))
    return made


def _parts(n: ImportNode, packed: Value, count: int, heads: int) -> list[Value]:
    """The parts ``B H S D`` of ``B S H count D``."""
    batch, length, have, parts, size = packed.type.sizes
    need(n, (have, parts) == (heads, count),
         f"{list(packed.type.shape)} does not hold {count} parts of {heads} heads")  # fmt: skip
    each = (n.emit(Slice((3,), (i,), (i + 1,)), packed) for i in range(count))
    return [n.emit(Transpose((0, 2, 1, 3)), n.emit(Reshape((batch, length, heads, size)), x)) for x in each]


def _thirds(n: ImportNode, bias: Value | None, size: int) -> tuple[Value | None, ...]:
    """The biases of queries and keys, of this size, and of values, from one vector."""
    if bias is None:
        return None, None, None
    whole = bias.type.numel
    bounds = (0, size, 2 * size, whole)
    need(n, bias.type.rank == 1 and whole > 2 * size, f"its bias {list(bias.type.shape)} does not fit size {size}")
    return tuple(n.emit(Slice((0,), (a,), (b,)), bias) for a, b in pairwise(bounds))


def _after(n: ImportNode, past: Value | None, x: Value) -> Value:
    """``B H T D`` after what was there before, ``B H P D``."""
    if past is None:
        return x
    made: Value = n.emit(Concat(2), past, x)
    return made


@operator(
    "RotaryEmbedding", "input position_ids cos_cache sin_cache", "output",
    interleaved="int", is_packed_batching="int", num_heads="int", rotary_embedding_dim="int", scale="float",
)  # fmt: skip
def _import_rotary(n: ImportNode) -> Any:
    """Import the turning of pairs of elements of ``B S H*D`` or ``B H S D`` by angles of their positions.

    ``position_ids`` are ``B S``, or the first position alone. A pair is two neighbours where ``interleaved`` is set,
    else elements of the two halves.
    """
    refuse_attributes(n, is_packed_batching=0, scale=1.0)
    x, places, cosines, sines = (n.input(i) for i in range(4))
    dim, heads, flat = n.attr("rotary_embedding_dim", 0), n.attr("num_heads", 0), x.type.rank == 3
    half = cosines.type.sizes[-1]
    if flat:
        need(n, not dim or heads > 0, "attribute 'num_heads' is needed with rotary_embedding_dim")
        size = x.type.sizes[2] // heads if heads else dim or 2 * half
        need(
            n,
            0 < size <= x.type.sizes[2] and x.type.sizes[2] % size == 0,
            f"{list(x.type.shape)} has no heads of {size}",
        )
        x = _heads(n, x, x.type.sizes[2] // size)
    need(n, x.type.rank == 4 and (dim or x.type.sizes[3]) == 2 * half <= x.type.sizes[3],
         f"caches of {half} columns do not fit data {list(x.type.shape)}")  # fmt: skip
    batch, count, length, size = x.type.sizes
    if places.type.numel == 1 and (batch, length) != (1, 1):
        steps = n.constant(np.arange(length, dtype=np.int64), "steps")
        places = n.emit(Tile((batch, 1)), n.emit(Reshape((1, length)), n.emit(Add(), places, steps)))
    need(n, places.type.numel == batch * length,
         f"position_ids {list(places.type.shape)} do not fit data {list(x.type.shape)}")  # fmt: skip
    places = n.emit(Reshape((batch, length)), places)
    cos, sin = (n.emit(Reshape((batch, 1, length, half)), n.call("Gather", t, places)) for t in (cosines, sines))
    turned = n.emit(Slice((3,), (0,), (2 * half,)), x)
    if n.attr("interleaved", 0):
        pairs = n.emit(Reshape((batch, count, length, half, 2)), turned)
        left, right = (
            n.emit(Reshape((batch, count, length, half)), n.emit(Slice((4,), (i,), (i + 1,)), pairs)) for i in (0, 1)
        )
    else:
        left, right = (n.emit(Slice((3,), (i * half,), ((i + 1) * half,)), turned) for i in (0, 1))
    first = n.emit(Sub(), n.emit(Mul(), left, cos), n.emit(Mul(), right, sin))
    second = n.emit(Add(), n.emit(Mul(), left, sin), n.emit(Mul(), right, cos))
    if n.attr("interleaved", 0):
        both = [n.emit(Reshape((batch, count, length, half, 1)), v) for v in (first, second)]
        y = n.emit(Reshape((batch, count, length, 2 * half)), n.emit(Concat(4), *both))
    else:
        y = n.emit(Concat(3), first, second)
    if 2 * half < size:
        y = n.emit(Concat(3), y, n.emit(Slice((3,), (2 * half,), (size,)), x))
    return n.emit(Reshape((batch, length, count * size)), n.emit(Transpose((0, 2, 1, 3)), y)) if flat else y
