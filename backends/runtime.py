"""Running machine code: one Relax virtual machine a calling thread, tensors in and out by DLPack."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tvm
import tvm_ffi
from tvm import relax

ALIGNMENT = 64
"""Generated code assumes its arguments aligned to this many bytes."""


class Program:
    """A loaded executable with its weights packed. Safe to call from several threads."""

    def __init__(self, executable: Any, weights: Sequence[np.ndarray], threads: int) -> None:
        self._executable = executable
        self._threads = threads
        self._local = threading.local()
        configure_threads(threads)
        vm = relax.VirtualMachine(executable, tvm.cpu())
        self._packed = vm["pack"]([to_tensor(w) for w in weights])
        self._local.main = vm["main"]

    def __call__(self, *inputs: Any) -> list[np.ndarray]:
        """Run on arrays, or tensors as ``to_tensor`` makes them, of the right shapes and dtypes."""
        main = getattr(self._local, "main", None)
        if main is None:
            main = self._local.main = relax.VirtualMachine(self._executable, tvm.cpu())["main"]
        configure_threads(self._threads)
        tensors = [self._staged(i, x) if isinstance(x, np.ndarray) else x for i, x in enumerate(inputs)]
        return [_to_numpy(t) for t in main(*tensors, self._packed)]

    def _staged(self, index: int, array: np.ndarray) -> Any:
        """The array as a tensor; one that machine code cannot read in place is copied to memory kept for that, which is
        many times faster for a small input than making a tensor.
        """
        if is_readable(array) or array.dtype.kind == "V" or not array.size:
            return to_tensor(array)
        staging: dict[int, tuple[np.ndarray, Any]] = self._local.__dict__.setdefault("staging", {})
        if index not in staging:
            tensor = tvm.runtime.empty(array.shape, str(array.dtype))
            staging[index] = (np.from_dlpack(tensor), tensor)
        view, tensor = staging[index]
        np.copyto(view, array)
        return tensor


_configured = threading.local()
_config_threadpool = tvm_ffi.get_global_func("runtime.config_threadpool")
_SHARE_ALL_CORES = -3
_load_library = tvm_ffi.get_global_func("ffi.Module.load_from_file.so")  # whatever the file is called


def configure_threads(threads: int) -> None:
    """Make the calling thread's pool use this many threads. The pool is TVM's, one a calling thread."""
    if getattr(_configured, "threads", None) != threads:
        _config_threadpool(_SHARE_ALL_CORES, threads)
        _configured.threads = threads


def is_readable(array: np.ndarray) -> bool:
    """Whether machine code can read a numpy array in place: contiguous, aligned, and not read-only, which DLPack cannot say."""
    flags = array.flags
    return bool(flags.c_contiguous and flags.writeable and array.__array_interface__["data"][0] % ALIGNMENT == 0)


def to_tensor(array: Any) -> Any:
    """A TVM tensor over the memory of anything with DLPack; a copy where that memory is read-only or not aligned."""
    if isinstance(array, np.ndarray) and not array.size:
        return tvm.runtime.empty(array.shape, str(array.dtype))  # numpy's strides of an empty array are not TVM's
    if isinstance(array, np.ndarray) and (not is_readable(array) or array.dtype.kind == "V"):  # bfloat16 has no DLPack
        return tvm.runtime.tensor(np.ascontiguousarray(array).reshape(array.shape))
    try:
        return tvm_ffi.from_dlpack(array, require_alignment=ALIGNMENT, require_contiguous=True)
    except RuntimeError:  # not aligned, or not contiguous
        return tvm.runtime.tensor(np.ascontiguousarray(np.from_dlpack(array)))


def _to_numpy(tensor: Any) -> np.ndarray:
    return (
        tensor.numpy() if str(tensor.dtype) == "bfloat16" else np.from_dlpack(tensor)
    )  # numpy's DLPack has no bfloat16


def load_executable(path: Path) -> Any:
    """The executable in a shared library."""
    return _load_library(str(path), "so")
