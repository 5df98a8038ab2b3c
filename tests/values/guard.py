"""Memory whose borders are watched: pages that cannot be accessed lie on both sides of it."""

from __future__ import annotations

import ctypes
import mmap

import numpy as np

PAGE = mmap.PAGESIZE
POISON = (0xFF, 0x41)
"""Bytes that surround arrays: as floats NaN and 12.08, as integers -1 and a large number."""
_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBC.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]


class Guarded:
    """Room for ``nbytes`` bytes that ends, or begins, at a page whose access ends the process.

    The page that the room only fills partly holds poison around it.
    """

    def __init__(self, nbytes: int, at_end: bool, poison: int) -> None:
        inner = max(1, -(-nbytes // PAGE)) * PAGE
        self._map = mmap.mmap(-1, inner + 2 * PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        memory = np.frombuffer(self._map, np.uint8)
        base = memory.ctypes.data
        for page in (base, base + PAGE + inner):
            if _LIBC.mprotect(page, PAGE, 0):
                raise OSError(ctypes.get_errno(), "mprotect failed")
        start = PAGE + (inner - nbytes if at_end else 0)
        self.address = base + start
        self.bytes = memory[start : start + nbytes]
        """The room itself."""
        self._poison = poison
        self._around = memory[PAGE:start] if at_end else memory[start + nbytes : PAGE + inner]
        self._around[:] = poison

    def fill(self) -> None:
        """Fill the room with poison."""
        self.bytes[:] = self._poison

    def intact(self) -> bool:
        """Whether the poison around the room is as it was."""
        return bool((self._around == self._poison).all())
