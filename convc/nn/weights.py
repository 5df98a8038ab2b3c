"""Weights in .npz and .safetensors files: arrays by the names of parameters."""

from __future__ import annotations

import importlib
import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from convc.ir.dtypes import dtype_of, numpy_dtype
from convc.ir.errors import ConvcError, GraphError, ModelFileError
from convc.ir.limits import guarded

from ..files import read_npz
from ..runtime.files import write_aside

SUFFIXES = (".npz", ".safetensors")


def as_array(name: str, value: Any) -> np.ndarray:
    """The values for a parameter, from numpy, torch, or nested lists.

    Raises ``GraphError`` when they are no numbers.
    """
    try:
        array = np.asarray(value)
        dtype_of(array)
    except (
        TypeError,
        ValueError,
        RuntimeError,
        ConvcError,
    ) as e:  # RuntimeError: a torch tensor that needs its gradient
        raise GraphError(f"the weights for '{name}' cannot be read as an array of numbers: {e}") from None
    return array


def read_weights(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """The arrays in a file, by name. Raises ``ModelFileError`` when it is missing, damaged, or of another kind."""
    read = read_npz if _suffix(path) == ".npz" else _read_safetensors
    try:
        data = Path(path).read_bytes()
    except OSError as e:
        raise ModelFileError(f"cannot read '{path}': {e.strerror or e}") from None
    try:
        with guarded():
            return {name: as_array(name, array) for name, array in read(data).items()}
    except ConvcError as e:
        e.within(f"'{path}'")
        raise
    except Exception as e:  # zip, numpy and safetensors each raise errors of their own for a damaged file
        raise ModelFileError(f"'{path}' is damaged or no {_suffix(path)} file: {e}") from None


def write_weights(path: str | os.PathLike[str], weights: Mapping[str, np.ndarray]) -> None:
    """Write arrays by name, the file whole or not at all.

    An .npz, which knows no bfloat16, holds such arrays as float32.

    Raises ``ModelFileError`` when the file cannot be written.
    """
    pack = _npz if _suffix(path) == ".npz" else _safetensors
    data = pack({name: np.asarray(array, order="C") for name, array in weights.items()})
    try:
        write_aside(path, data)
    except OSError as e:
        raise ModelFileError(f"cannot write '{path}': {e.strerror or e}") from None


def _suffix(path: str | os.PathLike[str]) -> str:
    suffix = Path(path).suffix
    if suffix not in SUFFIXES:
        raise ModelFileError(f"'{path}': a file of weights is named {' or '.join('*' + s for s in SUFFIXES)}")
    return suffix


def _npz(weights: Mapping[str, np.ndarray]) -> bytes:
    buffer = io.BytesIO()
    arrays: dict[str, Any] = {n: a.astype(np.float32) if dtype_of(a) == "bf16" else a for n, a in weights.items()}
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def _read_safetensors(data: bytes) -> dict[str, np.ndarray]:
    return {
        name: np.frombuffer(t["data"], numpy_dtype(t["dtype"].lower())).reshape(t["shape"])
        for name, t in _package("safetensors").deserialize(data)
    }


def _safetensors(weights: Mapping[str, np.ndarray]) -> bytes:
    data: bytes = _package("safetensors.numpy").save(dict(weights))
    return data


def _package(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        raise ModelFileError(
            "files of .safetensors need the safetensors package: pip install safetensors; or use .npz"
        ) from None
