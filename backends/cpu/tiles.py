"""Sizes of register tiles, and of the bands of rows that are shared out to threads."""

from __future__ import annotations

import math
from functools import lru_cache

from convc.ir.layout import round_up

from .machine import SPARE, Machine

LATENCY = 4
"""Accumulators a register tile needs so that its multiply-adds do not wait for each other's results."""
STEP = 2
"""What a register tile takes in each step of a sum besides multiply-adds, in multiply-adds: the load of weights, and
its share of loops and prefetches (7x7 pixels, 512 -> 2048 channels: tiles of 4x7 pixels take 0.9 of the time of 1x7,
though they compute 8 rows, Emerald Rapids).
"""
WEIGHT_LOAD = 0.5
"""The time to load one vector of weights, in multiply-adds. An estimate: no measurement of it alone is recorded."""
WIDENED = 0.95
"""The share of the speed that is left where the input is widened because the tile does not divide the width: widening
costs about a twentieth. An estimate: no measurement of it alone is recorded.
"""
CACHE_PARTS = 2
"""Data counts as resident in the second-level cache when it takes at most one part in this many; the rest is left to
whatever else the kernel touches. An estimate.
"""
MAX_IDLE = 1.15
"""Work is not cut any finer once the slowest thread takes at most this many times the average."""


def idle(pieces: int, threads: int) -> float:
    """The factor by which equal pieces of work take longer on these threads than work that could be cut at will."""
    return -(-pieces // threads) * threads / pieces


@lru_cache(maxsize=4096)
def divisors(number: int) -> tuple[int, ...]:
    """The divisors of a number of at least 1, in order. It may be a size that an untrusted model gives."""
    low = [d for d in range(1, math.isqrt(number) + 1) if number % d == 0]
    return (*low, *(number // d for d in reversed(low) if d * d != number))


@lru_cache(maxsize=4096)
def tile_size(count: int, most: int, side: int = 1) -> int:
    """The number of accumulators along one axis of ``count`` elements, at most ``most``, that wastes least time.

    The tile repeats it ``side`` times, once for each block of outputs. A last tile that is not full takes as long as a
    full one.
    """
    return max(range(1, max(1, most) + 1), key=lambda size: tile_worth(count, size, side))


def tile_worth(count: int, size: int, side: int = 1) -> float:
    """The share of the peak that register tiles of this size reach.

    It accounts for the overhang of the last tile, the latency of the multiply-adds and the loads of weights.
    """
    return count / round_up(count, size) * size * side / (max(size * side, LATENCY) + WEIGHT_LOAD * side)


def bands(rows: int, threads: int) -> int:
    """The number of equal bands that the rows of a plane are cut into, so that each thread works on its own rows.

    It is the smallest number that keeps threads from waiting for each other (``MAX_IDLE``), or one where none does.
    Kernels that all cut planes alike read what the same core wrote. Another core's results take longer to fetch, and
    where the two cores share no cache, longer than computing them again would.
    """
    if threads == 1:
        return 1
    fair = (b for b in divisors(max(rows, 1)) if b > 1 and idle(b, threads) <= MAX_IDLE)
    return next(fair, 1)


@lru_cache(maxsize=4096)
def plane_tile(height: int, width: int, most: int, vectors: int) -> tuple[int, int]:
    """The rows and columns of a register tile of at most ``most`` pixels that takes least time for a plane.

    A pixel has ``vectors`` accumulators.

    The last tile along each axis overlaps the one before it where the tile does not divide the plane. That must save
    some time (``OVERLAP``), since results then lie over no operand. Of tiles that take as long as one another, that
    with the fewest rows reads the longest runs of pixels.
    """

    def time(tile: tuple[int, int]) -> tuple[float, int]:
        whole = height % tile[0] == 0 and width % tile[1] == 0
        count = -(-height // tile[0]) * -(-width // tile[1])
        return count * time_of_tile(tile[0] * tile[1] * vectors) * (1.0 if whole else OVERLAP), tile[0]

    return min(((r, c) for r in range(1, min(height, most) + 1) for c in range(1, min(width, most // r) + 1)), key=time)


OVERLAP = 1.05
"""Tiles that overlap count as slower by this factor. An estimate."""


def time_of_tile(accumulators: int) -> int:
    """The time of a register tile for a step of a sum, in multiply-adds of vectors."""
    return max(accumulators, LATENCY) + STEP


def most_pixels(block: int, machine: Machine, spare: int = SPARE) -> int:
    """The most pixels of a register tile for ``block`` output channels.

    The accumulators take ``block / lanes`` registers a pixel; ``spare`` stay free for the weights and the broadcast
    input (with sixteen registers, LLVM starts to spill past six pixels of two registers each).
    """
    vectors = -(-block // machine.lanes)
    # a step's weights take ``vectors`` registers as well
    return max(1, (machine.registers - max(spare, vectors + 2)) // vectors)


def register_tile(height: int, width: int, block: int, machine: Machine, spare: int = SPARE) -> tuple[int, int]:
    """The rows and columns of pixels in a register tile, for ``block`` output channels.

    A step over one input channel takes as many multiply-adds as there are accumulators, but no less than their latency,
    plus the load of the weights. A tile that does not divide the width wastes its overhang, and the input must be
    widened (``WIDENED``).
    """
    most = most_pixels(block, machine, spare)

    def worth(columns: int) -> float:
        tiles = -(-width // columns)
        share = width / (tiles * columns) * (1.0 if width % columns == 0 else WIDENED)
        return share * columns / (max(columns, LATENCY) + WEIGHT_LOAD)

    columns = max(range(1, most + 1), key=worth)
    rows = max(r for r in range(1, max(1, most // columns) + 1) if height % r == 0)
    return rows, columns
