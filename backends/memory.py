"""Memory planning at compile time: the offset of each tensor in one piece of memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

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
    placed: list[int] = []
    for i in sorted(range(len(lifetimes)), key=lambda i: (-lifetimes[i].nbytes, i)):
        size = lifetimes[i].nbytes
        best: tuple[int, int] | None = None
        end = 0
        for j in sorted((j for j in placed if lifetimes[j].overlaps(lifetimes[i])), key=lambda j: offsets[j]):
            gap = offsets[j] - end
            if size <= gap and (best is None or gap < best[0]):
                best = (gap, end)
            end = max(end, aligned(offsets[j] + lifetimes[j].nbytes))
        offsets[i] = end if best is None else best[1]
        placed.append(i)
    return offsets, max((o + t.nbytes for o, t in zip(offsets, lifetimes, strict=True)), default=0)


def aligned(offset: int) -> int:
    """The next multiple of ``ALIGNMENT``."""
    return -(-offset // ALIGNMENT) * ALIGNMENT
