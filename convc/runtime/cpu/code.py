"""Machine code: the C functions of a shared library that lies in memory."""

from __future__ import annotations

import _ctypes
import ctypes
import itertools
import os
import sys
import tempfile
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

MAIN = "convc_main"
"""The function that runs the network."""
LOAD = "convc_load_"
"""What the names of functions begin with that run one kernel on weights."""

Function = Callable[[int, int], Any]
"""A function of the code: it takes the addresses of its arguments and of a context."""
SIGNATURE = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_int64, ctypes.c_int64)
"""The C type of such a function. Python's lock is released while it runs."""


class Code(Protocol):
    """Machine code for this processor. Its functions may be called as long as it lives."""

    def function(self, name: str) -> Function:
        """The function of this name; raises ``LookupError`` when there is none."""

    def address(self, name: str) -> int:
        """Where a function of any type lies; raises ``LookupError`` when there is none."""


class Library:
    """A shared library that was loaded; it is closed when nothing refers to it any more."""

    def __init__(self, code: bytes | memoryview) -> None:
        """Load a library from its bytes; raises ``OSError`` when the dynamic loader refuses them."""
        self._library = _load(code)
        self._close = weakref.finalize(self, _ctypes.dlclose, self._library._handle)
        self._close.atexit = False  # threads may still run its code

    def function(self, name: str) -> Function:
        return SIGNATURE(self.address(name))

    def address(self, name: str) -> int:
        try:
            return int(ctypes.cast(self._library[name], ctypes.c_void_p).value or 0)
        except AttributeError:
            raise LookupError(f"the code has no function '{name}'") from None


_loads = itertools.count()


def _load(code: bytes | memoryview) -> ctypes.CDLL:
    """The library in memory.

    The dynamic loader is given a name that it has not seen: it takes a file whose name it has loaded before for the one it
    knows, and a saved model may have been replaced since.
    """
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("convc", os.MFD_CLOEXEC)
        try:
            _write(descriptor, code)
            way = "".join("/./" if bit == "1" else "//" for bit in f"{next(_loads):b}")  # every spelling leads there
            return ctypes.CDLL(f"/proc/self/fd{way}{descriptor}")
        finally:
            os.close(descriptor)
    with tempfile.TemporaryDirectory(prefix="convc-") as folder:
        library = Path(folder) / f"model{'.dylib' if sys.platform == 'darwin' else '.so'}"
        library.write_bytes(code)
        return ctypes.CDLL(str(library))


def _write(descriptor: int, data: bytes | memoryview) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]
