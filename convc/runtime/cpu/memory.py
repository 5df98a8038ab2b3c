"""The memory that machine code runs in: the plan of it, and the pages themselves."""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from convc.ir.errors import ConvcError

HUGE_PAGE = 2 << 20


@dataclass(frozen=True)
class Step:
    """One step at load: a kernel that runs on weights, by name, or on what lies at an offset in the packed weights.

    Without a kernel, one weight is copied to where it is read.
    """

    kernel: str
    inputs: tuple[str | int, ...]
    outputs: tuple[int, ...]
    scratch: int = 0


@dataclass(frozen=True)
class Plan:
    """The memory that a program needs: bytes of workspace for a call, bytes of packed weights, what loading takes
    (the packed weights, and behind them what is only needed on the way), how weights come to be packed, the bytes that each
    thread needs while it works on a parallel loop, and whether any of the code has parallel loops.
    """

    workspace: int
    packed: int
    loading: int
    steps: tuple[Step, ...]
    part: int = 0
    parallel: bool = True

    @staticmethod
    def of(raw: Mapping[str, Any]) -> Plan:
        """A plan from what JSON keeps of it; raises what a damaged one raises."""
        lists = [s | {key: tuple(s[key]) for key in ("inputs", "outputs")} for s in raw["steps"]]
        return Plan(**(dict(raw) | {"steps": tuple(Step(**s) for s in lists)}))


class Arena:
    """Memory that holds zeros at first, aligned to a huge page, and made of them where the system lets us.

    Raises ``ConvcError`` when there is not as much.
    """

    def __init__(self, nbytes: int) -> None:
        try:
            self._map = mmap.mmap(-1, nbytes + HUGE_PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        except (OSError, OverflowError, ValueError) as e:
            raise ConvcError(f"the model needs {nbytes} bytes of memory, which there are not: {e}") from None
        memory = np.frombuffer(self._map, np.uint8)
        self._start = -memory.ctypes.data % HUGE_PAGE
        self.address: int = memory.ctypes.data + self._start
        whole = (
            nbytes // HUGE_PAGE * HUGE_PAGE
        )  # what is left stays in small pages: none is there that nobody asked for
        if whole and hasattr(mmap, "MADV_HUGEPAGE"):
            self._map.madvise(mmap.MADV_HUGEPAGE, self._start, whole)

    def release(self, offset: int) -> None:
        """Give the pages from ``offset`` on back to the system; they hold zeros when they are used again."""
        begin = -(-(self._start + offset) // mmap.PAGESIZE) * mmap.PAGESIZE
        if begin < len(self._map) and hasattr(mmap, "MADV_DONTNEED"):
            self._map.madvise(mmap.MADV_DONTNEED, begin)


def address_of(array: np.ndarray) -> int:
    """Where a contiguous array's data lies."""
    try:
        return ctypes.addressof(ctypes.c_char.from_buffer(array.data))  # fast, where writing is allowed
    except (TypeError, ValueError):
        return int(array.ctypes.data)
