"""Matrix products and gathers whose weights are packed in a few bits, with a scale for each block."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..limits import check_made
from ..onnx_io import ImportNode
from ..ops.binary import Add
from ..types import TensorType
from ._operator import need, operator, positive


@operator(
    "MatMulNBits", "A B scales zero_points? g_idx? bias?",
    K="int!", N="int!", accuracy_level="int", bits="int", block_size="int!", weight_prepacked="int",
)  # fmt: skip
def _import_mat_mul_n_bits(n: ImportNode) -> Any:
    """Import ``a @ w.T + bias`` with a weight ``N K`` of unsigned integers of a few bits, which is unpacked here.

    Each block of ``block_size`` elements along K has a scale and a zero point, by default half the range. ``g_idx``
    gives the block of each element. ``accuracy_level`` allows less precision, and is not used.
    """
    if n.attr("weight_prepacked", 0):
        raise n.unsupported("a weight in the order of a certain GPU (weight_prepacked) is not supported")
    columns, inner, block = (positive(n, name) for name in ("N", "K", "block_size"))
    bits = n.attr("bits", 4)
    need(n, 1 <= bits <= 8, f"attribute 'bits' is {bits}; it must be from 1 to 8")
    blocks = -(-inner // block)
    check_made(TensorType("f32", (columns, blocks * block)), f"{n.describe()}: its weight")
    packed, scales, zeros, places = (
        n.const(i, what) for i, what in ((1, "weight"), (2, "scales"), (3, "zero points"), (4, "g_idx"))
    )
    assert packed is not None
    assert scales is not None
    stored = columns * blocks * (-(-block * bits // 8))
    need(n, packed.dtype == np.uint8 and packed.size == stored,
         f"its weight holds {packed.size} {packed.dtype}, not {stored} bytes for N={columns}, K={inner}")  # fmt: skip
    need(n, scales.size == columns * blocks,
         f"it has {scales.size} scales, not {columns * blocks}, one for each block of a row")  # fmt: skip
    whole = _unpacked(packed.reshape(columns * blocks, -1), bits, block).reshape(columns, blocks * block)[:, :inner]
    block_of = np.arange(inner) // block if places is None else places.reshape(-1)[:inner].astype(np.int64)
    need(n, len(block_of) == inner and block_of.min() >= 0 and block_of.max() < blocks,
         f"its g_idx does not name one of {blocks} blocks for each of {inner} elements")  # fmt: skip
    zero = _zeros(n, zeros, columns, blocks, bits)[:, block_of]
    weight = (whole.astype(np.float32) - zero) * scales.astype(np.float32).reshape(columns, blocks)[:, block_of]
    a = n.input(0)
    y = n.call("MatMul", a, n.constant(np.ascontiguousarray(weight.T).astype(a.type.numpy_dtype), "weight"))
    bias = n.optional(5)
    return y if bias is None else n.emit(Add(), y, bias)


def _zeros(n: ImportNode, zeros: np.ndarray | None, columns: int, blocks: int, bits: int) -> np.ndarray:
    """The zero points ``N blocks``, which are numbers like the scales, or packed by rows."""
    if zeros is None:
        return np.full((columns, blocks), 1 << (bits - 1), np.float32)
    if zeros.dtype != np.uint8:
        need(n, zeros.size == columns * blocks, f"it has {zeros.size} zero points, not {columns * blocks}")
        return zeros.astype(np.float32).reshape(columns, blocks)
    row = -(-blocks * bits // 8)
    need(n, zeros.size == columns * row, f"its zero points take {zeros.size} bytes, not {columns * row}")
    return _unpacked(zeros.reshape(columns, row), bits, blocks).astype(np.float32)


def _unpacked(packed: np.ndarray, bits: int, count: int) -> np.ndarray:
    """The first ``count`` numbers of each row of bytes, which hold numbers of some bits, the lowest bits first."""
    if bits == 8:
        return packed[:, :count]
    ones = np.unpackbits(packed, axis=1, bitorder="little")[:, : count * bits].reshape(len(packed), count, bits)
    weights = (1 << np.arange(bits)).astype(np.uint8)
    numbers: np.ndarray = (ones * weights).sum(-1, dtype=np.uint8)
    return numbers


_FP4 = np.array([0, 0.0625 / 12, 8 / 12, 1, 4 / 12, 6 / 12, 2 / 12, 3 / 12], np.float32)
_LEVELS = (
    np.concatenate([_FP4, -_FP4]),
    np.array([
        -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635,
        -0.18477343022823334, -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725,
        0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
    ], np.float32),
)  # fmt: skip
"""The numbers that 4 bits stand for, by ``quant_type``: FP4, and NF4 (Dettmers et al. 2023, QLoRA, appendix E)."""


@operator(
    "MatMulBnb4", "A B absmax",
    K="int!", N="int!", block_size="int!", quant_type="int!", training_mode="int", transB="int",
)  # fmt: skip
def _import_mat_mul_bnb4(n: ImportNode) -> Any:
    """Import ``a @ w.T``, or without ``transB`` ``a @ w``, with a weight ``N K`` of 4-bit floats, unpacked here.

    The weight is flat, two numbers in a byte, the first in the high bits. Each block of ``block_size`` numbers has a
    factor.
    """
    rows, columns, block = (positive(n, name) for name in ("N", "K", "block_size"))
    kind, count = n.attr("quant_type"), rows * columns
    need(n, kind in (0, 1), f"attribute 'quant_type' is {kind}; it must be 0 (FP4) or 1 (NF4)")
    check_made(TensorType("f32", (rows, columns)), f"{n.describe()}: its weight")
    packed, factors = n.const(1, "weight"), n.const(2, "factors")
    assert packed is not None
    assert factors is not None
    stored = -(-count // 2)
    need(n, packed.dtype == np.uint8 and packed.size == stored,
         f"its weight holds {packed.size} {packed.dtype}, not {stored} bytes for N={rows}, K={columns}")  # fmt: skip
    need(n, factors.size == -(-count // block),
         f"it has {factors.size} factors, not {-(-count // block)}, one for each block of {block}")  # fmt: skip
    codes = np.stack([packed.reshape(-1) >> 4, packed.reshape(-1) & 15], -1).reshape(-1)[:count]
    scale = factors.astype(np.float32).reshape(-1)[np.arange(count) // block]
    weight = (_LEVELS[kind][codes] * scale).reshape(rows, columns)
    a = n.input(0)
    turned = weight.T if n.attr("transB", 1) else weight
    return n.call("MatMul", a, n.constant(np.ascontiguousarray(turned).astype(a.type.numpy_dtype), "weight"))
