"""The memory that machine code uses: how it is planned, and how it is allocated."""

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
    """One step of packing the weights at load: a kernel runs, or a weight is copied.

    An input is the name of a weight, or an offset in the packed weights. Outputs and ``scratch`` are offsets too. When
    ``kernel`` is empty, the one input, a weight, is copied to the one output.
    """

    kernel: str
    inputs: tuple[str | int, ...]
    outputs: tuple[int, ...]
    scratch: int = 0


@dataclass(frozen=True)
class Plan:
    """The memory that a program needs, and how its weights are packed.

    All sizes are in bytes. ``workspace`` is what each calling thread needs. ``packed`` is the size of the packed
    weights, and ``loading`` that size plus what only loading needs, behind them. ``steps`` pack the weights. ``part``
    is what each thread needs while it works on a parallel loop. ``parallel`` tells whether the code has parallel loops.
    """

    workspace: int
    packed: int
    loading: int
    steps: tuple[Step, ...]
    part: int = 0
    parallel: bool = True

    @staticmethod
    def of(raw: Mapping[str, Any]) -> Plan:
        """A plan from its JSON.

        Raises ``LookupError``, ``TypeError``, ``ValueError`` or ``AttributeError`` when the JSON is damaged.
        """
        lists = [s | {key: tuple(s[key]) for key in ("inputs", "outputs")} for s in raw["steps"]]
        return Plan(**(dict(raw) | {"steps": tuple(Step(**s) for s in lists)}))


class Arena:
    """Zeroed memory that is aligned to huge pages, and consists of them where the system allows it.

    Raises ``ConvcError`` when there is not enough memory.
    """

    def __init__(self, nbytes: int) -> None:
        try:
            self._map = mmap.mmap(-1, nbytes + HUGE_PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        except (OSError, OverflowError, ValueError) as e:
            raise ConvcError(f"the model needs {nbytes} bytes of memory, which there are not: {e}") from None
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
