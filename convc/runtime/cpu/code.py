"""Loading machine code from memory."""

from __future__ import annotations

import itertools
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import tvm_ffi

_load_library = tvm_ffi.get_global_func("ffi.Module.load_from_file.so")  # whatever the file is called


_loaded = itertools.count()


def load_code(code: bytes | memoryview) -> Any:
    """The module in a shared library that lies in memory.

    It is given to the dynamic loader under a name of its own: the loader takes a file whose name it has loaded before for the
    one it knows, and a saved model may have been replaced since.
    """
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("convc", os.MFD_CLOEXEC)
        try:
            _write(descriptor, code)
            way = "".join("/./" if bit == "1" else "//" for bit in f"{next(_loaded):b}")  # all of them lead there
            return _load_library(f"/proc/self/fd{way}{descriptor}", "so")
        finally:
            os.close(descriptor)
    with tempfile.TemporaryDirectory(prefix="convc-") as folder:
        library = Path(folder) / f"model{'.dll' if sys.platform == 'win32' else '.so'}"
        library.write_bytes(code)
        return _load_library(str(library), "so")


def _write(descriptor: int, data: bytes | memoryview) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]
