"""ONNX Runtime's attention operators, compared with ONNX Runtime."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from support import compare
from support.malformed import raises
from support.models import one_node
from support.oracles import run_onnxruntime

import convc

rng = np.random.default_rng(0)
BATCH, LENGTH, HEADS, SIZE = 2, 5, 2, 4
WIDTH = HEADS * SIZE


def floats(*shape: int) -> np.ndarray:
    return rng.uniform(-1, 1, shape).astype(np.float32)


def check(op: str, *inputs: Any, outputs: int = 1, free: int | None = None, **attrs: Any) -> None:
    tolerance = attrs.pop("tolerance", None)
    made, feeds = one_node(op, inputs, free=free, outputs=outputs, opset=17, domain="com.microsoft", **attrs)
    compare.check(made, feeds, lambda m, f: run_onnxruntime(m, f, optimized=False), f"{op} {attrs}", tolerance)


MASKS = {
    "none": None,
    "lengths": np.array([3, 5], np.int32),
    "ends and beginnings": np.array([4, 5, 1, 0], np.int32),
    "keys": np.array([[1, 1, 0, 1, 0], [1, 1, 1, 1, 1]], np.int32),
    "queries and keys": rng.integers(0, 2, (BATCH, LENGTH, LENGTH)).astype(np.int32) | np.eye(LENGTH, dtype=np.int32),
}


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("causal", [0, 1])
def test_attention(mask: str, causal: int) -> None:
    x, w, b = floats(BATCH, LENGTH, 6), floats(6, 3 * WIDTH), floats(3 * WIDTH)
    check("Attention", x, w, b, MASKS[mask], free=1, num_heads=HEADS, unidirectional=causal)


def test_attention_with_its_other_inputs() -> None:
    x, w, b = floats(BATCH, LENGTH, 6), floats(6, 3 * WIDTH), floats(3 * WIDTH)
    past = floats(2, BATCH, HEADS, 3, SIZE)
    check("Attention", x, w, b, None, past, outputs=2, num_heads=HEADS, unidirectional=1)
    check("Attention", x, w, b, None, None, floats(BATCH, HEADS, LENGTH, LENGTH), num_heads=HEADS, scale=0.3)
    check("Attention", x, w, num_heads=HEADS)
    check("Attention", x, floats(6, 16 + 6), floats(22), num_heads=HEADS, qkv_hidden_sizes=[8, 8, 6])


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("causal", [0, 1])
def test_multi_head_attention(mask: str, causal: int) -> None:
    if mask == "ends and beginnings":
        pytest.skip("ONNX Runtime takes this mask in Attention only")
    q, k, v = (floats(BATCH, LENGTH, WIDTH) for _ in range(3))
    check("MultiHeadAttention", q, k, v, None, MASKS[mask], num_heads=HEADS, unidirectional=causal)


def test_multi_head_attention_of_other_sequences() -> None:
    q, k, v = floats(BATCH, LENGTH, WIDTH), floats(BATCH, 7, WIDTH), floats(BATCH, 7, 6)
    check("MultiHeadAttention", q, k, v, floats(2 * WIDTH + 6), num_heads=HEADS, scale=0.2)
    check("MultiHeadAttention", q, k, v, None, None, floats(1, HEADS, LENGTH, 7), num_heads=HEADS)
    past = floats(BATCH, HEADS, 3, SIZE), floats(BATCH, HEADS, 3, SIZE)
    same = floats(BATCH, LENGTH, WIDTH), floats(BATCH, LENGTH, WIDTH)
    check("MultiHeadAttention", q, *same, None, None, None, *past, outputs=3, num_heads=HEADS, unidirectional=1)
    ready = floats(BATCH, HEADS, 7, SIZE), floats(BATCH, HEADS, 7, SIZE)
    check("MultiHeadAttention", q, *ready, num_heads=HEADS)


@pytest.mark.parametrize("parts", [2, 3])
def test_packed_operands(parts: int) -> None:
    """ONNX Runtime takes packed operands on GPUs only."""
    apart = [floats(BATCH, LENGTH, HEADS, SIZE) for _ in range(3)]
    flat = [x.reshape(BATCH, LENGTH, WIDTH) for x in apart]
    given = [np.stack(apart, 3)] if parts == 3 else [flat[0], np.stack(apart[1:], 3)]
    made, feeds = one_node("MultiHeadAttention", given, domain="com.microsoft", num_heads=HEADS)
    want = run_onnxruntime(*one_node("MultiHeadAttention", flat, domain="com.microsoft", num_heads=HEADS))[0]
    np.testing.assert_allclose(convc.compile(made, threads=1)(*feeds.values()), want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("columns", [False, True])
def test_quantized_attention(columns: bool) -> None:
    x = rng.integers(0, 256, (BATCH, LENGTH, 6)).astype(np.uint8)
    w = rng.integers(-128, 128, (6, 3 * WIDTH)).astype(np.int8)
    scale = rng.uniform(0.001, 0.01, 3 * WIDTH).astype(np.float32) if columns else np.float32(0.01)
    zero = np.zeros(3 * WIDTH, np.int8) if columns else np.int8(3)
    rest = np.float32(0.02), scale, MASKS["keys"], np.uint8(120), zero
    check("QAttention", x, w, floats(3 * WIDTH), *rest, free=1, num_heads=HEADS)


@pytest.mark.parametrize("interleaved", [0, 1])
def test_rotary_embedding(interleaved: int) -> None:
    places = rng.integers(0, 9, (BATCH, LENGTH))
    caches = floats(9, SIZE // 2), floats(9, SIZE // 2)
    heads, flat = floats(BATCH, HEADS, LENGTH, SIZE), floats(BATCH, LENGTH, WIDTH)
    for x in (heads, flat):
        check("RotaryEmbedding", x, places, *caches, interleaved=interleaved)
        check("RotaryEmbedding", x, np.array([3]), *caches, interleaved=interleaved)
    part = floats(9, 1), floats(9, 1)
    check("RotaryEmbedding", flat, places, *part, interleaved=interleaved, num_heads=HEADS, rotary_embedding_dim=2)


def test_quantized_embeddings() -> None:
    ids, kinds = (rng.integers(0, most, (2, 5)).astype(np.int32) for most in (11, 2))
    tables = [rng.integers(0, 256, shape).astype(np.uint8) for shape in ((11, 8), (9, 8), (2, 8), (8,), (8,))]
    scales, zeros = [np.float32(0.01 * (i + 1)) for i in range(5)], [np.uint8(100 + i) for i in range(5)]
    mask = np.array([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]], np.int32)
    check("QEmbedLayerNormalization", ids, kinds, *tables, mask, *scales, *zeros, free=2, outputs=2)


def test_errors() -> None:
    q = floats(BATCH, LENGTH, WIDTH)
    for inputs, attrs, error, want in (
        ([q, q, q], {"num_heads": 3}, convc.ModelFileError, "[2, 5, 8] cannot be divided into 3 heads"),
        ([q, q, q], {}, convc.ModelFileError, "attribute 'num_heads' is missing"),
        ([q, q, q, None, floats(2, 5)], {"num_heads": 2}, convc.ModelFileError, "its mask is "),
        ([q], {"num_heads": 2}, convc.ModelFileError, "and a key, not a query [2, 5, 8] alone"),
        (
            [q, q, q, None, np.zeros((9, 9), np.int32)],
            {"num_heads": 2},
            convc.UnsupportedOpError,
            "a mask of the shape [9, 9]",
        ),
        (
            [q, q, q, *[None] * 5, np.array(3, np.int32)],
            {"num_heads": 2},
            convc.UnsupportedOpError,
            "MultiHeadAttention node 'n1': its input 8 ('past_sequence_length') is not supported",
        ),
    ):
        made, _ = one_node("MultiHeadAttention", inputs, domain="com.microsoft", **attrs)
        with raises(error, want):
            convc.load_onnx(made)
