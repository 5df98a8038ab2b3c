"""Tensor types: dtype, logical shape, memory layout."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import ml_dtypes
import numpy as np

from .errors import GraphError, ShapeError
from .layout import Layout

Dim = int | str
"""A size in elements, or the name of a symbolic size."""

_NUMPY: dict[str, np.dtype] = {
    "f16": np.dtype(np.float16), "f32": np.dtype(np.float32), "f64": np.dtype(np.float64),
    "bf16": np.dtype(ml_dtypes.bfloat16),
    "i8": np.dtype(np.int8), "i16": np.dtype(np.int16), "i32": np.dtype(np.int32), "i64": np.dtype(np.int64),
    "u8": np.dtype(np.uint8), "u16": np.dtype(np.uint16), "u32": np.dtype(np.uint32), "u64": np.dtype(np.uint64),
    "bool": np.dtype(np.bool_),
}  # fmt: skip
SMALL_FLOATS = ("f8e4m3fn", "f8e4m3fnuz", "f8e5m2", "f8e5m2fnuz", "f8e8m0", "f4e2m1")
"""Floats that are stored, moved and converted, and not computed with; each takes a byte, the low bits of it."""
SMALL_INTEGERS = ("i2", "u2", "i4", "u4")
"""Likewise."""
SMALL = SMALL_FLOATS + SMALL_INTEGERS
COMPUTED = tuple(_NUMPY)
"""What can be computed with."""
_NUMPY |= {
    "f8e4m3fn": np.dtype(ml_dtypes.float8_e4m3fn), "f8e4m3fnuz": np.dtype(ml_dtypes.float8_e4m3fnuz),
    "f8e5m2": np.dtype(ml_dtypes.float8_e5m2), "f8e5m2fnuz": np.dtype(ml_dtypes.float8_e5m2fnuz),
    "f8e8m0": np.dtype(ml_dtypes.float8_e8m0fnu), "f4e2m1": np.dtype(ml_dtypes.float4_e2m1fn),
    "i2": np.dtype(ml_dtypes.int2), "u2": np.dtype(ml_dtypes.uint2),
    "i4": np.dtype(ml_dtypes.int4), "u4": np.dtype(ml_dtypes.uint4),
}  # fmt: skip
_SHORT = {dtype: short for short, dtype in _NUMPY.items()}
_TVM = {short: "uint8" if short in SMALL else str(dtype) for short, dtype in _NUMPY.items()}

DTYPES = tuple(_NUMPY)
FLOATS = ("f16", "bf16", "f32", "f64")
SIGNED = ("i8", "i16", "i32", "i64")
UNSIGNED = ("u8", "u16", "u32", "u64")
INTEGERS = SIGNED + UNSIGNED


def dtype_of(array_or_dtype: object) -> str:
    """The short name of a numpy dtype (or of an array's); raises ``ShapeError`` for one that convc lacks."""
    dtype = np.dtype(getattr(array_or_dtype, "dtype", array_or_dtype))  # type: ignore[call-overload]
    if dtype not in _SHORT:
        raise ShapeError(f"dtype {dtype} is not supported; supported: {', '.join(map(str, _SHORT))}")
    return _SHORT[dtype]


@dataclass(frozen=True)
class TensorType:
    """``f32[1,64,56,56]{NCHW16c}``: dtype, logical shape, and layout in memory (``None``: row-major)."""

    dtype: str
    shape: tuple[Dim, ...]
    layout: Layout | None = None

    def __post_init__(self) -> None:
        if self.dtype not in _NUMPY:
            raise GraphError(f"unknown dtype {self.dtype!r}; known: {', '.join(DTYPES)}")
        if any(isinstance(d, int) and d < 0 for d in self.shape):
            raise ShapeError(f"negative size in shape {list(self.shape)}")
        if self.layout is not None and self.layout.rank != len(self.shape):
            raise ShapeError(f"layout {self.layout} does not fit rank {len(self.shape)}")

    @property
    def rank(self) -> int:
        return len(self.shape)

    @property
    def is_static(self) -> bool:
        """Whether every size is known."""
        return all(isinstance(d, int) for d in self.shape)

    @property
    def sizes(self) -> tuple[int, ...]:
        """The shape, all of it known; raises ``ShapeError`` when a size is symbolic."""
        for d in self.shape:
            if not isinstance(d, int):
                raise ShapeError(
                    f"size {d!r} in shape {self} is symbolic here; fix it with shapes={{...}} (--shape on the command line)"
                )
        return self.shape  # type: ignore[return-value]

    @property
    def numel(self) -> int:
        """The number of elements, layout padding not counted."""
        return math.prod(self.sizes)

    @property
    def nbytes(self) -> int:
        """The number of bytes, layout padding not counted."""
        return self.numel * self.numpy_dtype.itemsize

    @property
    def numpy_dtype(self) -> np.dtype:
        return _NUMPY[self.dtype]

    @property
    def tvm_dtype(self) -> str:
        """The dtype's name in TVM (which is numpy's), where the bits of a small dtype are a byte."""
        return _TVM[self.dtype]

    @property
    def is_float(self) -> bool:
        return self.dtype in FLOATS

    @property
    def bounds(self) -> tuple[int, int]:
        """The least and the largest value of an integer dtype, as its name says."""
        bits = int(self.dtype[1:])
        return (0, (1 << bits) - 1) if self.dtype.startswith("u") else (-1 << (bits - 1), (1 << (bits - 1)) - 1)

    def check_computed(self) -> None:
        """Raises ``ShapeError`` for a small dtype, which cannot be computed with."""
        if self.dtype in SMALL:
            raise ShapeError(f"does not take {self.dtype}; convert it to a larger dtype first")

    @property
    def physical_shape(self) -> tuple[int, ...]:
        """The shape in memory, with the layout's blocks and padding."""
        return self.layout.physical_shape(self.sizes) if self.layout else self.sizes

    def with_shape(self, shape: Sequence[Dim]) -> TensorType:
        return replace(self, shape=tuple(shape))

    def with_dtype(self, dtype: str) -> TensorType:
        return replace(self, dtype=dtype)

    def with_layout(self, layout: Layout | None) -> TensorType:
        return replace(self, layout=layout)

    def __str__(self) -> str:
        dims = ",".join(str(d) for d in self.shape)
        return f"{self.dtype}[{dims}]" + (f"{{{self.layout}}}" if self.layout else "")


def type_of(array: np.ndarray) -> TensorType:
    """The type of a numpy array."""
    return TensorType(dtype_of(array), tuple(int(d) for d in array.shape))


def numpy_dtype(dtype: str) -> np.dtype:
    """The numpy dtype of a short name."""
    return _NUMPY[dtype]


def broadcast(*shapes: Sequence[Dim]) -> tuple[Dim, ...]:
    """The shape that numpy's multidirectional broadcasting gives (ONNX Broadcasting); raises ``ShapeError``."""
    rank = max((len(s) for s in shapes), default=0)
    out: list[Dim] = []
    for axis in range(-rank, 0):
        sizes = {s[axis] for s in shapes if len(s) >= -axis} - {1}
        if len(sizes) > 1:
            raise ShapeError(
                "shapes "
                + " and ".join(str(list(s)) for s in shapes)
                + f" do not broadcast: axis {axis} has sizes {sorted(map(str, sizes))}"
            )
        out.append(sizes.pop() if sizes else 1)
    return tuple(out)
