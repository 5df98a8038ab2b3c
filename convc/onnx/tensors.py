"""Read the values of ONNX tensors, from the model or from a file of external data."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from convc.ir.dtypes import dtype_names, numpy_dtype
from convc.ir.errors import ConvcError, ModelFileError
from convc.ir.onnx_io import dtype_from_onnx

from .wire import Outside

_PACKED = {"i4": 2, "u4": 2, "f4e2m1": 2, "i2": 4, "u2": 4}
"""The number of elements that share a byte, for dtypes of fewer than 8 bits."""


def read_tensor(proto: onnx.TensorProto, outside: Outside) -> np.ndarray:
    """The values of a tensor. ``outside`` holds those that are not in the message.

    Raises ``ModelFileError``, naming the tensor, when its data is damaged or missing, or lies outside the folder once
    links are resolved.
    """
    dtype, shape = _described(proto)
    if proto.data_location == onnx.TensorProto.EXTERNAL:
        return _external(proto, dtype, shape, outside.folder)
    try:
        data = outside.weights.get(proto.raw_data)
        if data is not None and not proto.HasField("segment"):
            return _of_bytes(data, proto.data_type, dtype, shape)
        return np.asarray(numpy_helper.to_array(proto)).reshape(shape)
    except Exception as e:  # a damaged tensor raises whatever numpy does
        raise ModelFileError(
            f"tensor '{proto.name}' is damaged: its data does not fill its shape {list(shape)} of {dtype_names(dtype)}"
        ) from e


def _of_bytes(data: np.ndarray, code: int, dtype: str, shape: tuple[int, ...]) -> np.ndarray:
    """The values of a tensor whose data is given as it lies in a file."""
    if dtype in _PACKED:
        packed = onnx.TensorProto(data_type=code, dims=shape, raw_data=data.tobytes())
        return np.asarray(numpy_helper.to_array(packed))
    return data.view(numpy_dtype(dtype)).reshape(shape)


def check_external(proto: onnx.TensorProto, folder: Path | None) -> None:
    """Raises ``ModelFileError`` when a tensor lies in a file that is missing, too short, or outside the folder."""
    if proto.data_location == onnx.TensorProto.EXTERNAL:
        _external(proto, *_described(proto), folder, read=False)


def _described(proto: onnx.TensorProto) -> tuple[str, tuple[int, ...]]:
    """The dtype and the shape that a tensor says it has."""
    try:
        dtype = dtype_from_onnx(proto.data_type)
    except ConvcError as e:
        e.within(f"tensor '{proto.name}'")
        raise
    shape = tuple(int(d) for d in proto.dims)
    if min(shape, default=0) < 0:
        raise ModelFileError(f"tensor '{proto.name}' has a negative size in its shape {list(shape)}")
    return dtype, shape


def _external(
    proto: onnx.TensorProto, dtype: str, shape: tuple[int, ...], folder: Path | None, read: bool = True
) -> np.ndarray:
    """The values of a tensor in another file, or nothing unless they are to be read."""
    entries = {e.key: e.value for e in proto.external_data}
    where = entries.get("location", "")
    if folder is None:
        raise ModelFileError(
            f"tensor '{proto.name}' is in the external file '{where}': load the model from its path, so that its "
            "folder is known"
        )
    what = f"tensor '{proto.name}': external data '{where}'"
    try:
        path = (folder / where).resolve()
        if not where or not path.is_relative_to(folder):
            raise ModelFileError(f"{what} lies outside the model's folder")
        if not path.is_file():
            raise ModelFileError(f"{what} is missing; it belongs at '{path}', beside the model")
        count, offset, size = math.prod(shape), int(entries.get("offset", 0)), path.stat().st_size
        together = _PACKED.get(dtype, 1)
        stored = -(-count // together) if together > 1 else count * numpy_dtype(dtype).itemsize
        if offset < 0 or offset + stored > size:
            raise ModelFileError(f"{what} is too short: {size} bytes, not {offset + stored}")
        if not read:
            return np.zeros(0, numpy_dtype(dtype))
        if together == 1:
            return np.fromfile(path, numpy_dtype(dtype), count, offset=offset).reshape(shape)
        return _of_bytes(np.fromfile(path, np.uint8, stored, offset=offset), proto.data_type, dtype, shape)
    except OSError as e:
        raise ModelFileError(f"{what} cannot be read: {e.strerror or e}") from None
    except (ValueError, RuntimeError, OverflowError) as e:
        raise ModelFileError(f"{what} cannot be read: its place or length in the model is malformed") from e
