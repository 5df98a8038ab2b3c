"""Memory planning at compile time: the offset of each tensor in one piece of memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

ALIGNMENT = 64
"""Tensors begin at multiples of this many bytes: a cache line, and the widest vector."""


@dataclass(frozen=True)
class Lifetime:
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
    offsets = [0] * len(lifetimes)
    placed = np.zeros((4, 0), np.int64)  # the beginning, the end, and the steps of each, in the order of the beginnings
    for i in sorted(range(len(lifetimes)), key=lambda i: (-lifetimes[i].nbytes, i)):
        t = lifetimes[i]
        begin, end = placed[:2, (placed[2] <= t.last) & (placed[3] >= t.first)]
        free = np.concatenate([[0], np.maximum.accumulate(end)])  # where each gap begins; the last has no end
        gaps = begin - free[:-1]
        fitting = np.flatnonzero(gaps >= t.nbytes)
        offsets[i] = int(free[fitting[np.argmin(gaps[fitting])]] if len(fitting) else free[-1])
        column = [offsets[i], aligned(offsets[i] + t.nbytes), t.first, t.last]
        placed = np.insert(placed, np.searchsorted(placed[0], offsets[i], "right"), column, axis=1)
    return offsets, max((o + t.nbytes for o, t in zip(offsets, lifetimes, strict=True)), default=0)


def aligned(offset: Any) -> Any:
    """The next multiple of ``ALIGNMENT``."""
    return -(-offset // ALIGNMENT) * ALIGNMENT
