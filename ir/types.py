"""Tensor types: dtype, logical shape, memory layout."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from .dtypes import DTYPES, FLOATS, SMALL, described, dtype_names, dtype_of, numpy_dtype, tvm_dtype
from .errors import GraphError, ShapeError
from .layout import Layout
from .sizes import Dim, Size, bounds, on_axis, same, typical


@dataclass(frozen=True)
class TensorType:
    """A tensor's dtype, logical shape, and layout in memory (``None``: row-major), as
    ``float32[1, 64, 56, 56]{NCHW16c}``.

    A size may be open: an expression over named sizes, as in ``float32[n, 64, (h + 1)//2, w]`` (``sizes.py``). A string
    in the shape becomes the size of that name, with a typical value for its axis (``on_axis``).
    """

    dtype: str
    shape: tuple[Dim, ...]
    layout: Layout | None = None

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise GraphError(f"unknown dtype {self.dtype!r}; known: {', '.join(DTYPES)}")
        shape: tuple[Dim | str, ...] = self.shape
        for d in shape:
            if type(d) is not int or d < 0:
                self._complete(shape)
                break
        if self.layout is not None and self.layout.rank != len(self.shape):
            raise ShapeError(f"layout {self.layout} does not fit rank {len(self.shape)}")

    def _complete(self, shape: tuple[Dim | str, ...]) -> None:
        """Make sizes of strings in the shape. Raises ``ShapeError`` for a size that is negative."""
        if any(isinstance(d, str) for d in shape):
            object.__setattr__(self, "shape", tuple(_sized(shape)))
        if any(bounds(d)[1] < 0 for d in self.shape):
            raise ShapeError(f"negative size in shape {list(self.shape)}")

    @property
    def rank(self) -> int:
        return len(self.shape)

    @property
    def is_static(self) -> bool:
        """Whether every size is known."""
        return all(isinstance(d, int) for d in self.shape)

    @property
    def stated(self) -> tuple[int | str, ...]:
        """The shape as files and ports state it, with open sizes as text."""
        return tuple(d if isinstance(d, int) else str(d) for d in self.shape)

    @property
    def sizes(self) -> tuple[int, ...]:
        """The shape as integers. Raises ``ShapeError`` when a size is open."""
        for d in self.shape:
            if not isinstance(d, int):
                raise ShapeError(
                    f"size {d} in shape {self} is open here; fix it with shapes={{...}} (--shape on the command line)"
                )
        return self.shape  # type: ignore[return-value]

    @property
    def is_empty(self) -> bool:
        """Whether it is known to have no elements. With open sizes it may turn out to have none."""
        return 0 in self.shape

    @property
    def is_single(self) -> bool:
        """Whether it is known to have one element."""
        return all(d == 1 for d in self.shape)

    @property
    def numel(self) -> int:
        """The number of elements, without the padding of the layout."""
        return math.prod(self.sizes)

    @property
    def nbytes(self) -> int:
        """The number of bytes, without the padding of the layout."""
        return self.numel * self.numpy_dtype.itemsize

    @property
    def numpy_dtype(self) -> np.dtype:
        return numpy_dtype(self.dtype)

    @property
    def tvm_dtype(self) -> str:
        """The dtype's name in TVM, which is numpy's; elements of a small dtype are bytes."""
        return tvm_dtype(self.dtype)

    @property
    def is_float(self) -> bool:
        return self.dtype in FLOATS

    @property
    def bounds(self) -> tuple[int, int]:
        """The least and the largest value of an integer dtype or bool."""
        if self.dtype == "bool":
            return 0, 1
        bits = int(self.dtype[1:])
        return (0, (1 << bits) - 1) if self.dtype.startswith("u") else (-1 << (bits - 1), (1 << (bits - 1)) - 1)

    def holds(self, number: float) -> bool:
        """Whether an element of this integer dtype, or bool, can be this number."""
        return math.isfinite(number) and number == int(number) and self.bounds[0] <= number <= self.bounds[1]

    def check_computed(self) -> None:
        """Raises ``ShapeError`` for a small dtype, which ops do not compute with."""
        if self.dtype in SMALL:
            raise ShapeError(f"does not take {dtype_names(self.dtype)}; convert it to a larger dtype first")

    @property
    def physical_shape(self) -> tuple[int, ...]:
        """The shape in memory, with the layout's blocks and padding."""
        return self.layout.physical_shape(self.sizes) if self.layout else self.sizes

    def at_typical(self) -> TensorType:
        """The type at typical values of its open sizes, for cost models."""
        if self.is_static:
            return self
        return self.with_shape([d if isinstance(d, int) else max(typical(d), 1) for d in self.shape])

    @property
    def extents(self) -> tuple[Dim, ...]:
        """The shape in memory, as ``physical_shape``, in which sizes may be open."""
        return self.layout.physical_shape(self.shape) if self.layout else self.shape

    def with_shape(self, shape: Sequence[Dim | str]) -> TensorType:
        return replace(self, shape=tuple(shape))  # type: ignore[arg-type]

    def with_dtype(self, dtype: str) -> TensorType:
        return replace(self, dtype=dtype)

    def with_layout(self, layout: Layout | None) -> TensorType:
        return replace(self, layout=layout)

    def __str__(self) -> str:
        return described(self.dtype, self.shape, self.layout)


def _sized(shape: Sequence[Dim | str]) -> Iterator[Dim]:
    for axis, d in enumerate(shape):
        yield on_axis(d, axis, len(shape)) if isinstance(d, str) else d


def type_of(array: np.ndarray) -> TensorType:
    """The type of a numpy array."""
    return TensorType(dtype_of(array), tuple(int(d) for d in array.shape))


def broadcast(*shapes: Sequence[Dim]) -> tuple[Dim, ...]:
    """The shape that numpy's multidirectional broadcasting gives (ONNX Broadcasting); raises ``ShapeError``.

    Open sizes are assumed to be equal where they meet, and not to be 1.
    """
    if shapes and all(s == shapes[0] for s in shapes):
        return tuple(shapes[0])
    rank = max((len(s) for s in shapes), default=0)
    out: list[Dim] = []
    for axis in range(-rank, 0):
        sizes = [d for d in dict.fromkeys(s[axis] for s in shapes if len(s) >= -axis) if d != 1]
        first = simplest(sizes) if sizes else 1
        if not all(same(first, d) for d in sizes):
            raise ShapeError(
                "shapes "
                + " and ".join(str(list(s)) for s in shapes)
                + f" do not broadcast: axis {axis} has sizes {sorted(map(str, sizes))}"
            )
        out.append(first)
    return tuple(out)


def broadcasts_to(shape: Sequence[Dim], target: Sequence[Dim]) -> bool:
    """Whether a shape broadcasts to another, which stays as it is, by numpy's rule.

    Open sizes are assumed to be equal where they meet, and not to be 1.
    """
    behind = zip(reversed(shape), reversed(target), strict=False)
    return len(shape) <= len(target) and all(d == 1 or same(d, t) for d, t in behind)


def simplest(sizes: Sequence[Dim]) -> Dim:
    """The one of several equal sizes that says most: an integer before a name, and a name before an expression."""
    return min(sizes, key=lambda d: len(str(d)) if isinstance(d, Size) else 0)
