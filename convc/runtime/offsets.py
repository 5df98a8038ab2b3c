"""Memory planning: the offset of each tensor in one piece of memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

ALIGNMENT = 64
"""Tensors begin at multiples of this many bytes: a cache line, and the widest vector."""

MAX_ELEMENTS = (1 << 31) - 1
"""Most elements of a tensor, since generated code indexes tensors with 32-bit integers."""


class Lifetime(NamedTuple):
    """A tensor of ``nbytes`` that is live from step ``first`` to step ``last``, both included."""

    nbytes: int
    first: int
    last: int

    def overlaps(self, other: Lifetime) -> bool:
        """Whether both are live at some step."""
        return self.first <= other.last and other.first <= self.last


def assign_offsets(lifetimes: Sequence[Lifetime]) -> tuple[list[int], int]:
    """An offset for each tensor such that no two live at the same time share a byte, and the total size in bytes.

    Tensors are placed largest first, each into the tightest gap that those placed before leave: "Greedy by Size for
    Offset Calculation", Pisarchyk and Lee, "Efficient Memory Management for Deep Neural Net Inference" (2020).
    """
    offsets, size = [0] * len(lifetimes), 0
    some = [i for i, t in enumerate(lifetimes) if t.nbytes]
    room = np.zeros((4, len(some)), np.int64)  # the beginning, the end, and the steps of each placed, by the beginnings
    for count, i in enumerate(sorted(some, key=lambda i: -lifetimes[i].nbytes)):
        nbytes, first, last = lifetimes[i]
        placed = room[:, :count]
        begin, end = placed[:2, (placed[2] <= last) & (placed[3] >= first)]
        offset = _tightest(begin, end, nbytes)
        at = int(placed[0].searchsorted(offset, "right"))
        room[:, at + 1 : count + 1] = room[:, at:count]
        room[:, at] = offset, aligned(offset + nbytes), first, last
        offsets[i], size = offset, max(size, offset + nbytes)
    return offsets, size


def _tightest(begin: np.ndarray, end: np.ndarray, nbytes: int) -> int:
    """The beginning of the smallest gap of ``nbytes`` between spans in order, which may overlap, or the last end."""
    if not len(begin):
        return 0
    free = np.maximum.accumulate(end)  # where the gap after each span begins; the last has no end
    gaps = begin.copy()
    gaps[1:] -= free[:-1]
    fitting = (gaps >= nbytes).nonzero()[0]
    if not len(fitting):
        return int(free[-1])
    tightest = int(fitting[gaps[fitting].argmin()])
    return int(free[tightest - 1]) if tightest else 0


def aligned(offset: Any) -> Any:
    """The next multiple of ``ALIGNMENT``, for an integer or an open size."""
    return -(-offset // ALIGNMENT) * ALIGNMENT
