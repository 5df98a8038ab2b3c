"""The dtypes of tensors: short names such as ``f32``, and what each is in numpy and in generated code."""

from __future__ import annotations

from collections.abc import Sequence

import ml_dtypes
import numpy as np

from .errors import ShapeError

_COMPUTED: dict[str, np.dtype] = {
    "f16": np.dtype(np.float16), "f32": np.dtype(np.float32), "f64": np.dtype(np.float64),
    "bf16": np.dtype(ml_dtypes.bfloat16),
    "i8": np.dtype(np.int8), "i16": np.dtype(np.int16), "i32": np.dtype(np.int32), "i64": np.dtype(np.int64),
    "u8": np.dtype(np.uint8), "u16": np.dtype(np.uint16), "u32": np.dtype(np.uint32), "u64": np.dtype(np.uint64),
    "bool": np.dtype(np.bool_),
}  # fmt: skip
_SMALL: dict[str, np.dtype] = {
    "f8e4m3fn": np.dtype(ml_dtypes.float8_e4m3fn), "f8e4m3fnuz": np.dtype(ml_dtypes.float8_e4m3fnuz),
    "f8e5m2": np.dtype(ml_dtypes.float8_e5m2), "f8e5m2fnuz": np.dtype(ml_dtypes.float8_e5m2fnuz),
    "f8e8m0": np.dtype(ml_dtypes.float8_e8m0fnu), "f4e2m1": np.dtype(ml_dtypes.float4_e2m1fn),
    "i2": np.dtype(ml_dtypes.int2), "u2": np.dtype(ml_dtypes.uint2),
    "i4": np.dtype(ml_dtypes.int4), "u4": np.dtype(ml_dtypes.uint4),
}  # fmt: skip
_NUMPY = _COMPUTED | _SMALL
_SHORT = {dtype: short for short, dtype in _NUMPY.items()}

DTYPES = tuple(_NUMPY)
"""Every dtype."""
COMPUTED = tuple(_COMPUTED)
"""The dtypes that ops compute with."""
SMALL = tuple(_SMALL)
"""The dtypes of 8 bits or fewer that ops do not compute with.

They are stored, moved and converted. Each element takes a byte, and lies in its low bits.
"""
SMALL_FLOATS = tuple(d for d in SMALL if d.startswith("f"))
"""The floats among the small dtypes."""
SMALL_INTEGERS = tuple(d for d in SMALL if not d.startswith("f"))
"""The integers among the small dtypes."""
FLOATS = ("f16", "bf16", "f32", "f64")
"""The floats that ops compute with."""
SIGNED = ("i8", "i16", "i32", "i64")
"""The signed integers that ops compute with."""
UNSIGNED = ("u8", "u16", "u32", "u64")
"""The unsigned integers that ops compute with."""
INTEGERS = SIGNED + UNSIGNED
"""The integers that ops compute with."""


def numpy_dtype(dtype: str) -> np.dtype:
    """The numpy dtype of a short name."""
    return _NUMPY[dtype]


def tvm_dtype(dtype: str) -> str:
    """The name of a dtype in generated code: numpy's name, or ``uint8`` for a small dtype."""
    return "uint8" if dtype in _SMALL else str(_NUMPY[dtype])


def dtype_names(*dtypes: str) -> str:
    """Dtypes as people read them: numpy's names, with commas between them."""
    return ", ".join(str(_NUMPY.get(d, d)) for d in dtypes)


def dtype_of(array_or_dtype: object) -> str:
    """The short name of a numpy dtype (or of an array's); raises ``ShapeError`` for one that convc lacks."""
    dtype = np.dtype(getattr(array_or_dtype, "dtype", array_or_dtype))  # type: ignore[call-overload]
    if dtype not in _SHORT:
        raise ShapeError(f"dtype {dtype} is not supported; supported: {', '.join(map(str, _SHORT))}")
    return _SHORT[dtype]


def described(dtype: str, shape: Sequence[object], layout: object = None) -> str:
    """A tensor's type as people read it: ``float32[1, 64, 56, 56]``, with a memory layout
    ``float32[1, 64, 56, 56]{NCHW16c}``.
    """
    sizes = ", ".join(map(str, shape))
    return f"{_NUMPY.get(dtype, dtype)}[{sizes}]" + (f"{{{layout}}}" if layout else "")
