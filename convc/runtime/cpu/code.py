"""Machine code for this processor: the C functions of a shared library."""

from __future__ import annotations

import _ctypes
import ctypes
import itertools
import os
import sys
import weakref
from collections.abc import Callable
from typing import Any, Protocol

from ..files import temporary_folder

RUN = "convc_run"
"""The name of the function that runs the calls of a network (``backends/cpu/program.c``)."""

Function = Callable[[int, int], Any]
"""A function of the code, which takes the addresses of its arguments and of a context (``backends/cpu/abi.py``)."""
SIGNATURE = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_int64, ctypes.c_int64)
"""The C type of a ``Function``. The GIL is released while it runs."""


class Code(Protocol):
    """Machine code that this processor can run. Its functions may be called as long as the object lives."""

    def function(self, name: str) -> Function:
        """The function of this name. Raises ``LookupError`` when there is none."""

    def address(self, name: str) -> int:
        """The address of the function of this name, whose type may be any.

        Raises ``LookupError`` when there is none.
        """


class Library:
    """A loaded shared library, which is closed when nothing refers to it any more."""

    def __init__(self, code: bytes | memoryview) -> None:
        """Load the bytes of a shared library. Raises ``OSError`` when the dynamic loader refuses them."""
        self._library = _load(code)
        self._close = weakref.finalize(self, _ctypes.dlclose, self._library._handle)
        self._close.atexit = False  # threads may still run its code at exit

    def function(self, name: str) -> Function:
        return SIGNATURE(self.address(name))

    def address(self, name: str) -> int:
        try:
            return int(ctypes.cast(self._library[name], ctypes.c_void_p).value or 0)
        except AttributeError:
            raise LookupError(f"the code has no function '{name}'") from None


_loads = itertools.count()


def _load(code: bytes | memoryview) -> ctypes.CDLL:
    """Load the bytes of a shared library.

    The dynamic loader is given a path that it has not seen before: when it knows a path, it returns the library that it
    has, although a saved model may have been replaced since.
    """
    descriptor = _memory_file()
    if descriptor is not None:
        try:
            _write(descriptor, code)
            way = "".join("/./" if bit == "1" else "//" for bit in f"{next(_loads):b}")  # all name the same file
            return ctypes.CDLL(f"/proc/self/fd{way}{descriptor}")
        finally:
            os.close(descriptor)
    with temporary_folder() as folder:
        library = folder / f"model{'.dylib' if sys.platform == 'darwin' else '.so'}"
        library.write_bytes(code)
        try:
            return ctypes.CDLL(str(library))
        except OSError as e:
            raise OSError(f"{e}. It must lie in a folder whose files may be executed: set TMPDIR to one") from None


def _memory_file() -> int | None:
    """An open file that lies in memory, or ``None`` where the system has none or refuses one."""
    try:
        return os.memfd_create("convc", os.MFD_CLOEXEC)
    except (AttributeError, OSError):
        return None


def _write(descriptor: int, data: bytes | memoryview) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]
