"""Import of discrete Fourier transforms (``_fft.py``), and of those of the windows of a signal."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..graph import Value
from ..limits import check_made
from ..onnx_io import ImportNode, imports
from ..types import TensorType
from ._axes import axis_of
from ._fft import LONGEST, basis, transform
from ._reducers import WIDER
from .binary import Mul
from .cast import Cast
from .conv import Conv
from .gather import Gather
from .reshape import Reshape
from .transpose import Transpose

LONGEST_WINDOW = 2048
"""The most points of a window that is transformed by a convolution, whose weight has 2 n**2 numbers."""


@imports("DFT")
def _import_dft(n: ImportNode) -> Any:
    """Import a transform of complex (last axis of size 2) or real (size 1) numbers along an axis; ONNX DFT-20.

    ``inverse`` divides by the length. ``onesided`` keeps the first n/2 + 1 results; together with ``inverse`` it makes
    real numbers from these. float16 and bfloat16 are transformed in float32.
    """
    x, sides = n.input(0), (bool(n.attr("inverse", 0)), bool(n.attr("onesided", 0)))
    given = n.ints(2, "axis") if n.opset >= 20 else (n.attr("axis", 1),)
    rank = x.type.rank
    axis = axis_of(given[0] if given else -2, rank)
    if axis == rank - 1 or x.type.sizes[-1] not in (1, 2):
        raise n.error("its last axis must hold one or two parts of a number, and is not transformed")
    size = x.type.sizes[axis]
    length = (n.ints(1, "dft_length") or (2 * (size - 1) if all(sides) else size,))[0]
    check_length(n, length)
    last = (*(a for a in range(rank - 1) if a != axis), axis, rank - 1)
    turned = n.emit(Transpose(last), x) if last != tuple(range(rank)) else x
    y = _transformed(n, turned, length, *sides)
    back = tuple(last.index(a) for a in range(rank))
    return n.emit(Transpose(back), y) if back != tuple(range(rank)) else y


@imports("STFT")
def _import_stft(n: ImportNode) -> Any:
    """Import the transforms of the windows of a signal ``B L``, ``B L 1`` or ``B L 2``, a result ``B windows bins 2``;
    ONNX STFT-17.

    They become a convolution whose weight is the window times the matrix of the transform. Long windows are taken out
    of the signal, and transformed one by one.
    """
    x, step, window, given = n.input(0), n.ints(1, "frame_step"), n.optional(2), n.ints(3, "frame_length")
    if x.type.rank == 2:  # a real signal, as PyTorch's exporter writes it
        x = n.emit(Reshape((*x.type.sizes, 1)), x)
    if x.type.rank != 3 or x.type.sizes[-1] not in (1, 2) or not step or step[0] < 1:
        raise n.error(
            f"takes a signal [batch, length] or [batch, length, 1 or 2] and a step of at least 1, not {x.type} and "
            f"{list(step or ())}"
        )
    batch, size, parts = x.type.sizes
    length = window.type.sizes[0] if window else given[0] if given else size
    if given and given[0] != length:
        raise n.unsupported(f"frame_length {given[0]} must be the size of the window, {length}")
    check_length(n, length)
    if length > size:
        raise n.error(f"its windows of {length} points do not fit in a signal of {size}")
    onesided = bool(n.attr("onesided", 1))
    if length > LONGEST_WINDOW:
        starts = np.arange(0, size - length + 1, step[0])
        check_made(TensorType("i64", (len(starts), length)), f"{n.describe()}: the positions of its windows")
        x = n.emit(Gather(1), x, n.constant(starts[:, None] + np.arange(length), "windows"))
        if window:
            x = n.emit(Mul(), x, n.emit(Reshape((length, 1)), window))
        return _transformed(n, x, length, False, onesided)
    matrix = basis(length, length, False, onesided)[:, :parts]
    bins = matrix.shape[2]
    weight = n.constant(matrix.reshape(length, parts, 2 * bins).T.astype(x.type.numpy_dtype), "basis")
    if window:
        weight = n.emit(Mul(), weight, window)
    y = n.emit(Conv(strides=(step[0],)), n.emit(Transpose((0, 2, 1)), x), weight)
    y = n.emit(Transpose((0, 2, 1)), y)
    return n.emit(Reshape((batch, y.type.sizes[1], bins, 2)), y)


@imports("MelWeightMatrix", folds=True)
def _import_mel_weight_matrix(n: ImportNode) -> Any:
    """Refuse a matrix that turns a spectrum into bands of equal width on the mel scale, where its inputs are data.

    Otherwise it is computed during import; ONNX MelWeightMatrix-17.
    """
    for i, what in enumerate(("num_mel_bins", "dft_length", "sample_rate", "lower_edge_hertz", "upper_edge_hertz")):
        n.const(i, what)
    raise n.error("its inputs do not fit each other, or its matrix is too large")


def _transformed(n: ImportNode, x: Value, length: int, inverse: bool, onesided: bool) -> Value:
    """The transform of ``[..., points, parts]``, computed in float32 at least."""
    wide = WIDER.get(x.type.dtype)
    y = transform(n, n.emit(Cast(wide), x) if wide else x, length, inverse, onesided)
    return n.emit(Cast(x.type.dtype), y) if wide else y


def check_length(n: ImportNode, length: int) -> None:
    """Raises an error unless the length of a transform is at least 1 and at most ``LONGEST``."""
    if length < 1:
        raise n.error(f"its length is {length}; it must be at least 1")
    if length > LONGEST:
        raise n.unsupported(f"a transform of {length} points is not supported; at most {LONGEST} are")
