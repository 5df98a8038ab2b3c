"""Discrete Fourier transforms, as products with matrices of sines and cosines."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..graph import Value
from ..onnx_io import ImportNode, imports
from ._axes import axis_of
from .binary import Mul
from .conv import Conv
from .matmul import MatMul
from .reshape import Reshape
from .slice import Slice
from .transpose import Transpose

LONGEST = 2048
"""A transform of n points is a matrix of 4 n**2 numbers: longer ones would want a fast transform."""


@imports("DFT")
def _import_dft(n: ImportNode) -> Any:
    """The transform of complex (last axis of size 2) or real (size 1) numbers along an axis; ONNX DFT-20.

    ``inverse`` divides by the length; ``onesided`` keeps the first half and one, and ``inverse`` with it makes real
    numbers from these. Imported as a matrix product.
    """
    x, sides = n.input(0), (bool(n.attr("inverse", 0)), bool(n.attr("onesided", 0)))
    given = n.ints(2, "axis") if n.opset >= 20 else (n.attr("axis", 1),)
    rank = x.type.rank
    axis = axis_of(given[0] if given else -2, rank)
    if axis == rank - 1 or x.type.sizes[-1] not in (1, 2):
        raise n.error("its last axis must hold one or two parts of a number, and is not transformed")
    size, parts = x.type.sizes[axis], x.type.sizes[-1]
    length = (n.ints(1, "dft_length") or (2 * (size - 1) if all(sides) else size,))[0]
    check_length(n, length)
    matrix = basis(length, size, *sides)[:, :parts]
    rows, _, bins, made = matrix.shape
    if rows < size:
        x = n.emit(Slice((axis,), (0,), (rows,)), x)
    last = (*(a for a in range(rank - 1) if a != axis), axis, rank - 1)
    turned = n.emit(Transpose(last), x) if last != tuple(range(rank)) else x
    kept = turned.type.sizes[:-2]
    weight = n.constant(matrix.reshape(rows * parts, bins * made).astype(x.type.numpy_dtype), "basis")
    y = n.emit(MatMul(), n.emit(Reshape((*kept, rows * parts)), turned), weight)
    y = n.emit(Reshape((*kept, bins, made)), y)
    back = tuple(last.index(a) for a in range(rank))
    return n.emit(Transpose(back), y) if back != tuple(range(rank)) else y


@imports("STFT")
def _import_stft(n: ImportNode) -> Any:
    """The transform of each window of a signal ``B L 1`` or ``B L 2``, to ``B windows bins 2``; ONNX STFT-17.

    Imported as a convolution whose weight is the window times the matrix of the transform.
    """
    x, step, window, given = n.input(0), n.ints(1, "frame_step"), n.optional(2), n.ints(3, "frame_length")
    if x.type.rank != 3 or x.type.sizes[-1] not in (1, 2) or not step or step[0] < 1:
        raise n.error(f"takes a signal [batch, length, 1 or 2] and a step of at least 1, not {x.type} and {step}")
    length = window.type.sizes[0] if window else given[0] if given else x.type.sizes[1]
    if given and given[0] != length:
        raise n.unsupported(f"frame_length {given[0]} must be the size of the window, {length}")
    check_length(n, length)
    batch, _, parts = x.type.sizes
    matrix = basis(length, length, False, bool(n.attr("onesided", 1)))[:, :parts]
    bins = matrix.shape[2]
    weight = n.constant(matrix.reshape(length, parts, 2 * bins).T.astype(x.type.numpy_dtype), "basis")
    if window:
        weight = n.emit(Mul(), weight, window)
    y = n.emit(Conv(strides=(step[0],)), _channels_first(n, x), weight)
    y = n.emit(Transpose((0, 2, 1)), y)
    return n.emit(Reshape((batch, y.type.sizes[1], bins, 2)), y)


def _channels_first(n: ImportNode, x: Value) -> Value:
    turned: Value = n.emit(Transpose((0, 2, 1)), x)
    return turned


def check_length(n: ImportNode, length: int) -> None:
    """Raises unless a transform has a length that is possible, and not too long to be a matrix."""
    if length < 1:
        raise n.error(f"its length is {length}; it must be at least 1")
    if length > LONGEST:
        raise n.unsupported(f"a transform of {length} points is not supported; at most {LONGEST} are")


def basis(length: int, given: int, inverse: bool, onesided: bool) -> np.ndarray:
    """The transform as a tensor ``[point, part, bin, part]`` in float64, for the first of ``given`` points that it
    reads.
    """
    points, bins = min(given, length), length
    if onesided and inverse:
        points = min(given, length // 2 + 1)
    elif onesided:
        bins = length // 2 + 1
    turn = 2 * np.pi / length * (np.outer(np.arange(points), np.arange(bins)) % length)
    c, s = np.cos(turn), np.sin(turn) * (1 if inverse else -1)
    whole = np.stack([np.stack([c, s], -1), np.stack([-s, c], -1)], 1)
    if not inverse:
        return whole
    whole /= length
    if not onesided:
        return whole
    twice = np.full(points, 2.0)  # each stands for its mirror image too, except the first and the middle one
    twice[0] = 1
    if length % 2 == 0 and points == length // 2 + 1:
        twice[-1] = 1
    real: np.ndarray = whole[..., :1] * twice[:, None, None, None]
    return real
