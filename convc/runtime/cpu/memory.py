"""The memory that machine code uses."""

from __future__ import annotations

import ctypes
import mmap

import numpy as np

from convc.ir.errors import ConvcError

HUGE_PAGE = 2 << 20


class Arena:
    """Zeroed memory that is aligned to huge pages, and consists of them where the system allows it.

    Raises ``ConvcError`` when there is not enough memory.
    """

    def __init__(self, nbytes: int) -> None:
        try:
            self._map = mmap.mmap(-1, nbytes + HUGE_PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        except (OSError, OverflowError, ValueError) as e:
            raise ConvcError(f"the model needs {nbytes} bytes of memory, which there are not: {e}") from None
        self.nbytes = nbytes
        """The bytes that may be used."""
        memory = np.frombuffer(self._map, np.uint8)
        self._start = -memory.ctypes.data % HUGE_PAGE
        self.address: int = memory.ctypes.data + self._start
        # The rest stays in small pages, so that no huge page is allocated for a fraction of its size.
        whole = nbytes // HUGE_PAGE * HUGE_PAGE
        if whole and hasattr(mmap, "MADV_HUGEPAGE"):
            self._map.madvise(mmap.MADV_HUGEPAGE, self._start, whole)

    def release(self, offset: int) -> None:
        """Give the pages behind ``offset`` back to the system. They hold zeros when they are used again."""
        begin = -(-(self._start + offset) // mmap.PAGESIZE) * mmap.PAGESIZE
        if begin < len(self._map) and hasattr(mmap, "MADV_DONTNEED"):
            self._map.madvise(mmap.MADV_DONTNEED, begin)


def address_of(array: np.ndarray) -> int:
    """The address of the data of a contiguous array."""
    try:
        return ctypes.addressof(ctypes.c_char.from_buffer(array.data))  # faster, but fails for read-only arrays
    except (TypeError, ValueError):
        return int(array.ctypes.data)
