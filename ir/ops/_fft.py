"""Discrete Fourier transforms along the last axis but one, as graphs of matrix products.

A transform of up to ``DIRECT`` points is a product with a matrix of sines and cosines. A longer one is split into
factors (Cooley and Tukey 1965, "An algorithm for the machine calculation of complex Fourier series"). One whose length
has a prime factor above ``LARGEST_PRIME`` becomes a convolution of a length that splits well (Bluestein 1970, "A linear
filtering approach to the computation of discrete Fourier transform").
"""

from __future__ import annotations

import math

import numpy as np

from ..graph import Value
from ..onnx_io import ImportNode
from .binary import Add, Mul
from .gather import Gather
from .matmul import MatMul
from .pad import Pad
from .reshape import Reshape
from .slice import Slice
from .transpose import Transpose

LONGEST = 1 << 22
"""The most points of a transform."""
DIRECT = 256
"""The most points of a transform that is one matrix product, unless a prime factor is larger."""
LARGEST_PRIME = 2048
"""The largest prime number of points of a transform that is one matrix product: the matrix has 4 n**2 numbers."""


def transform(n: ImportNode, x: Value, length: int, inverse: bool, onesided: bool) -> Value:
    """The transform of ``x``, ``[..., points, parts]``, to ``[..., bins, parts]``.

    A number has two parts, or one when it is real. The first ``length`` points are used, and zeros beyond them.
    ``inverse`` divides by the length. ``onesided`` keeps the first n/2 + 1 bins; together with ``inverse`` it makes
    real numbers from these.
    """
    kept = min(x.type.sizes[-2], length // 2 + 1 if onesided and inverse else length)
    x = _first(n, x, kept)
    if length <= DIRECT or (length <= LARGEST_PRIME and len(factors(length)) == 1):
        matrix = basis(length, kept, inverse, onesided)[:, : x.type.sizes[-1]]
        return _product(n, x, matrix)
    if onesided and inverse:
        x = _mirrored(n, _padded(n, x, length // 2 + 1), length)
    y = _long(n, _padded(n, x, length), inverse)
    if not onesided:
        return y
    return n.emit(Slice((y.type.rank - 1,), (0,), (1,)), y) if inverse else _first(n, y, length // 2 + 1)


def factors(length: int) -> list[int]:
    """The prime factors of a length, in ascending order; 1 has itself."""
    found, p = [], 2
    while p * p <= length:
        while length % p == 0:
            found.append(p)
            length //= p
        p += 1
    return [*found, length] if length > 1 or not found else found


def basis(length: int, given: int, inverse: bool, onesided: bool) -> np.ndarray:
    """The transform as a tensor ``[point, part, bin, part]`` in float64.

    Of ``given`` points it has those that it reads, the first.
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
    twice = np.full(points, 2.0)  # each bin stands for its mirror image too, except the first and the middle one
    twice[0] = 1
    if length % 2 == 0 and points == length // 2 + 1:
        twice[-1] = 1
    real: np.ndarray = whole[..., :1] * twice[:, None, None, None]
    return real


def _long(n: ImportNode, x: Value, inverse: bool) -> Value:
    """The transform of all points of x to as many complex bins."""
    length = x.type.sizes[-2]
    primes = factors(length)
    if length <= DIRECT or (len(primes) == 1 and length <= LARGEST_PRIME):
        return _product(n, x, basis(length, length, inverse, False)[:, : x.type.sizes[-1]])
    if primes[-1] > LARGEST_PRIME:
        return _chirped(n, x, inverse)
    return _split(n, x, _divisor(primes), inverse)


def _divisor(primes: list[int]) -> int:
    """The divisor by which a length is split: about its root, or at most ``DIRECT`` where there is one."""
    length = math.prod(primes)
    most = max(min(DIRECT, math.isqrt(length)), primes[-1])
    divisors = {1}
    for p in primes:
        divisors |= {d * p for d in divisors}
    return max(d for d in divisors if d <= most and d < length)


def _split(n: ImportNode, x: Value, rows: int, inverse: bool) -> Value:
    """One step of Cooley and Tukey's algorithm.

    Point ``columns * r + c`` is element (r, c) of a matrix. Its columns are transformed, the results are turned, and
    then the rows are transformed.
    """
    *batch, length, parts = x.type.sizes
    columns, rank = length // rows, len(batch)
    across = (*range(rank), rank + 1, rank, rank + 2)
    x = n.emit(Transpose(across), n.emit(Reshape((*batch, rows, columns, parts)), x))
    x = _product(n, x, basis(rows, rows, inverse, False)[:, :parts])  # column, bin
    angle = 2 * np.pi / length * np.outer(np.arange(columns), np.arange(rows))
    x = _turned(n, x, angle if inverse else -angle)
    x = _long(n, n.emit(Transpose(across), x), inverse)  # bin, bin
    made: Value = n.emit(Reshape((*batch, length, 2)), n.emit(Transpose(across), x))
    return made


def _chirped(n: ImportNode, x: Value, inverse: bool) -> Value:
    """Bluestein's algorithm: with ``2 j k = j**2 + k**2 - (k - j)**2``, a transform is a convolution with a chirp."""
    length = x.type.sizes[-2]
    padded = _smooth(2 * length - 1)
    k = np.arange(length)
    angle = np.pi / length * (k * k % (2 * length)) * (1 if inverse else -1)
    chirp = np.zeros(padded, np.complex128)
    chirp[:length] = np.exp(-1j * angle)
    chirp[padded - length + 1 :] = chirp[length - 1 : 0 : -1]
    spectrum = np.fft.fft(chirp)
    x = _long(n, _padded(n, _turned(n, x, angle), padded), False)
    x = _first(n, _long(n, _times(n, x, spectrum), True), length)
    return _times(n, x, np.exp(1j * angle) / (length if inverse else 1))


def _smooth(least: int) -> int:
    """The least product of powers of 2, 3 and 5 that is not below a number."""
    best = 1 << (least - 1).bit_length()
    fives = 1
    while fives < best:
        threes = fives
        while threes < best:
            best = min(best, threes << max(-(-least // threes) - 1, 0).bit_length())
            threes *= 3
        fives *= 5
    return best


def _product(n: ImportNode, x: Value, matrix: np.ndarray) -> Value:
    """``x``, ``[..., points, parts]``, times a matrix as ``basis`` makes it."""
    points, parts, bins, made = matrix.shape
    weight = n.constant(matrix.reshape(points * parts, bins * made).astype(x.type.numpy_dtype), "basis")
    batch = x.type.sizes[:-2]
    y = n.emit(MatMul(), n.emit(Reshape((*batch, points * parts)), x), weight)
    result: Value = n.emit(Reshape((*batch, bins, made)), y)
    return result


def _turned(n: ImportNode, x: Value, angle: np.ndarray) -> Value:
    """``x`` times ``exp(i angle)``, element by element along the axes before the last."""
    return _times(n, x, np.exp(1j * angle))


def _times(n: ImportNode, x: Value, by: np.ndarray) -> Value:
    """``x`` times complex numbers, element by element along the axes before the last."""
    dtype = x.type.numpy_dtype
    y: Value
    if x.type.sizes[-1] == 1:
        y = n.emit(Mul(), x, n.constant(np.stack([by.real, by.imag], -1).astype(dtype), "turn"))
    else:
        swapped = n.emit(Gather(x.type.rank - 1), x, n.constant(np.array([1, 0]), "parts"))
        same = n.emit(Mul(), x, n.constant(by.real[..., None].astype(dtype), "turn"))
        other = n.emit(Mul(), swapped, n.constant(np.stack([-by.imag, by.imag], -1).astype(dtype), "turn"))
        y = n.emit(Add(), same, other)
    return y


def _mirrored(n: ImportNode, x: Value, length: int) -> Value:
    """All bins of the transform of real numbers from the first n/2 + 1: bin n - k is the conjugate of bin k."""
    k = np.arange(length)
    which = np.minimum(k, length - k)
    sign = np.where(k <= length // 2, 1, -1)[:, None] * [0, 1] + [1, 0]
    x = n.emit(Gather(x.type.rank - 2), x, n.constant(which, "mirror"))
    y: Value = n.emit(Mul(), x, n.constant(sign[:, : x.type.sizes[-1]].astype(x.type.numpy_dtype), "sign"))
    return y


def _first(n: ImportNode, x: Value, count: int) -> Value:
    """The first points, or bins."""
    axis = x.type.rank - 2
    return x if x.type.sizes[axis] == count else n.emit(Slice((axis,), (0,), (count,)), x)


def _padded(n: ImportNode, x: Value, count: int) -> Value:
    """``x`` with zeros after its points, up to a count."""
    pads = [(0, 0)] * x.type.rank
    pads[-2] = (0, count - x.type.sizes[-2])
    return n.emit(Pad(tuple(pads)), x) if pads[-2][1] else x
