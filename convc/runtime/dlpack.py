"""The DLPack protocol by ctypes: reading the memory of other libraries, and exporting the memory of convc's arrays.

The structures are those of ``dlpack.h`` before its version 1, which every library still accepts.
"""

from __future__ import annotations

import ctypes
import itertools
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np

from convc.ir.errors import InputError

LEGACY_STREAM = 1
"""DLPack's number for CUDA's default stream, whose handle is 0."""
_KINDS = {"i": 0, "u": 1, "f": 2, "b": 6}
_BFLOAT16 = 4
_bfloat16 = np.dtype(ml_dtypes.bfloat16)


class _Device(ctypes.Structure):
    _fields_ = [("type", ctypes.c_int32), ("id", ctypes.c_int32)]


class _DataType(ctypes.Structure):
    _fields_ = [("code", ctypes.c_uint8), ("bits", ctypes.c_uint8), ("lanes", ctypes.c_uint16)]


class _Tensor(ctypes.Structure):
    _fields_ = [
        ("data", ctypes.c_void_p),
        ("device", _Device),
        ("ndim", ctypes.c_int32),
        ("dtype", _DataType),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    ]


class _Managed(ctypes.Structure):
    _fields_ = [("tensor", _Tensor), ("context", ctypes.c_void_p), ("deleter", ctypes.c_void_p)]


_pointer = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(
    ("PyCapsule_GetPointer", ctypes.pythonapi)
)
_NAME = b"dltensor"


# -- reading --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class View:
    """An array in the memory of another library: its address, shape, strides in elements, and the name of its dtype.

    The memory may be used as long as ``owner`` lives.
    """

    address: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: str
    owner: Any

    @property
    def contiguous(self) -> bool:
        """Whether the elements lie one after another in row-major order."""
        plain = zip(self.shape, self.strides, _strides(self.shape), strict=True)
        return 0 in self.shape or all(n == 1 or a == b for n, a, b in plain)


def view(array: Any, stream: int | None = None) -> View:
    """A view of an array that supports DLPack.

    On a GPU, the data is ready for work that is given to ``stream`` from now on. Raises ``InputError`` when numpy has
    no such dtype.
    """
    capsule = array.__dlpack__() if stream is None else array.__dlpack__(stream=stream or LEGACY_STREAM)
    t = ctypes.cast(_pointer(capsule, _NAME), ctypes.POINTER(_Managed)).contents.tensor
    shape = tuple(t.shape[i] for i in range(t.ndim))
    strides = tuple(t.strides[i] for i in range(t.ndim)) if t.strides else _strides(shape)
    return View((t.data or 0) + t.byte_offset, shape, strides, _dtype(t.dtype), capsule)


def as_numpy(array: Any) -> np.ndarray:
    """A numpy array over an array in host memory that supports DLPack.

    It shares the memory, except for bfloat16, which numpy does not exchange and which is copied.
    """
    try:
        return np.from_dlpack(array)
    except (BufferError, RuntimeError):
        v = view(array)
        dtype = np.dtype(v.dtype)
        length = sum((n - 1) * s for n, s in zip(v.shape, v.strides, strict=True)) + 1 if 0 not in v.shape else 0
        bytes_there = (ctypes.c_uint8 * (length * dtype.itemsize)).from_address(v.address)
        memory = np.frombuffer(memoryview(bytes_there), dtype)
        return np.lib.stride_tricks.as_strided(memory, v.shape, [s * dtype.itemsize for s in v.strides]).copy()


def _strides(shape: Sequence[int]) -> tuple[int, ...]:
    return tuple(itertools.accumulate(reversed(shape[1:]), lambda a, b: a * b, initial=1))[::-1] if shape else ()


def _dtype(t: _DataType) -> str:
    kinds = {code: kind for kind, code in _KINDS.items()}
    if t.lanes == 1 and t.code == _BFLOAT16 and t.bits == 16:
        return "bfloat16"
    if t.lanes != 1 or t.code not in kinds or t.bits not in (8, 16, 32, 64):
        raise InputError(f"DLPack's dtype {t.code} of {t.bits} bits is not known here")
    return str(np.dtype(f"{kinds[t.code]}{t.bits // 8}"))


def stream_of(array: Any) -> int:
    """The CUDA stream that the library of an array works in at the moment.

    For PyTorch and CuPy it is the current stream, for other libraries the default stream, 0.
    """
    library = type(array).__module__.partition(".")[0]
    if library == "torch":
        return int(sys.modules["torch"].cuda.current_stream(array.device).cuda_stream)
    if library == "cupy":
        return int(sys.modules["cupy"].cuda.get_current_stream().ptr)
    return int(getattr(array, "stream", 0))


# -- exporting ------------------------------------------------------------------------------------------------------


class _Memory:
    """Memory at an address, for numpy to make an array of without reading it.

    numpy keeps this object, and with it ``owner``, alive as long as the array.
    """

    def __init__(self, owner: Any, address: int, shape: Sequence[int], dtype: np.dtype) -> None:
        self.owner = owner
        plain = np.dtype(np.uint16) if dtype == _bfloat16 else dtype
        self.__array_interface__ = {
            "data": (address, False),
            "shape": tuple(shape),
            "typestr": plain.str,
            "version": 3,
        }


def capsule(owner: Any, address: int, shape: Sequence[int], dtype: np.dtype, device: tuple[int, int]) -> Any:
    """A DLPack capsule over memory of a device, which keeps ``owner`` alive.

    The capsule is one that numpy made, with its device changed to the right one. Its destructor is therefore not Python
    code, which would lose an exception that is being raised at that moment.
    """
    made = np.asarray(_Memory(owner, address, shape, dtype)).__dlpack__()
    tensor = ctypes.cast(_pointer(made, _NAME), ctypes.POINTER(_Managed)).contents.tensor
    tensor.device = _Device(*device)
    if dtype == _bfloat16:
        tensor.dtype.code = _BFLOAT16
    return made
